//! A client that sends exactly the bytes it is given and reads what comes back.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::PATIENCE;

/// A response as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// In the order they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Decoded.
    pub body: String,
}

impl Response {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// Status, headers, and how many bytes they took.
type Head = (u16, Vec<(String, String)>, usize);

/// One connection.
pub struct Client<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect {address}: {error}"))
    }

    /// Connects, if somebody listens.
    ///
    /// # Errors
    /// Nobody does.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The same connection once more, to send from another thread.
    ///
    /// # Panics
    /// When the process is out of file descriptors.
    #[expect(clippy::should_implement_trait, reason = "what was read already is not shared")]
    pub fn clone(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a file descriptor"), buffer: Vec::new() }
    }

    /// Closes the connection with a reset.
    ///
    /// # Panics
    /// When the system does not let it.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).expect("a socket's option");
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

impl<S: Read + Write> Client<S> {
    /// A connection over what is there already.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// What it is over.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request and reads the response.
    ///
    /// # Panics
    /// When no whole response comes.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        let head = request.starts_with(b"HEAD ");
        self.send(request).unwrap_or_else(|error| panic!("send: {error}"));
        self.response(head).unwrap_or_else(|error| panic!("{error}, asked: {}", String::from_utf8_lossy(request)))
    }

    /// A GET with headers, each ended by CRLF.
    pub fn get(&mut self, path: &str, headers: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n"))
    }

    /// Reads one response; `head` where the request was HEAD.
    ///
    /// # Errors
    /// The connection ended or broke before the response was whole, or the response is malformed.
    pub fn response(&mut self, head: bool) -> io::Result<Response> {
        loop {
            let (status, headers, used) = self.head()?;
            self.buffer.drain(..used);
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let has_body = !head && status != 204 && status != 304 && status != 101;
            let body = if has_body { self.body(&headers)? } else { Vec::new() };
            return Ok(Response { status, headers, body: String::from_utf8_lossy(&body).into_owned() });
        }
    }

    /// Whether the other side has closed the connection, with nothing more to read.
    pub fn closed(&mut self) -> bool {
        let is_open = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        self.buffer.is_empty() && self.fill().map_or_else(|error| !is_open(&error), |read| read == 0)
    }

    /// The next so many bytes, whatever they are.
    ///
    /// # Panics
    /// When they do not come.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            self.fill_some().unwrap_or_else(|error| panic!("{error}, waiting for {count} bytes"));
        }
        self.buffer.drain(..count).collect()
    }

    /// The next so many bytes; none where the other side has closed the connection before.
    pub fn try_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill_some().ok()?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// All that comes until the other side closes the connection.
    ///
    /// # Panics
    /// When it breaks, or is not closed in time.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut rest).unwrap_or_else(|error| panic!("{error}, after {rest:?}"));
        rest
    }

    fn head(&mut self) -> io::Result<Head> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.buffer).map_err(io::Error::other)?;
            if let httparse::Status::Complete(used) = parsed {
                let headers = response
                    .headers
                    .iter()
                    .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                    .collect();
                return Ok((response.code.unwrap_or_default(), headers, used));
            }
            self.fill_some()?;
        }
    }

    fn body(&mut self, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            return self.chunked();
        }
        if let Some(length) = header("content-length") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            while self.buffer.len() < length {
                self.fill_some()?;
            }
            return Ok(self.buffer.drain(..length).collect());
        }
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            while self.buffer.len() < size + 2 {
                self.fill_some()?;
            }
            body.extend(self.buffer.drain(..size + 2).take(size));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            self.fill_some()?;
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    fn fill_some(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => {
                let had = String::from_utf8_lossy(&self.buffer).into_owned();
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {had:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str, headers: &str) -> Response {
    Client::connect(address).get(path, headers)
}
