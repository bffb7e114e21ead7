//! A check by a request, over whichever HTTP the endpoint speaks. Makes one request and leaves nothing behind.

use std::{future::Future, ops::RangeInclusive, pin::pin};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, Version, header, uri::Scheme};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use witgate_core::config::HttpProbe;

use super::{AGENT, Complaint, LOOK_THROUGH, contains};

/// Bytes of an answer's header fields.
const LONGEST_HEAD: u32 = 64 << 10;

/// Asks over HTTP/1.1.
pub(super) async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    authority: &str,
    probe: &HttpProbe,
) -> Result<(), Complaint> {
    let request = request(probe)
        .uri(&probe.path)
        .header(header::HOST, probe.host.as_deref().unwrap_or(authority))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let Some(mut looking) = Looking::at(response.status(), probe)? else { return Ok(()) };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if looking.found(&data) {
                return Ok(());
            }
        }
        Err(looking.complaint())
    };
    driven(connection, asked).await
}

/// Asks over HTTP/2.
pub(super) async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    (scheme, authority): (Scheme, &str),
    probe: &HttpProbe,
) -> Result<(), Complaint> {
    let host = probe.host.as_deref().unwrap_or(authority);
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(&*probe.path).build()?;
    let request = request(probe).version(Version::HTTP_2).uri(uri).body(())?;
    let mut client = h2::client::Builder::new();
    client.enable_push(false).max_header_list_size(LONGEST_HEAD);
    let (sender, connection) = client.handshake::<_, Bytes>(stream).await?;
    let asked = async {
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        let (head, mut body) = response.await?.into_parts();
        let Some(mut looking) = Looking::at(head.status, probe)? else { return Ok(()) };
        while let Some(data) = body.data().await {
            let data = data?;
            if looking.found(&data) {
                return Ok(());
            }
            body.flow_control().release_capacity(data.len())?;
        }
        Err(looking.complaint())
    };
    driven(connection, asked).await
}

fn request(probe: &HttpProbe) -> http::request::Builder {
    Request::builder().method(&probe.method).header(header::USER_AGENT, AGENT).header(header::ACCEPT, "*/*")
}

/// Waits for the answer. The connection is dropped with it: nothing is left behind.
async fn driven<E>(
    connection: impl Future<Output = Result<(), E>>,
    asked: impl Future<Output = Result<(), Complaint>>,
) -> Result<(), Complaint> {
    let (mut connection, mut asked) = (pin!(connection), pin!(asked));
    tokio::select! {
        biased;
        answer = &mut asked => answer,
        // It ends when the endpoint closes it, after which what was read is still to be looked at.
        _ = &mut connection => asked.await,
    }
}

/// An answer that is looked through for a text.
struct Looking<'p> {
    expected: &'p str,
    seen: Vec<u8>,
}

impl<'p> Looking<'p> {
    /// None where the status is enough.
    fn at(status: StatusCode, probe: &'p HttpProbe) -> Result<Option<Self>, Complaint> {
        let among = |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|range| range.contains(&status.as_u16()));
        if among(&probe.drain) {
            return Err(Complaint::Leaving(status));
        }
        if !among(&probe.expect) {
            return Err(Complaint::Status(status, probe.expect.clone()));
        }
        Ok(probe.expect_body.as_deref().map(|expected| Self { expected, seen: Vec::new() }))
    }

    /// Whether it is in what has come so far; what comes late is not kept.
    fn found(&mut self, data: &[u8]) -> bool {
        let room = LOOK_THROUGH.saturating_sub(self.seen.len()).min(data.len());
        self.seen.extend_from_slice(&data[..room]);
        room > 0 && contains(&self.seen, self.expected)
    }

    fn complaint(self) -> Complaint {
        Complaint::Missing(self.expected.to_owned())
    }
}
