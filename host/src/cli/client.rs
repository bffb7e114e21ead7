//! A small client of the admin API: one connection a call, everything blocking, JSON in and out. It says what a person
//! would have to do next where the proxy cannot be reached or refuses.

use std::{
    convert::Infallible,
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    runtime::{Builder, LocalOptions, LocalRuntime},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Failed, Outcome, secure,
    target::{Address, Connect, Target},
};

/// Time to reach the admin API.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for an answer, or for the next part of one. Compiling a large module takes seconds.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of a body that are handed on at once: small enough for a bar that moves.
const CHUNK: usize = 32 << 10;

/// A client of one proxy's admin API.
pub(super) struct Client {
    target: Target,
    /// None: without TLS.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    runtime: LocalRuntime,
}

/// Hears how an upload goes.
pub(super) struct Progress {
    /// Bytes handed to the connection so far.
    pub(super) sent: Rc<dyn Fn(u64)>,
    /// A stage began.
    pub(super) stage: Rc<dyn Fn(&str)>,
}

impl Client {
    /// A client of the proxy that the arguments or the environment name. Connects with the first call.
    pub(super) fn open(connect: &Connect) -> Outcome<Self> {
        Self::new(connect.find()?)
    }

    pub(super) fn new(target: Target) -> Outcome<Self> {
        let tls = match (&target.secure, &target.address) {
            (None, _) => None,
            (Some(secure), Address::Tcp(address)) => Some((secure.load()?.into(), secure::name_of(address)?)),
            (Some(secure), Address::Unix(_)) => Some((secure.load()?.into(), secure::name_of("localhost")?)),
        };
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        Ok(Self {
            target,
            tls,
            runtime: runtime.map_err(|error| Failed::new(format!("cannot start a runtime: {error}")))?,
        })
    }

    pub(super) fn get(&self, path: &str) -> Outcome<Value> {
        self.call(Method::GET, path, Bytes::new(), None)
    }

    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let body = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        self.call(Method::POST, path, body, None)
    }

    /// Uploads a module; the answer is the last line of what the proxy says.
    pub(super) fn upload(&self, path: &str, module: Vec<u8>, progress: Progress) -> Outcome<Value> {
        self.call(Method::PUT, path, Bytes::from(module), Some(progress))
    }

    fn call(&self, method: Method, path: &str, body: Bytes, progress: Option<Progress>) -> Outcome<Value> {
        let stage = progress.as_ref().map(|progress| Rc::clone(&progress.stage));
        let body = Parts { rest: body, sent: 0, tell: progress.map(|progress| progress.sent) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.target.token))
            .header(header::CONTENT_TYPE, if stage.is_some() { "application/wasm" } else { "application/json" })
            .header(header::USER_AGENT, concat!("witgate/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| Failed::new(format!("{path}: no request can be made of it: {error}")))?;
        self.runtime.block_on(async {
            let response = async { exchange(self.connect().await?, request).await };
            let response = response.await.map_err(|trouble| self.unreachable(&trouble))?;
            let status = response.status();
            let lines = stage.filter(|_| status.is_success());
            let last = read(response, lines.as_deref()).await.map_err(|trouble| self.unreachable(&trouble))?;
            self.judge(status, last)
        })
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Trouble> {
        let stream: Box<dyn Stream> = match &self.target.address {
            Address::Tcp(address) => Box::new(within(CONNECT, TcpStream::connect(address)).await?),
            Address::Unix(file) => Box::new(within(CONNECT, UnixStream::connect(file)).await?),
        };
        let Some((connector, name)) = &self.tls else { return Ok(stream) };
        let stream = within(CONNECT, connector.connect(name.clone(), stream)).await;
        stream.map(|stream| Box::new(stream) as Box<dyn Stream>).map_err(Trouble::Handshake)
    }

    fn host(&self) -> &str {
        match &self.target.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => "localhost",
        }
    }

    /// The answer, unless it is an error. A streamed answer has its real status inside.
    fn judge(&self, status: StatusCode, body: Vec<u8>) -> Outcome<Value> {
        let value: Value = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).trim().to_owned()));
        let inner = value.get("status").filter(|_| value.get("error").is_some()).and_then(Value::as_u64);
        let status = inner.and_then(|s| StatusCode::from_u16(u16::try_from(s).ok()?).ok()).unwrap_or(status);
        if status.is_success() {
            return Ok(value);
        }
        let message = value.get("error").and_then(Value::as_str).or(value.as_str()).unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED {
            let Target { address, token_from, .. } = &self.target;
            return Err(Failed::new(format!(
                "{address} does not accept the token from {token_from}: is it another proxy's, or has the token changed \
                 since that proxy started? ({message})"
            )));
        }
        Err(Failed::new(if message.is_empty() { format!("the proxy answered {status}") } else { message.to_owned() }))
    }

    fn unreachable(&self, trouble: &Trouble) -> Failed {
        let Target { address, address_from, .. } = &self.target;
        Failed::new(match trouble {
            Trouble::Connect(error) => format!(
                "no proxy answers at {address} (from {address_from}): {error}; is it running? Name another one's \
                 configuration file with -c FILE, or set WITGATE_ADMIN and WITGATE_TOKEN"
            ),
            Trouble::Handshake(error) => {
                format!("the TLS handshake with the admin API at {address} (from {address_from}) failed: {error}")
            }
            Trouble::Answer(error) => {
                let hint = match (&self.tls, address) {
                    (None, Address::Tcp(address)) => format!("; if it speaks TLS, say https://{address}"),
                    // That a certificate is not taken is said after the handshake, to who may be writing still.
                    (Some(_), _) => {
                        "; if it wants a certificate of its clients, WITGATE_CERT and WITGATE_KEY have to name \
                                     one that it takes"
                            .to_owned()
                    }
                    _ => String::new(),
                };
                format!("the admin API at {address} did not answer as it should: {error}{hint}")
            }
        })
    }
}

enum Trouble {
    Connect(io::Error),
    Handshake(io::Error),
    Answer(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

/// What bytes come and go by.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Trouble {
    fn answer(error: impl fmt::Display) -> Self {
        Self::Answer(error.to_string())
    }

    /// With its causes, among which is what TLS said: a certificate may be refused after the handshake.
    fn http(error: hyper::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::Answer(text)
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Parts>) -> Result<Response<Incoming>, Trouble> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Trouble::http)?;
    // Ends with the runtime; its errors come out of the request as well.
    tokio::task::spawn_local(connection);
    match timeout(ANSWER, sender.send_request(request)).await {
        Ok(response) => response.map_err(Trouble::http),
        Err(_) => Err(Trouble::answer(format!("nothing came for {} s", ANSWER.as_secs()))),
    }
}

/// The whole body; or, where `stage` wants to hear of them, its last line, the ones before being stages.
async fn read(response: Response<Incoming>, stage: Option<&dyn Fn(&str)>) -> Result<Vec<u8>, Trouble> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    loop {
        let frame = match timeout(ANSWER, body.frame()).await {
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(Trouble::http)?,
            Err(_) => return Err(Trouble::answer(format!("nothing more came for {} s", ANSWER.as_secs()))),
        };
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if bytes.len() > MAX_ANSWER {
            return Err(Trouble::answer(format!("more than {MAX_ANSWER} bytes came")));
        }
        if let Some(stage) = stage {
            tell_stages(&mut bytes, stage);
        }
    }
    Ok(bytes)
}

/// Takes whole lines that name a stage off the front.
fn tell_stages(bytes: &mut Vec<u8>, stage: &dyn Fn(&str)) {
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        let line: Value = serde_json::from_slice(&bytes[..end]).unwrap_or_default();
        let (Some(name), None) = (line.get("stage").and_then(Value::as_str), line.get("error")) else { return };
        stage(name);
        bytes.drain(..=end);
    }
}

/// A body that goes out in parts and says how far it is.
struct Parts {
    rest: Bytes,
    sent: u64,
    tell: Option<Rc<dyn Fn(u64)>>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(tell) = &self.tell {
            tell(self.sent);
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        let part = self.rest.split_to(length);
        self.sent += length as u64;
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::*;

    fn client(address: &str) -> Client {
        let target = Target {
            address: Address::Tcp(address.to_owned()),
            token: "secret".to_owned(),
            secure: None,
            address_from: "here".to_owned(),
            token_from: "a test".to_owned(),
        };
        Client::new(target).unwrap()
    }

    /// What a call comes to where the proxy answers `response`, and what it was sent.
    fn against(response: &str, call: impl FnOnce(&Client) -> Outcome<Value>) -> (Outcome<Value>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&listener.local_addr().unwrap().to_string());
        let response = response.to_owned();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        let outcome = call(&client);
        (outcome, server.join().unwrap())
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    #[test]
    fn an_answer_is_json_and_the_token_is_sent() {
        let (got, sent) = against(&http("200 OK", "{\"a\": 1}\n"), |client| client.get("/v1/x"));
        assert_eq!(got.map(|value| value.to_string()), Ok("{\"a\":1}".to_owned()));
        assert!(sent.starts_with("GET /v1/x HTTP/1.1\r\n") && sent.contains("authorization: Bearer secret"), "{sent}");
    }

    #[track_caller]
    fn check_error(response: &str, parts: &[&str]) {
        let (got, _) = against(response, |client| client.post("/v1/x", None));
        let message = got.unwrap_err().message;
        assert!(parts.iter().all(|part| message.contains(part)), "{response}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn errors_say_what_to_do() {
        check_error(&http("401 Unauthorized", "{\"error\": \"no\"}"), &["a test", "(no)"]);
        check_error(&http("409 Conflict", "{\"error\": \"it is in use\"}"), &["it is in use"]);
        check_error(&http("503 Service Unavailable", ""), &["503"]);
        check_error("garbage\r\n\r\n", &["did not answer as it should"]);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let message = client(&closed).get("/").unwrap_err().message;
        assert!(message.contains(&closed) && message.contains("is it running?"), "{message}");
    }

    #[test]
    fn an_upload_tells_its_stages_and_ends_in_the_last_line() {
        let upload = |body: &str| {
            let told = Rc::new(RefCell::new(Vec::new()));
            let (stages, bytes) = (Rc::clone(&told), Rc::clone(&told));
            let progress = Progress {
                sent: Rc::new(move |n| bytes.borrow_mut().push(n.to_string())),
                stage: Rc::new(move |name| stages.borrow_mut().push(name.to_owned())),
            };
            let (got, _) = against(&http("200 OK", body), |client| client.upload("/p", vec![0; 5], progress));
            (got, told.borrow().join(" "))
        };
        let (got, told) = upload("{\"stage\":\"hash\"}\n{\"stage\":\"compile\"}\n{\"version\":2,\"status\":201}\n");
        assert_eq!((got.unwrap()["version"].as_u64(), told.as_str()), (Some(2), "0 hash compile"), "{told}");
        let (got, _) = upload("{\"stage\":\"hash\"}\n{\"error\":\"not Wasm\",\"stage\":\"wrap\",\"status\":422}\n");
        assert_eq!(got, Err(Failed::new("not Wasm")));
    }
}
