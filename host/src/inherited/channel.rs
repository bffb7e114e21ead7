//! What a process and its successor say to each other while one takes the other's place: messages with file descriptors
//! over a pair of Unix sockets, of which the successor has one as its stdin. Knows nothing of what they mean.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize};

/// Set in the environment of a successor, whose stdin is its end of the channel.
pub const VARIABLE: &str = "WITGATE_UPGRADE";

/// File descriptors with one message. The kernel takes 253 (`SCM_MAX_FD`).
pub const MOST_FILES: usize = 64;

/// Bytes of a message: the longest are of names, and of what went wrong.
const LONGEST: usize = 16 << 10;

/// How long the other side may take for a message that it has only to take, or to send.
pub const PROMPT: Duration = Duration::from_secs(10);

/// What is said. From the process that serves: sockets, its lock, the end of those, later that it is the other's turn.
/// From its successor: that it is ready or cannot be, and that it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Sockets of one address.
    Sockets {
        /// What they are known by.
        id: usize,
        /// Whose they are.
        owner: Owner,
        /// As it was configured.
        listen: String,
        /// Whether the socket's file is to be removed at the end.
        removes: bool,
    },
    /// The file of the state directory's lock.
    Lock,
    /// That was all.
    End,
    /// Nothing can fail any more; which sockets will be served.
    Ready {
        /// By what they are known by.
        taken: Vec<usize>,
    },
    /// It will not serve.
    Failed {
        /// Why; empty where that is on stderr.
        why: String,
    },
    /// State and sockets are the successor's now.
    Go,
    /// The successor serves.
    Serving,
}

/// Whose a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The listener of this name.
    Listener(String),
    /// The admin API.
    Admin,
}

/// A pair of ends. They are not inherited by other processes.
///
/// # Errors
/// The system has no sockets to give.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message.
///
/// # Errors
/// The other side is gone, or takes nothing.
pub fn send(channel: impl AsFd, message: &Message, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > LONGEST || files.len() > MOST_FILES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let deadline = Instant::now() + PROMPT;
    loop {
        if !wait(channel.as_fd(), PollFlags::OUT, deadline.saturating_duration_since(Instant::now()))? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(channel.as_fd(), &[IoSlice::new(&text)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The next message, if it comes within `patience`.
///
/// # Errors
/// The other side is gone (`UnexpectedEof`), or says what is not understood.
pub fn receive(channel: impl AsFd, patience: Duration) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let deadline = Instant::now() + patience;
    let mut text = vec![0; LONGEST];
    loop {
        if !wait(channel.as_fd(), PollFlags::IN, deadline.saturating_duration_since(Instant::now()))? {
            return Ok(None);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match recvmsg(channel.as_fd(), &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => return Err(error.into()),
        };
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                files.extend(some);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The process may have as many files as it may open.
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message was cut short; may the process open enough files?"));
        }
        return Ok(Some((serde_json::from_slice(&text[..received.bytes])?, files)));
    }
}

/// Whether it may be read or written, or has ended, within `patience`.
fn wait(channel: BorrowedFd<'_>, what: PollFlags, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(patience).map_err(|_| io::ErrorKind::InvalidInput)?;
    match poll(&mut [PollFd::from_borrowed_fd(channel, what)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn socket_message(name: &str) -> Message {
        let (owner, listen) = (Owner::Listener(name.to_owned()), "127.0.0.1:0".to_owned());
        Message::Sockets { id: 3, owner, listen, removes: false }
    }

    #[test]
    fn a_message_brings_its_files() {
        let (here, there) = pair().unwrap();
        let sockets: Vec<TcpListener> = (0..MOST_FILES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let files: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let sent = socket_message("a listener with a name that has spaces");
        send(&here, &sent, &files).unwrap();
        send(&here, &Message::End, &[]).unwrap();
        let (message, files) = receive(&there, PROMPT).unwrap().unwrap();
        assert_eq!(message, sent);
        let addresses = files.into_iter().map(|file| TcpListener::from(file).local_addr().unwrap());
        assert!(addresses.eq(sockets.iter().map(|socket| socket.local_addr().unwrap())));
        assert_eq!(receive(&there, PROMPT).unwrap().unwrap().0, Message::End);
    }

    #[test]
    fn silence_an_end_and_nonsense_are_told_apart() {
        let (here, there) = pair().unwrap();
        assert!(receive(&there, Duration::ZERO).unwrap().is_none());
        rustix::net::send(&here, b"\xff{", SendFlags::empty()).unwrap();
        assert_eq!(receive(&there, PROMPT).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(here);
        assert_eq!(receive(&there, PROMPT).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(send(&there, &Message::Go, &[]).is_err());
    }

    #[test]
    fn whoever_takes_too_much_at_once_is_told() {
        let (here, _there) = pair().unwrap();
        let error = send(&here, &socket_message(&"n".repeat(LONGEST)), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
