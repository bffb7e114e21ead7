//! The two ends that a proxy stands between, over streams in memory: a client that asks again and again, and an origin
//! that gives the same answer every time. They do as little as they can, as what they do is counted too.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What a stream in memory holds before whoever writes has to wait: what the proxy reads at once of large bodies.
pub(crate) const HOLDS: usize = 64 << 10;

/// Room for a response, and for a head.
const RESPONSE: usize = 128 << 10;
const HEAD: usize = 4 << 10;

/// A client with one connection.
pub(crate) struct Client {
    stream: DuplexStream,
    request: Vec<u8>,
    response: Vec<u8>,
    /// Bytes of each response, head and body.
    size: usize,
}

impl Client {
    /// Asks once and learns from it how long responses are, which have a body of `body` bytes.
    pub(crate) async fn connect(stream: DuplexStream, request: Vec<u8>, body: usize) -> Self {
        let mut client = Self { stream, request, response: Vec::with_capacity(RESPONSE), size: 1 };
        client.ask().await;
        let head = loop {
            let end = client.response.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            client.read(client.response.len() + 1).await;
        };
        client.size = head + body;
        client.read(client.size).await;
        client
    }

    /// Asks and waits for the whole response; its last byte.
    pub(crate) async fn ask(&mut self) -> Option<u8> {
        self.stream.write_all(&self.request).await.expect("the proxy reads");
        self.response.clear();
        self.read(self.size).await;
        assert!(self.response.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.response));
        self.response.last().copied()
    }

    async fn read(&mut self, size: usize) {
        while self.response.len() < size {
            let read = self.stream.read_buf(&mut self.response).await.expect("the proxy writes");
            assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&self.response));
        }
    }
}

/// Answers every request, none of which has a body, until the other end closes.
pub(crate) async fn origin(mut stream: DuplexStream, response: Vec<u8>) {
    let mut request = Vec::with_capacity(HEAD);
    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            if stream.write_all(&response).await.is_err() {
                return;
            }
        }
    }
}
