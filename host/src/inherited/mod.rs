//! What this process was given when it was started: listening sockets by a service manager (`LISTEN_FDS`), or all that a
//! process which it is to take the place of holds. Whoever needs a socket asks here before binding one.

mod activation;
pub mod channel;
mod predecessor;

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use witgate_core::config::AdminListen;

use channel::Owner;
pub use predecessor::{HandOverError, Predecessor};

/// Sockets that nobody has asked for yet, and who gave them.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<Given>,
    /// What a predecessor's sockets are known by to it: those that were asked for.
    taken: Vec<usize>,
    /// Whom this process is to take the place of.
    pub predecessor: Option<Predecessor>,
    /// Holds the lock of a state directory.
    pub lock: Option<File>,
}

/// One that was given.
struct Given {
    socket: Socket,
    /// Its name there, for the log.
    name: String,
    /// What the predecessor knows of it.
    of: Option<Of>,
}

/// What a predecessor has used a socket for.
struct Of {
    id: usize,
    owner: Owner,
    /// As it was configured there: with port 0 where the system was to pick one.
    listen: String,
    /// Whether the socket's file is this program's to remove.
    removes: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// A socket for the admin API.
#[derive(Debug)]
pub enum AdminSocket {
    /// Of an address.
    Tcp(TcpListener),
    /// Of a file; whether that is this program's to remove.
    Unix(UnixListener, bool),
}

impl Inherited {
    /// What the environment speaks of. To be called once, before there are other threads.
    ///
    /// # Errors
    /// A process that this one is to take the place of does not say all that it should.
    pub fn from_environment() -> Result<Self, HandOverError> {
        let predecessor = Predecessor::find();
        let mut inherited = Self { sockets: activation::sockets(), ..Self::default() };
        if let Some(predecessor) = predecessor {
            predecessor.receive(&mut inherited)?;
            inherited.predecessor = Some(predecessor);
        }
        Ok(inherited)
    }

    fn add(&mut self, socket: OwnedFd, name: String, of: Option<Of>) -> io::Result<()> {
        let socket = Socket::of(socket)?;
        self.sockets.push(Given { socket, name, of });
        Ok(())
    }

    /// All sockets for a listener: those that are bound to its address, or were a predecessor's for the same.
    pub fn take(&mut self, name: &str, listen: SocketAddr) -> Vec<TcpListener> {
        let written = listen.to_string();
        let wanted = |given: &mut Given| match (&given.socket, &given.of) {
            (Socket::Tcp(_, address), None) => *address == listen,
            (Socket::Tcp(..), Some(Of { owner: Owner::Listener(before), listen: was, .. })) => {
                *was == written && (listen.port() != 0 || before == name)
            }
            _ => false,
        };
        let found: Vec<Given> = self.sockets.extract_if(.., wanted).collect();
        self.taken.extend(found.iter().filter_map(|given| given.of.as_ref()).map(|of| of.id));
        found.into_iter().filter_map(Given::tcp).collect()
    }

    /// The socket for the admin API.
    pub fn take_admin(&mut self, listen: &AdminListen) -> Option<AdminSocket> {
        let place = self.sockets.iter().position(|given| given.is_for(listen))?;
        let Given { socket, of, .. } = self.sockets.swap_remove(place);
        self.taken.extend(of.as_ref().map(|of| of.id));
        Some(match socket {
            Socket::Tcp(socket, _) => AdminSocket::Tcp(socket),
            Socket::Unix(socket, _) => AdminSocket::Unix(socket, of.is_some_and(|of| of.removes)),
        })
    }

    /// Whether one has this port, so that an address with it may be in use by what this process itself holds.
    pub fn has_port(&self, port: u16) -> bool {
        self.sockets.iter().any(|given| matches!(&given.socket, Socket::Tcp(_, address) if address.port() == port))
    }

    /// Closes what nobody has asked for, and says so. Returns what was taken of a predecessor's.
    pub fn close_rest(&mut self) -> Vec<usize> {
        for Given { socket, name, of } in self.sockets.drain(..) {
            let address = socket.show();
            match of {
                None => tracing::warn!(
                    name,
                    address,
                    "a socket that was passed to this process is no listener's, nor the admin API's: closed"
                ),
                Some(_) => tracing::info!(name, address, "not listened on any more"),
            }
        }
        std::mem::take(&mut self.taken)
    }
}

impl Given {
    fn tcp(self) -> Option<TcpListener> {
        match self.socket {
            Socket::Tcp(socket, _) => Some(socket),
            Socket::Unix(..) => None,
        }
    }

    fn is_for(&self, listen: &AdminListen) -> bool {
        match (&self.of, &self.socket, listen) {
            (Some(of), ..) if of.owner != Owner::Admin => false,
            (Some(of), Socket::Tcp(..), AdminListen::Tcp(address)) => of.listen == address.to_string(),
            (None, Socket::Tcp(_, bound), AdminListen::Tcp(address)) => bound == address,
            (_, Socket::Unix(_, bound), AdminListen::Unix(path)) => is_same_file(bound, path),
            _ => false,
        }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

impl Socket {
    /// # Errors
    /// It is none that connections can be accepted from here.
    fn of(fd: OwnedFd) -> io::Result<Self> {
        if !rustix::net::sockopt::socket_acceptconn(&fd)? {
            return Err(io::Error::other("it does not listen"));
        }
        // The kind is the address's; whichever it is said to be at first, it is asked for that only.
        let socket = TcpListener::from(fd);
        if let Ok(address) = socket.local_addr() {
            return Ok(Self::Tcp(socket, address));
        }
        let socket = UnixListener::from(OwnedFd::from(socket));
        let path = socket.local_addr()?.as_pathname().map(Path::to_owned);
        let path = path.ok_or_else(|| io::Error::other("it is neither TCP nor a Unix socket with a file"))?;
        Ok(Self::Unix(socket, path))
    }

    fn show(&self) -> String {
        match self {
            Self::Tcp(_, address) => address.to_string(),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }
}
