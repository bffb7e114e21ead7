//! The side of a process that takes another's place: it is given all that the other holds, gets ready, and serves once it is
//! told to. Until then it changes nothing that the other one might go on to use.

use std::{env, fs::File, io, os::fd::OwnedFd};

use rustix::net::sockopt::socket_domain;

use super::{
    Inherited, Of,
    channel::{self, Message, Owner, PROMPT, VARIABLE},
};

/// The process whose place this one takes: stdin is the channel to it.
#[derive(Debug, Clone, Copy)]
pub struct Predecessor(());

/// Why a process does not take another's place.
#[derive(Debug, thiserror::Error)]
#[error("this process was to take the place of another, which {0}")]
pub struct HandOverError(String);

impl HandOverError {
    fn gone(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self("is gone, or has given it up".to_owned()),
            _ => Self(format!("cannot be understood: {error}")),
        }
    }
}

impl Predecessor {
    /// The one that has started this process so; none where it was started as others are.
    pub(super) fn find() -> Option<Self> {
        env::var_os(VARIABLE)?;
        if socket_domain(io::stdin()) != Ok(rustix::net::AddressFamily::UNIX) {
            tracing::warn!("{VARIABLE} is set, but stdin is no channel: ignored");
            return None;
        }
        Some(Self(()))
    }

    /// All that it holds.
    pub(super) fn receive(self, inherited: &mut Inherited) -> Result<(), HandOverError> {
        loop {
            let next = self.next()?;
            let (message, files) = next.ok_or_else(|| HandOverError("says nothing".to_owned()))?;
            match message {
                Message::Sockets { id, owner, listen, removes } => {
                    let name = match &owner {
                        Owner::Listener(name) => name.clone(),
                        Owner::Admin => "admin".to_owned(),
                    };
                    for file in files {
                        let of = Of { id, owner: owner.clone(), listen: listen.clone(), removes };
                        inherited
                            .add(file, name.clone(), Some(of))
                            .map_err(|error| HandOverError(format!("gave a socket that cannot be used: {error}")))?;
                    }
                }
                Message::Lock => inherited.lock = files.into_iter().next().map(File::from),
                Message::End => return Ok(()),
                other => return Err(HandOverError(format!("says what it should not: {other:?}"))),
            }
        }
    }

    /// Says that this process is ready, and waits for its turn: however long that is, as who gives up ends the channel.
    ///
    /// # Errors
    /// The other process has given it up.
    pub fn wait_for_turn(self, taken: Vec<usize>) -> Result<(), HandOverError> {
        self.say(&Message::Ready { taken })?;
        loop {
            match self.next()? {
                None => {}
                Some((Message::Go, _)) => return Ok(()),
                Some((other, _)) => return Err(HandOverError(format!("says what it should not: {other:?}"))),
            }
        }
    }

    /// Says that this process serves: the other one ends now. Where that cannot be told any more, it has ended already.
    pub fn tell_serving(self) {
        if let Err(error) = self.say(&Message::Serving) {
            tracing::warn!(%error, "whose place this process takes is not there any more");
        }
    }

    /// Says why this process will not serve.
    pub fn tell_failed(self, why: &str) {
        // It sees the end of this process in any case.
        let why = why.chars().take(2048).collect();
        let _ = self.say(&Message::Failed { why });
    }

    fn say(self, message: &Message) -> Result<(), HandOverError> {
        channel::send(io::stdin(), message, &[]).map_err(|error| HandOverError::gone(&error))
    }

    /// None where nothing comes for a while.
    fn next(self) -> Result<Option<(Message, Vec<OwnedFd>)>, HandOverError> {
        channel::receive(io::stdin(), PROMPT).map_err(|error| HandOverError::gone(&error))
    }
}
