//! Sockets that a service manager has bound: systemd's protocol, `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`
//! (sd_listen_fds(3)). What is none of ours is closed, never served.

use std::{env, os::fd::OwnedFd};

use listenfd::ListenFd;

use super::{Given, Socket};

/// Those that were passed to this process, with their names.
pub(super) fn sockets() -> Vec<Given> {
    // Read first: the crate takes its variables out of the environment. It checks whose they are.
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // Without it the crate believes whatever is said; systemd always says it.
    if env::var_os("LISTEN_PID").is_none() {
        return Vec::new();
    }
    let mut passed = ListenFd::from_env();
    (0..passed.len()).filter_map(|place| given(&mut passed, place, names.next().unwrap_or("unknown"))).collect()
}

fn given(passed: &mut ListenFd, place: usize, name: &str) -> Option<Given> {
    let tcp = passed.take_tcp_listener(place).ok().flatten().map(OwnedFd::from);
    let fd = tcp.or_else(|| passed.take_unix_listener(place).ok().flatten().map(OwnedFd::from));
    // A datagram socket, which is closed when it is dropped.
    let fd = fd.or_else(|| passed.take_udp_socket(place).ok().flatten().map(OwnedFd::from));
    let socket = match fd.map(Socket::of) {
        Some(Ok(socket)) => socket,
        Some(Err(error)) => {
            tracing::warn!(name, %error, "what was passed to this process cannot be used as a listener: closed");
            return None;
        }
        None => {
            tracing::warn!(name, "what was passed to this process is no socket that can be used as a listener");
            return None;
        }
    };
    Some(Given { socket, name: name.to_owned(), of: None })
}
