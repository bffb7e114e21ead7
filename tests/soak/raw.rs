//! Clients that a library would not let be: slow ones, ones that go away in the middle, and those of whole connections.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::http::connect;
use crate::ledger::Bad;

/// What is sent and comes back at once, on connections as a whole.
pub(crate) const MESSAGE: usize = 64;
const MESSAGES: u8 = 10;
const PAUSE: Duration = Duration::from_millis(100);

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: soak\r\nConnection: upgrade\r\nUpgrade: soak\r\n\r\n";
const LARGE: &[u8] = b"GET /large HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n";
const PIECE: [u8; 512] = [b'x'; 512];
const PIECES: usize = 16;

/// The status and the origin that a response names.
struct Head {
    status: u16,
    origin: Option<String>,
    reason: Option<String>,
    length: usize,
    /// Of the body, what came with it.
    rest: Vec<u8>,
}

impl Head {
    fn expect(self, status: u16) -> Result<Head, Bad> {
        if self.status == status {
            return Ok(self);
        }
        let what = format!("{} {}", self.status, self.reason.as_deref().unwrap_or("of the origin"));
        Err(Bad { what, origin: self.origin })
    }
}

/// A connection for TCP, from its begin to its end.
pub(crate) async fn tcp(port: u16) -> Result<(), Bad> {
    let mut stream = connect(port).await.map_err(not_connected)?;
    echoes(&mut stream, None).await
}

/// The same behind 101.
pub(crate) async fn upgrade(port: u16) -> Result<(), Bad> {
    let mut stream = connect(port).await.map_err(not_connected)?;
    stream.write_all(UPGRADE).await.map_err(no_answer)?;
    let head = head(&mut stream).await?.expect(101)?;
    echoes(&mut stream, head.origin).await
}

async fn echoes(stream: &mut TcpStream, mut origin: Option<String>) -> Result<(), Bad> {
    for number in 0..MESSAGES {
        let mut message = [number; MESSAGE];
        let said = stream.write_all(&message).await;
        let heard = match said {
            Ok(()) => stream.read_exact(&mut message).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            return Err(Bad { what: format!("cut: {error}"), origin });
        }
        if message[1..].iter().any(|byte| *byte != number) {
            return Err(Bad { what: "not what was said".to_string(), origin });
        }
        origin = Some(char::from(message[0]).to_string());
        sleep(PAUSE).await;
    }
    let ended = stream.shutdown().await;
    match (ended, stream.read(&mut [0; 1]).await) {
        (Ok(()), Ok(0)) => Ok(()),
        (ended, read) => Err(Bad { what: format!("cut: at its end: {ended:?}, {read:?}"), origin }),
    }
}

/// A body that comes little by little.
pub(crate) async fn slow_sender(port: u16) -> Result<(), Bad> {
    let mut stream = connect(port).await.map_err(not_connected)?;
    let length = PIECE.len() * PIECES;
    let request = format!("PUT /slow HTTP/1.1\r\nHost: soak\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(no_answer)?;
    for _ in 0..PIECES {
        sleep(PAUSE).await;
        stream.write_all(&PIECE).await.map_err(no_answer)?;
    }
    let head = head(&mut stream).await?.expect(200)?;
    body(&mut stream, head, Duration::ZERO).await
}

/// A body that is taken little by little.
pub(crate) async fn slow_reader(port: u16) -> Result<(), Bad> {
    let mut stream = connect(port).await.map_err(not_connected)?;
    stream.write_all(LARGE).await.map_err(no_answer)?;
    let head = head(&mut stream).await?.expect(200)?;
    body(&mut stream, head, PAUSE).await
}

/// One that goes away: within its head, within its body, before the answer, within the answer.
pub(crate) async fn goes_away(port: u16, how: u64) -> io::Result<()> {
    let mut stream = connect(port).await?;
    let (request, answer): (&[u8], usize) = match how % 4 {
        0 => (b"GET / HTTP/1.1\r\nHost: so", 0),
        1 => (b"POST / HTTP/1.1\r\nHost: soak\r\nContent-Length: 1000\r\n\r\nabc", 0),
        2 => (b"GET / HTTP/1.1\r\nHost: soak\r\n\r\n", 0),
        _ => (LARGE, 1),
    };
    stream.write_all(request).await?;
    if answer > 0 {
        stream.read_exact(&mut vec![0; answer]).await?;
    } else {
        sleep(PAUSE / 10).await;
    }
    Ok(())
}

async fn head(stream: &mut TcpStream) -> Result<Head, Bad> {
    let mut bytes = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes) {
            Ok(httparse::Status::Complete(used)) => {
                let find = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                let text = |name| find(name).map(|header| String::from_utf8_lossy(header.value).into_owned());
                let length = text("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                let (origin, reason) = (text("x-origin"), text("x-witgate-error"));
                let (status, rest) = (response.code.unwrap_or(0), bytes[used..].to_vec());
                return Ok(Head { status, origin, reason, length, rest });
            }
            Ok(httparse::Status::Partial) => {}
            Err(error) => return Err(Bad::new(format!("malformed: {error}"))),
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return Err(Bad::new("no answer: closed")),
            Ok(_) => {}
            Err(error) => return Err(no_answer(error)),
        }
    }
}

/// The rest of a body, with a pause after each piece that was taken.
async fn body(stream: &mut TcpStream, head: Head, pause: Duration) -> Result<(), Bad> {
    let mut left = head.length.saturating_sub(head.rest.len());
    let mut piece = vec![0; 8 << 10];
    while left > 0 {
        let most = left.min(piece.len());
        match stream.read(&mut piece[..most]).await {
            Ok(0) => return Err(Bad { what: "cut: closed".to_string(), origin: head.origin }),
            Ok(count) => left -= count,
            Err(error) => return Err(Bad { what: format!("cut: {error}"), origin: head.origin }),
        }
        sleep(pause).await;
    }
    Ok(())
}

fn not_connected(error: io::Error) -> Bad {
    Bad::new(format!("not connected: {error}"))
}

fn no_answer(error: io::Error) -> Bad {
    Bad::new(format!("no answer: {error}"))
}
