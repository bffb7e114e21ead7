//! The first bytes that a client sends, looked at without being read: what comes next reads them as if nobody had.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::{io::Interest, net::TcpStream};

/// Looks at what has come so far until `find` finds something. None where the client has gone, or so many bytes as there is
/// room for in `room` are not enough.
pub(super) async fn peek<T>(
    stream: &TcpStream,
    room: &mut [u8],
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    loop {
        let ready = stream.ready(Interest::READABLE).await.ok()?;
        let looked = stream.try_io(Interest::READABLE, || {
            let (_, come) = recv(stream, &mut *room, RecvFlags::PEEK)?;
            match find(&room[..come]) {
                Some(found) => Ok(Some(found)),
                // What is closed stays ready for ever.
                None if come == 0 || come == room.len() || ready.is_read_closed() => Ok(None),
                // To be woken when more is there, and not as long as anything is.
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match looked {
            Ok(found) => return found,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}
