//! A check by `grpc.health.v1.Health/Check`, over cleartext HTTP/2 with prior knowledge. Makes one call and leaves nothing
//! behind; never says who is picked.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Uri, header, uri};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use witgate_core::config::GrpcProbe;

use super::{AGENT, Complaint};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// What stands before a message: whether it is compressed, and its length in four bytes (gRPC over HTTP/2).
const PREFIX: usize = 5;
/// Bytes of an answer, which has one number to say.
const LONGEST: usize = 4 << 10;
/// Bytes of an answer's header fields, and of its trailers.
const LONGEST_HEAD: u32 = 16 << 10;
/// Bytes of `grpc-message` that are repeated.
const SHOWN: usize = 200;
/// `grpc-timeout` has at most eight digits.
const LONGEST_TIMEOUT: u128 = 99_999_999;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// The words of [status codes](https://grpc.io/docs/guides/status-codes/), from 0 on.
const CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid-argument",
    "deadline-exceeded",
    "not-found",
    "already-exists",
    "permission-denied",
    "resource-exhausted",
    "failed-precondition",
    "aborted",
    "out-of-range",
    "unimplemented",
    "internal",
    "unavailable",
    "data-loss",
    "unauthenticated",
];

/// Asks once. `within` is told to the server, and is for the caller to keep.
pub(super) async fn check(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (scheme, authority): (uri::Scheme, &str),
    probe: &GrpcProbe,
    within: Duration,
) -> Result<(), Complaint> {
    let mut client = h2::client::Builder::new();
    client.enable_push(false).max_header_list_size(LONGEST_HEAD);
    let (sender, connection) = client.handshake(stream).await?;
    let request = request(scheme, probe.authority.as_deref().unwrap_or(authority), within)?;
    let question = enveloped(&Question { service: probe.service.clone() });
    // Dropped with the connection when there is an answer.
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(ask(sender, request, question));
    tokio::select! {
        biased;
        answer = &mut asked => answer,
        // It ends when the endpoint closes it, after which what was read is still to be looked at.
        _ = &mut connection => asked.await,
    }
}

fn request(scheme: uri::Scheme, authority: &str, within: Duration) -> Result<Request<()>, http::Error> {
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(METHOD).build()?;
    Request::post(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, AGENT)
        .header("grpc-timeout", format!("{}m", within.as_millis().clamp(1, LONGEST_TIMEOUT)))
        .body(())
}

async fn ask(sender: h2::client::SendRequest<Bytes>, request: Request<()>, question: Bytes) -> Result<(), Complaint> {
    let (response, mut sending) = sender.ready().await?.send_request(request, false)?;
    sending.send_data(question, true)?;
    let (head, mut body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Complaint::Status(head.status, vec![200..=200]));
    }
    // An error may come without a body, and then its code is in the head.
    if head.headers.contains_key("grpc-status") {
        succeeded(&head.headers)?;
    }
    let mut seen = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        if seen.len() + data.len() > LONGEST {
            return Err(Complaint::Malformed("it is too long"));
        }
        body.flow_control().release_capacity(data.len())?;
        seen.extend_from_slice(&data);
    }
    succeeded(&body.trailers().await?.unwrap_or_default())?;
    let answer = Answer::decode(message(&seen)?).map_err(|_| Complaint::Malformed("it is no HealthCheckResponse"))?;
    match ServingStatus::try_from(answer.status) {
        Ok(ServingStatus::Serving) => Ok(()),
        Ok(other) => Err(Complaint::Serving(other.word())),
        Err(_) => Err(Complaint::Malformed("its status is none of HealthCheckResponse")),
    }
}

impl ServingStatus {
    /// As the protocol spells it.
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

fn enveloped(question: &Question) -> Bytes {
    let body = question.encode_to_vec();
    let mut whole = BytesMut::with_capacity(PREFIX + body.len());
    whole.put_u8(0);
    // A service's name is at most 4 KiB.
    whole.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    whole.put_slice(&body);
    whole.freeze()
}

/// The one message that was sent.
fn message(seen: &[u8]) -> Result<&[u8], Complaint> {
    let Some((prefix, body)) = seen.split_first_chunk::<PREFIX>() else {
        return Err(Complaint::Malformed("it has no message"));
    };
    let [compressed, a, b, c, d] = *prefix;
    if compressed != 0 {
        return Err(Complaint::Malformed("it is compressed, which was not offered"));
    }
    match usize::try_from(u32::from_be_bytes([a, b, c, d])) {
        Ok(length) if length == body.len() => Ok(body),
        _ => Err(Complaint::Malformed("its length is not that of one message")),
    }
}

/// Whether a call succeeded that ended with these.
fn succeeded(fields: &HeaderMap) -> Result<(), Complaint> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else { return Err(Complaint::Missing("grpc-status".to_owned())) };
    if code == "0" {
        return Ok(());
    }
    let known = code.parse().ok().and_then(|code: usize| CODES.get(code));
    let word = known.map(|word| format!(" {word}")).unwrap_or_default();
    let said = text("grpc-message").filter(|said| !said.is_empty());
    let said = said.map(|said| format!(": {}", said.get(..SHOWN).unwrap_or(said))).unwrap_or_default();
    let code = code.get(..SHOWN).unwrap_or(code);
    Err(Complaint::Grpc(format!("{code}{word}{said}")))
}
