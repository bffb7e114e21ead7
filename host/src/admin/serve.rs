//! Connections of the admin API: accepted only while there is room, closed where the client is slow, and each request
//! handed to the resource it names. Runs on the control thread; it must never compile a plugin or touch a disk there.

use std::{
    cell::{Cell, OnceCell, RefCell},
    convert::Infallible,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use witgate_policy::Instances;

use super::{
    access,
    body::Sent,
    clusters, config, drain, endpoints, explain, listeners, metrics,
    paths::Resource,
    plugins, probes, query,
    reply::{ApiError, Reply},
    routes,
    seats::{Answer, Seat, Seats},
    socket::{Listener, Stream},
    spares::{self, Spares},
    upload,
    wire::{self, HEAD_BYTES, Wire},
};
use crate::control::{Control, Started};

/// Connections at once; beyond them, one that is idle gives way to one that comes.
const CONNECTIONS: usize = 64;

/// Time for a request's head, and for silence between two requests: callers are near, and none is typing.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// Uploads that are read and compiled at once: each may hold `max_upload` bytes and a core.
const UPLOADS: usize = 2;

/// Activations, rollbacks and removals at once. Apart from uploads, so that a slow upload never keeps anybody from
/// rolling back.
const CHANGES: usize = 2;

/// How long a change waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries after accepting failed (out of file descriptors, for one).
const BACK_OFF: Duration = Duration::from_millis(100);

/// What all requests share. One a proxy, on the control thread.
pub(super) struct Desk {
    pub(super) control: Arc<Control>,
    token: String,
    /// For explanations.
    pub(super) instances: RefCell<Instances>,
    uploads: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    /// When a wrong token was last in the log.
    warned: Cell<Option<Instant>>,
}

/// Where the desk stands once there is a proxy to ask and to change.
struct Office {
    desk: OnceCell<Rc<Desk>>,
    started: Started,
    token: String,
}

/// One request that was let in.
pub(super) struct Call {
    pub(super) desk: Rc<Desk>,
    /// Who asks, in words for the log.
    pub(super) peer: Arc<str>,
    pub(super) head: Parts,
    pub(super) body: Incoming,
}

/// A connection's place among the others.
#[derive(Clone)]
struct Guest {
    peer: Arc<str>,
    seat: Rc<Seat>,
    /// Whether it has one of the [`Spares`], which others wait for.
    lent: bool,
}

/// Accepts and serves until dropped.
pub(super) async fn run(listener: Listener, started: Started, token: String) {
    let office = Rc::new(Office { desk: OnceCell::new(), started, token });
    let (seats, spares) = (Seats::new(CONNECTIONS), Rc::new(Spares::default()));
    loop {
        spares.refill();
        let (accepted, lent) = match listener.accept().await {
            Err(error) if spares::are_wanted(&error) && spares.release() => match listener.accept_now().await {
                Some(accepted) => (accepted, true),
                None => continue,
            },
            accepted => (accepted, false),
        };
        match accepted {
            Ok((stream, peer)) => {
                let guest = Guest { peer: Arc::from(peer), seat: seats.take().await, lent };
                let connection = serve(stream, guest, Rc::clone(&office));
                let spares = Rc::clone(&spares);
                tokio::task::spawn_local(async move {
                    connection.await;
                    spares.refill();
                });
            }
            // The next one of the spares, if that was the reason.
            Err(error) if lent && spares::are_wanted(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the admin API cannot accept a connection");
                if spares::are_wanted(&error) {
                    seats.evict();
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn serve(stream: Box<dyn Stream>, guest: Guest, office: Rc<Office>) {
    let (peer, seat) = (Arc::clone(&guest.peer), Rc::clone(&guest.seat));
    let wire = TokioIo::new(Wire::new(stream, Rc::clone(&seat)));
    let service = service_fn(move |request: Request<Incoming>| {
        let (office, guest) = (Rc::clone(&office), guest.clone());
        async move { Ok::<_, Infallible>(reply(&office, guest, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(wire, service);
    tokio::select! {
        // First: what has not been read yet may be sent again.
        biased;
        () = seat.lost() => tracing::debug!(peer = &*peer, "admin connection gave way to another one"),
        ended = connection => if let Err(error) = ended {
            tracing::debug!(peer = &*peer, %error, "admin connection ended");
        },
    }
}

async fn reply(office: &Office, guest: Guest, request: Request<Incoming>) -> Response<Answer> {
    let (busy, noted) = (guest.seat.busy(), guest.seat.noted());
    if request.headers().contains_key(header::TRANSFER_ENCODING) && !wire::has_one_length(&noted) {
        let error = "the request has both Content-Length and Transfer-Encoding, so that it could end in two places";
        let error = ApiError::bad_request(error).header(header::CONNECTION, "close");
        return error.into_reply().map(|body| busy.with(body));
    }
    // Who has no token must not keep a connection that others could need.
    let keeps = !guest.lent && access::require_token(request.headers(), &office.token).is_ok();
    // Nor one to a process that has handed over: the next request is the other's.
    let keeps = keeps && !office.is_handed_over();
    let mut reply = match office.desk() {
        Some(desk) => handle(desk, guest.peer, request).await,
        None => starting(&request),
    };
    if !keeps {
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply.map(|body| busy.with(body))
}

/// Before there is a desk: it lives, and that is all that can be said.
fn starting<B>(request: &Request<B>) -> Reply {
    match Resource::find(request.uri().path()).filter(|resource| resource.takes(request.method())) {
        Some(Resource::Livez) => probes::live(),
        Some(Resource::Readyz) => probes::starting(),
        _ => {
            let error = "the proxy is starting; try again in a few seconds";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error).header(header::RETRY_AFTER, "1").into_reply()
        }
    }
}

async fn handle(desk: Rc<Desk>, peer: Arc<str>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let answered = match admit(&desk, &peer, &head) {
        Ok(resource) => answer(resource, Call { desk, peer, head, body }).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(ApiError::into_reply)
}

/// What a request names, if it may have it. Decided before its body is looked at.
fn admit(desk: &Desk, peer: &str, head: &Parts) -> Result<Resource, ApiError> {
    access::refuse_browsers(&head.headers)?;
    let path = head.uri.path();
    let resource = Resource::find(path);
    if !resource.as_ref().is_some_and(Resource::is_open) {
        access::require_token(&head.headers, &desk.token).inspect_err(|error| desk.warn(peer, path, error))?;
    }
    let Some(resource) = resource else {
        let bare = path.trim_end_matches('/');
        let meant = if bare != path && Resource::find(bare).is_some() {
            format!("; did you mean {bare}, without a slash at its end?")
        } else {
            "; docs/admin.md lists what there is".to_owned()
        };
        return Err(ApiError::not_found(format!("there is no {path}{meant}")));
    };
    if !resource.takes(&head.method) {
        let methods = resource.methods();
        let error = format!("{path} does not take {}; it takes {methods}", head.method);
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, error).header(header::ALLOW, methods));
    }
    Ok(resource)
}

/// The resource's answer. Which methods come here, `paths` has said.
async fn answer(resource: Resource, call: Call) -> Result<Reply, ApiError> {
    if !resource.has_parameters(&call.head.method) {
        let [] = query::switches(call.head.uri.query(), [])?;
    }
    match resource {
        Resource::Livez => Ok(probes::live()),
        Resource::Readyz => Ok(probes::ready(&call.desk.control)),
        Resource::Metrics => metrics::show(&call.desk.control),
        Resource::Listeners => Ok(listeners::list(&call.desk.control)),
        Resource::Routes => Ok(routes::list(&call.desk.control)),
        Resource::Clusters => Ok(clusters::list(&call.desk.control)),
        Resource::Cluster(name) => clusters::show(&call.desk.control, &name),
        Resource::Endpoints(cluster) => endpoints::replace(call, cluster).await,
        Resource::Endpoint(cluster, address) => endpoints::change(call, cluster, address).await,
        Resource::Plugins => Ok(plugins::list(&call.desk.control)),
        Resource::Plugin(name) if call.head.method == Method::PUT => upload::put(call, name).await,
        Resource::Plugin(name) if call.head.method == Method::DELETE => plugins::remove(call, name).await,
        Resource::Plugin(name) => plugins::show(&call.desk.control, &name),
        Resource::Activate(name) => plugins::activate(call, name).await,
        Resource::Rollback(name) => plugins::rollback(call, name).await,
        Resource::Explain => explain::explain(call).await,
        Resource::Config if call.head.method == Method::PUT => config::replace(call).await,
        Resource::Config => Ok(config::show(&call.desk.control)),
        Resource::Drain => Ok(drain::begin(&call)),
    }
}

impl Office {
    fn is_handed_over(&self) -> bool {
        self.desk.get().is_some_and(|desk| desk.control.drain.is_handed_over())
    }

    /// None until the proxy has started.
    fn desk(&self) -> Option<Rc<Desk>> {
        if self.desk.get().is_none() {
            let control = self.started.borrow().clone()?;
            let desk = Rc::new(Desk {
                control,
                token: self.token.clone(),
                instances: RefCell::new(Instances::default()),
                uploads: Arc::new(Semaphore::new(UPLOADS)),
                changes: Arc::new(Semaphore::new(CHANGES)),
                warned: Cell::new(None),
            });
            tokio::task::spawn_local(explain::forget_old_plugins(Rc::clone(&desk)));
            let _ = self.desk.set(desk); // It was none a moment ago, on this thread.
        }
        self.desk.get().cloned()
    }
}

impl Desk {
    /// Leave to upload.
    ///
    /// # Errors
    /// 503 where others hold all permits for too long.
    pub(super) async fn upload_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        permit(&self.uploads, "uploads").await
    }

    /// Leave to change what is live.
    ///
    /// # Errors
    /// As [`Desk::upload_permit`].
    pub(super) async fn change_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        permit(&self.changes, "changes").await
    }

    /// Says that somebody was refused, once a second at most: a guesser must not fill the log.
    fn warn(&self, peer: &str, path: &str, error: &ApiError) {
        let now = Instant::now();
        if self.warned.get().is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            self.warned.set(Some(now));
            tracing::warn!(peer, path, error = error.message(), "admin request refused");
        }
    }
}

impl Call {
    /// The request's body, to be read.
    pub(super) fn sent(self) -> Sent {
        Sent { headers: self.head.headers, body: self.body }
    }
}

async fn permit(of: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, ApiError> {
    match timeout(PATIENCE, Arc::clone(of).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => {
            let error = format!("too many {what} at once; try again in a few seconds");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error).header(header::RETRY_AFTER, "5"))
        }
    }
}
