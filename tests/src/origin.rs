//! Origins: real sockets on loopback that record every byte they get and answer as they are told.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// A request as an origin read it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// `GET /path HTTP/1.1`.
    pub line: String,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// Decoded.
    pub body: Vec<u8>,
}

impl Seen {
    /// All values of a header (name in lower case).
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header (name in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// What an origin does with a connection after it read a request's head and body. Returns whether it goes on reading.
pub type Script = dyn Fn(&Seen, &mut TcpStream) -> bool + Send + Sync;

/// One origin. Stops with the test.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

impl Origin {
    /// Answers every request with 200 and its own name as body and as `x-origin`.
    pub fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self::scripted(move |_, stream| respond(stream, 200, &[("x-origin", &name)], name.as_bytes()))
    }

    /// Answers as `script` says.
    ///
    /// # Panics
    /// When no port is free.
    pub fn scripted(script: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        Self::serving("127.0.0.1:0", move |stream, shared| serve(stream, shared, &script))
    }

    /// Answers every request with its own name, at another of this machine's addresses and the same port as `other`.
    ///
    /// # Panics
    /// When that is not free.
    pub fn beside(other: &Self, name: &str) -> Self {
        let (name, at) = (name.to_owned(), format!("127.0.0.2:{}", other.address.port()));
        let script =
            move |_: &Seen, stream: &mut TcpStream| respond(stream, 200, &[("x-origin", &name)], name.as_bytes());
        Self::serving(&at, move |stream, shared| serve(stream, shared, &script))
    }

    /// Does with each connection what `script` says; nothing is recorded of what comes over it.
    ///
    /// # Panics
    /// When no port is free.
    pub fn raw(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::serving("127.0.0.1:0", move |mut stream, _| script(&mut stream))
    }

    fn serving(at: &str, serve: impl Fn(TcpStream, &Shared) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).expect("a free port");
        // More connections may come at once than the standard library lets wait: the kernel resets some of those over it.
        socket2::SockRef::from(&listener).listen(4096).expect("a longer queue");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared =
            Arc::new(Shared { seen: Mutex::default(), connections: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let serve = Arc::new(serve);
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepting.connections.fetch_add(1, SeqCst);
                let (shared, serve) = (Arc::clone(&accepting), Arc::clone(&serve));
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        // Wakes the accept loop.
        let _ = TcpStream::connect(self.address);
    }
}

/// Writes a response with a Content-Length. Returns true, for scripts to end with.
pub fn respond(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> bool {
    let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    stream.write_all(&whole).is_ok()
}

fn serve(mut stream: TcpStream, shared: &Shared, script: &Script) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer) {
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        if !script(&seen, &mut stream) {
            return;
        }
    }
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let mut seen = loop {
        let mut headers = [httparse::EMPTY_HEADER; 200];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(buffer).ok()? {
            httparse::Status::Complete(used) => {
                let seen = Seen {
                    line: format!("{} {} HTTP/1.{}", request.method?, request.path?, request.version?),
                    headers: request
                        .headers
                        .iter()
                        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                        .collect(),
                    body: Vec::new(),
                };
                buffer.drain(..used);
                break seen;
            }
            httparse::Status::Partial => fill(stream, buffer)?,
        }
    };
    if seen.header("transfer-encoding").is_some() {
        loop {
            let line = line(stream, buffer)?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                while !self::line(stream, buffer)?.is_empty() {}
                break;
            }
            while buffer.len() < size + 2 {
                fill(stream, buffer)?;
            }
            seen.body.extend(buffer.drain(..size + 2).take(size));
        }
    } else if let Some(length) = seen.header("content-length").and_then(|v| v.parse::<usize>().ok()) {
        while buffer.len() < length {
            fill(stream, buffer)?;
        }
        seen.body = buffer.drain(..length).collect();
    }
    Some(seen)
}

fn line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|w| w == b"\r\n") {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 2);
            return Some(line);
        }
        fill(stream, buffer)?;
    }
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 << 10];
    let n = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
    buffer.extend_from_slice(&chunk[..n]);
    Some(())
}
