//! The admin API's socket: TCP, or a Unix socket that nobody may open but who is meant to. Binding is synchronous, so that a
//! taken address is known before anything starts; it must never take a socket away from a process that is alive.

use std::{
    fmt, fs,
    future::poll_fn,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use witgate_core::config::AdminListen;

use crate::inherited::AdminSocket;

/// Connections that the kernel completes while the server is busy.
const BACKLOG: i32 = 128;

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// The address that was bound: never port 0.
    Tcp(SocketAddr),
    /// The socket's file.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    /// As `[admin] listen` has it: `127.0.0.1:9901`, `unix:/run/witgate.sock`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket that nobody accepts from yet.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: AdminAddress,
    socket: Std,
    pub(super) file: Option<Arc<SocketFile>>,
}

#[derive(Debug)]
enum Std {
    Tcp(std::net::TcpListener),
    Unix(UnixListener),
}

/// A socket that connections are accepted from. The Unix socket's file goes when this is dropped.
pub(super) struct Listener {
    socket: Async,
    _file: Option<Arc<SocketFile>>,
}

enum Async {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// A connection, and who made it, in words for the log.
pub(super) type Accepted = (Box<dyn Stream>, String);

/// One accepted connection, whichever kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Bound {
    /// What was given, or what is bound otherwise; `mode` is that of a Unix socket's file.
    pub(super) fn new(listen: &AdminListen, mode: u32, given: Option<AdminSocket>) -> io::Result<Self> {
        match (listen, given) {
            (AdminListen::Tcp(_), Some(AdminSocket::Tcp(socket))) => {
                socket.set_nonblocking(true)?;
                let address = AdminAddress::Tcp(socket.local_addr()?);
                Ok(Self { address, socket: Std::Tcp(socket), file: None })
            }
            (AdminListen::Unix(path), Some(AdminSocket::Unix(socket, removes))) => {
                socket.set_nonblocking(true)?;
                // Not before it is this process' turn, and never where a service manager has made it.
                let file = if removes { Some(Arc::new(SocketFile::lent(path)?)) } else { None };
                Ok(Self { address: AdminAddress::Unix(path.clone()), socket: Std::Unix(socket), file })
            }
            (listen, _) => Self::bind(listen, mode),
        }
    }

    /// A duplicate, for a process that is to take this one's place.
    pub(super) fn lend(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            Std::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Std::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        }
    }

    fn bind(listen: &AdminListen, mode: u32) -> io::Result<Self> {
        match listen {
            AdminListen::Tcp(address) => {
                let socket = std::net::TcpListener::bind(address)?;
                socket.set_nonblocking(true)?;
                let address = AdminAddress::Tcp(socket.local_addr()?);
                Ok(Self { address, socket: Std::Tcp(socket), file: None })
            }
            AdminListen::Unix(path) => {
                make_way(path)?;
                let (socket, file) = bind_unix(path, mode)?;
                Ok(Self {
                    address: AdminAddress::Unix(path.clone()),
                    socket: Std::Unix(socket),
                    file: Some(Arc::new(file)),
                })
            }
        }
    }

    /// Hands the socket to the runtime that this is called in.
    pub(super) fn listen(self) -> io::Result<Listener> {
        let socket = match self.socket {
            Std::Tcp(socket) => Async::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Std::Unix(socket) => Async::Unix(tokio::net::UnixListener::from_std(socket)?),
        };
        Ok(Listener { socket, _file: self.file })
    }
}

impl Listener {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection, if there is one now.
    pub(super) async fn accept_now(&self) -> Option<io::Result<Accepted>> {
        poll_fn(|cx| match self.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        Poll::Ready(match &self.socket {
            Async::Tcp(socket) => {
                let (stream, peer) = ready!(socket.poll_accept(cx))?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), peer.to_string()))
            }
            Async::Unix(socket) => {
                let (stream, _) = ready!(socket.poll_accept(cx))?;
                let peer = match stream.peer_cred() {
                    Ok(cred) => format!("uid {} pid {}", cred.uid(), cred.pid().unwrap_or_default()),
                    Err(_) => "unix".to_owned(),
                };
                Ok((Box::new(stream), peer))
            }
        })
    }
}

/// Removes what a process that died has left at `path`; refuses where somebody answers there, and where the file is
/// not a socket at all.
fn make_way(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name that is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Its queue is full (it lives), or we may not ask: either way it is not ours to remove.
        Err(error) => Err(error),
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = bind_no_wider(path, mode)?;
    // Wider than the umask lets it be; and where the system takes no notice of a socket's mode, narrower. Nobody can connect
    // before the socket listens.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let file = SocketFile::new(path)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

/// On Linux the file gets the mode that the socket has when it is bound, less the umask, so that there is no moment in which
/// it is open to others.
fn bind_no_wider(path: &Path, mode: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let _ = rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode));
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Removes the socket's file when the server ends, unless another process has put its own there since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Whether it goes with this process.
    own: AtomicBool,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)?, own: AtomicBool::new(true) })
    }

    /// One that goes with another process, until that leaves it to this one.
    fn lent(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)?, own: AtomicBool::new(false) })
    }
}

impl SocketFile {
    /// Takes it over from the process that made it.
    pub fn own(&self) {
        self.own.store(true, Relaxed);
    }

    /// Leaves it to another process.
    pub fn disown(&self) {
        self.own.store(false, Relaxed);
    }

    /// Whether it is this process' to remove.
    pub fn is_own(&self) -> bool {
        self.own.load(Relaxed)
    }

    /// Removes it now: for a process that ends without running destructors.
    pub fn remove(&self) {
        if self.is_own() && identity(&self.path).is_ok_and(|found| found == self.identity) {
            // If it cannot be removed now, the next start finds it stale and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<Bound> {
        Bound::new(&AdminListen::Unix(path.to_owned()), 0o600, None)
    }

    #[test]
    fn a_unix_socket_is_its_owners_and_goes_with_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let bound = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bound.address.to_string(), format!("unix:{}", path.display()));
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        drop(bound);
        assert!(!path.exists(), "the file is left behind");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_file_is_no_wider_from_its_first_moment_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        for mode in [0o600, 0o660] {
            let _socket = bind_no_wider(&path, mode).unwrap();
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found & !mode, 0, "{found:o}, wanted {mode:o}");
            fs::remove_file(&path).unwrap();
            let bound = Bound::new(&AdminListen::Unix(path.clone()), mode, None).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            drop(bound);
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file");
        let _bound = bind(&path).unwrap();
        let file = dir.path().join("precious");
        fs::write(&file, "x").unwrap();
        let error = bind(&file).unwrap_err();
        assert_eq!((error.kind(), fs::read(&file).unwrap()), (io::ErrorKind::AlreadyExists, b"x".to_vec()));
    }

    #[test]
    fn another_process_socket_is_left_alone_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let bound = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }

    #[test]
    fn one_that_is_lent_stays_until_it_is_left_to_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let first = bind(&path).unwrap();
        let lent = || {
            let socket = AdminSocket::Unix(UnixListener::from(first.lend().unwrap()), true);
            Bound::new(&AdminListen::Unix(path.clone()), 0o600, Some(socket)).unwrap()
        };
        drop(lent());
        assert!(path.exists(), "it is the first one's still");
        let second = lent();
        second.file.as_ref().unwrap().own();
        first.file.as_ref().unwrap().disown();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn port_0_is_resolved() {
        let bound = Bound::new(&AdminListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), 0o600, None).unwrap();
        assert!(matches!(bound.address, AdminAddress::Tcp(address) if address.port() != 0), "{}", bound.address);
    }
}
