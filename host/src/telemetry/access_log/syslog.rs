//! Lines as datagrams of syslog (RFC 5424), one a line. What does not arrive nobody is told of: that is what datagrams are.

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use super::{place::wait, queue::Shared};

/// Facility local7, as nginx has it, and severity "informational": 23 · 8 + 6.
const PRIORITY: u8 = 190;

/// A socket to who takes datagrams.
pub(super) struct Syslog {
    to: To,
    socket: Socket,
    host: String,
    /// A datagram on its way out.
    message: String,
}

enum To {
    Udp(SocketAddr),
    Unix(PathBuf),
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Syslog {
    pub(super) fn udp(address: SocketAddr) -> io::Result<Self> {
        Self::new(To::Udp(address))
    }

    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Self::new(To::Unix(path.to_owned()))
    }

    fn new(to: To) -> io::Result<Self> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        let host = if is_name { host } else { "-".to_owned() };
        Ok(Self { socket: to.connect()?, to, host, message: String::new() })
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.socket = self.to.connect()?;
        Ok(())
    }

    /// Sends each line. How many were sent, and the first error.
    pub(super) fn write(&mut self, text: &[u8], shared: &Shared) -> (u64, io::Result<()>) {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let (mut sent, mut outcome) = (0, Ok(()));
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.message.clear();
            let (host, id) = (&self.host, process::id());
            // Only the year 10000 cannot be written. Lines are text: what clients say is escaped.
            let _ = write!(self.message, "<{PRIORITY}>1 {now} {host} witgate {id} access - ");
            self.message.push_str(&String::from_utf8_lossy(line.trim_ascii_end()));
            match self.send(shared) {
                Ok(()) => sent += 1,
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (sent, outcome)
    }

    /// Sends a datagram, and once more over another socket: whoever takes them may have started anew.
    fn send(&mut self, shared: &Shared) -> io::Result<()> {
        match self.socket.send(self.message.as_bytes(), shared) {
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
                self.reopen()?;
                self.socket.send(self.message.as_bytes(), shared)
            }
            sent => sent,
        }
    }
}

impl To {
    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Udp(address) => {
                let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Udp(socket))
            }
            Self::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(socket))
            }
        }
    }
}

impl Socket {
    fn send(&self, message: &[u8], shared: &Shared) -> io::Result<()> {
        loop {
            let sent = match self {
                Self::Udp(socket) => socket.send(message),
                Self::Unix(socket) => socket.send(message),
            };
            match sent {
                Ok(_) => return Ok(()),
                Err(error) => wait(self, error, shared)?,
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}
