//! A worker's sessions with an endpoint: a request joins one that has room for it, or waits for one that is being made, and
//! makes another only where there is none.

use std::{cell::OnceCell, io, rc::Rc, sync::Arc};

use tokio::sync::Notify;
use witgate_core::{config::Protocol, endpoint::Endpoint};

use super::{
    super::{
        Channel, ConnectError, Upstreams,
        circuit::{Circuit, Place},
        connect::{self, Made, Target},
        identity, pool_of,
    },
    Slot,
    session::Session,
};
use crate::tls;

/// What a worker has of one endpoint.
#[derive(Default)]
pub(in super::super) struct Sessions {
    pub(in super::super) open: Vec<Rc<Session>>,
    /// What the endpoint chose last, where it may: connections are then one request's each, and nobody waits for another's.
    is_http1: bool,
    /// The one that is being made.
    coming: Option<Rc<Coming>>,
    /// Told when a stream has ended, or a session has.
    freed: Rc<Notify>,
}

/// A session that is being made, for those who wait for it.
#[derive(Default)]
struct Coming {
    over: Notify,
    /// Why none was made, where that is so.
    failed: OnceCell<(io::ErrorKind, String, bool)>,
}

/// What a request that found no room may expect.
enum Outlook {
    /// Another one makes a session.
    Coming(Rc<Coming>),
    /// A session may take more streams, and nobody knows yet.
    RoomSoon,
    /// The endpoint chooses connections that are one request's each.
    Alone,
    /// It has to make a session.
    Nothing,
}

/// Ends the waiting of others, however the making ends.
struct Making<'u> {
    upstreams: &'u Upstreams,
    endpoint: &'u Arc<Endpoint>,
    coming: Rc<Coming>,
}

impl<'u> Making<'u> {
    fn begin(upstreams: &'u Upstreams, endpoint: &'u Arc<Endpoint>) -> Self {
        let making = Self { upstreams, endpoint, coming: Rc::default() };
        upstreams.with_sessions(endpoint, |sessions| sessions.coming = Some(Rc::clone(&making.coming)));
        making
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.upstreams.with_sessions(self.endpoint, |sessions| sessions.coming = None);
        self.coming.over.notify_waiters();
    }
}

impl Coming {
    /// The failure of who has made it is that of all who have waited: each by itself would find the same out.
    fn outcome(&self) -> Result<(), ConnectError> {
        let Some((kind, why, tls)) = self.failed.get() else { return Ok(()) };
        let error = io::Error::new(*kind, why.clone());
        Err(if *tls { ConnectError::Tls(error) } else { ConnectError::Io(error) })
    }

    fn fail(&self, error: &ConnectError) {
        let kind = match error {
            ConnectError::Io(error) | ConnectError::Tls(error) => error.kind(),
            _ => io::ErrorKind::TimedOut,
        };
        // It fails once.
        let _ = self.failed.set((kind, error.to_string(), matches!(error, ConnectError::Tls(_))));
    }
}

impl Sessions {
    /// A stream of the session that has most of them and room for one more: the others may then be closed.
    fn join(&mut self, tls: Option<&Arc<tls::Client>>) -> Option<Slot> {
        self.open.retain(|session| session.is_open());
        let able = self.open.iter().filter(|session| session.suits(tls) && session.has_room());
        able.max_by_key(|session| session.streams()).map(Session::begin)
    }

    /// What to do where nothing has room now.
    fn outlook(&self, target: &Target<'_>) -> Outlook {
        let is_unsettled = |session: &Rc<Session>| session.suits(target.tls) && !session.is_settled();
        let alone = target.protocol == Protocol::Auto && self.is_http1;
        match &self.coming {
            Some(coming) if !alone => Outlook::Coming(Rc::clone(coming)),
            _ if self.open.iter().any(is_unsettled) => Outlook::RoomSoon,
            _ if alone => Outlook::Alone,
            _ => Outlook::Nothing,
        }
    }

    /// Whether nothing of it is left, and nobody waits to be told of more.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.coming.is_none() && Rc::strong_count(&self.freed) == 1
    }
}

impl Upstreams {
    /// A stream to the endpoint, if there is room for one.
    pub fn join(&self, endpoint: &Arc<Endpoint>, tls: Option<&Arc<tls::Client>>) -> Option<Slot> {
        self.pools.borrow_mut().get_mut(&identity(endpoint))?.sessions.join(tls)
    }

    fn at_once(&self, target: &Target<'_>) -> Option<Channel> {
        if let Some(slot) = self.join(target.endpoint, target.tls) {
            return Some(Channel::Http2(slot));
        }
        let kept = (target.protocol == Protocol::Auto).then(|| self.take(target.endpoint, target.tls)).flatten();
        kept.map(Channel::Http1)
    }

    fn with_sessions<T>(&self, endpoint: &Arc<Endpoint>, work: impl FnOnce(&mut Sessions) -> T) -> T {
        work(&mut pool_of(&mut self.pools.borrow_mut(), endpoint).sessions)
    }
}

/// A stream to an endpoint, where there was none to be had at once, or a connection of HTTP/1.1 where the endpoint may choose
/// and does, and whether its connection was there before. `ask` is called where a connection that is idle in another worker
/// could make room.
///
/// # Errors
/// None could be made in time, or as many requests wait as may.
pub async fn join_or_connect(
    upstreams: &Upstreams,
    target: &Target<'_>,
    circuit: Option<&Arc<Circuit>>,
    ask: impl Fn(),
) -> Result<(Channel, bool), ConnectError> {
    let mut waits_for_place = false;
    let joined = async {
        let mut place = None;
        loop {
            if let Some(channel) = upstreams.at_once(target) {
                return Ok((channel, true));
            }
            let (outlook, freed) =
                upstreams.with_sessions(target.endpoint, |s| (s.outlook(target), Rc::clone(&s.freed)));
            let alone = match outlook {
                Outlook::Coming(coming) => {
                    place = None;
                    coming.over.notified().await;
                    coming.outcome()?;
                    continue;
                }
                Outlook::RoomSoon => {
                    freed.notified().await;
                    continue;
                }
                Outlook::Alone => true,
                Outlook::Nothing => false,
            };
            if let (Some(circuit), None) = (circuit, &place) {
                place = upstreams.place_at_once(circuit);
                if place.is_none() {
                    waits_for_place = true;
                    place = wait_for_place(circuit, &freed, &ask).await?;
                    waits_for_place = false;
                    continue;
                }
            }
            let making = (!alone).then(|| Making::begin(upstreams, target.endpoint));
            return make(upstreams, target, place.take(), (&freed, making)).await.map(|channel| (channel, false));
        }
    };
    tokio::time::timeout(target.timeout, joined).await.map_err(|_| match waits_for_place {
        true => ConnectError::Full,
        false => ConnectError::Timeout(target.timeout),
    })?
}

/// Waits for a place, or for a stream's end.
async fn wait_for_place(
    circuit: &Arc<Circuit>,
    freed: &Notify,
    ask: &impl Fn(),
) -> Result<Option<Place>, ConnectError> {
    let (_counted, idle) = circuit.wait()?;
    if idle {
        ask();
    }
    tokio::select! {
        biased;
        () = freed.notified() => Ok(None),
        place = circuit.next_place() => Ok(Some(place?)),
    }
}

/// Makes a connection, which all who come meanwhile wait for where there is a `making`.
async fn make(
    upstreams: &Upstreams,
    target: &Target<'_>,
    place: Option<Place>,
    (freed, making): (&Rc<Notify>, Option<Making<'_>>),
) -> Result<Channel, ConnectError> {
    let made = connect::either(target, place, freed).await;
    let channel = upstreams.with_sessions(target.endpoint, |sessions| match made {
        Ok(Made::Http1(connection)) => {
            sessions.is_http1 = true;
            Ok(Channel::Http1(connection))
        }
        Ok(Made::Http2(session)) => {
            sessions.is_http1 = false;
            // Its own stream first: others take what is left.
            let slot = session.begin();
            sessions.open.push(session);
            Ok(Channel::Http2(slot))
        }
        Err(error) => Err(error),
    });
    if let (Err(error), Some(making)) = (&channel, &making) {
        making.coming.fail(error);
    }
    channel
}
