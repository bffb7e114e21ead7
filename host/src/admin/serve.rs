//! Connections of the admin API: accepted only while there is room, closed where the client is slow, and each request
//! handed to the resource it names. Runs on the control thread; it must never compile a plugin or touch a disk there.

use std::{
    cell::{OnceCell, RefCell},
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
    time::timeout,
};
use witgate_policy::Instances;

use super::{
    access::{Access, Right},
    audit::{Asked, Caller, Refusals},
    body::Sent,
    clusters, config, drain, endpoints, explain, listeners, metrics,
    paths::Resource,
    plugins, probes, query,
    reply::{ApiError, Reply},
    routes,
    seats::{Answer, Seat, Seats},
    secure::{self, Secured},
    socket::{Listener, Stream},
    spares::{self, Spares},
    upload,
    wire::{self, HEAD_BYTES, Wire},
    work::Change,
};
use crate::{
    control::{Control, Started},
    tls::Server,
};

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
    /// For explanations.
    pub(super) instances: RefCell<Instances>,
    uploads: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

/// Where the desk stands once there is a proxy to ask and to change.
struct Office {
    desk: OnceCell<Rc<Desk>>,
    started: Started,
    access: Access,
    refusals: Refusals,
}

/// One request that was let in.
pub(super) struct Call {
    pub(super) desk: Rc<Desk>,
    /// Who asks.
    pub(super) caller: Caller,
    pub(super) right: Right,
    pub(super) head: Parts,
    pub(super) body: Incoming,
}

/// A connection's place among the others.
#[derive(Clone)]
struct Guest {
    /// The other end, in words for the log.
    peer: Arc<str>,
    seat: Rc<Seat>,
    /// Whether it has one of the [`Spares`], which others wait for.
    lent: bool,
    /// None: without TLS.
    secured: Option<Secured>,
}

/// Accepts and serves until dropped.
pub(super) async fn run(listener: Listener, started: Started, access: Access) {
    let refusals = Refusals::default();
    let office = Rc::new(Office { desk: OnceCell::new(), started, access, refusals });
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
                let guest = Guest { peer: Arc::from(peer), seat: seats.take().await, lent, secured: None };
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
    let connection = async {
        let (stream, secured) = match office.tls() {
            None => (stream, None),
            Some(server) => {
                let (stream, secured) = secure::accept(stream, server, HEAD_TIME).await.inspect_err(|error| {
                    if error.is_about_certificate() {
                        office.refusals.handshake(&guest.peer, &error.to_string());
                    }
                })?;
                (stream, Some(secured))
            }
        };
        let guest = Guest { secured, ..guest };
        let wire = TokioIo::new(Wire::new(stream, Rc::clone(&guest.seat)));
        let service = service_fn(|request: Request<Incoming>| {
            let (office, guest) = (Rc::clone(&office), guest.clone());
            async move { Ok::<_, Infallible>(reply(&office, guest, request).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
        http.serve_connection(wire, service).await.map_err(Ended::Http)
    };
    tokio::select! {
        // First: what has not been read yet may be sent again.
        biased;
        () = seat.lost() => tracing::debug!(peer = &*peer, "admin connection gave way to another one"),
        ended = connection => if let Err(error) = ended {
            tracing::debug!(peer = &*peer, %error, "admin connection ended");
        },
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Handshake(#[from] secure::Failed),
    #[error("{0}")]
    Http(hyper::Error),
}

async fn reply(office: &Office, guest: Guest, request: Request<Incoming>) -> Response<Answer> {
    let (busy, noted) = (guest.seat.busy(), guest.seat.noted());
    if request.headers().contains_key(header::TRANSFER_ENCODING) && !wire::has_one_length(&noted) {
        let error = "the request has both Content-Length and Transfer-Encoding, so that it could end in two places";
        let error = ApiError::bad_request(error).header(header::CONNECTION, "close");
        return error.into_reply().map(|body| busy.with(body));
    }
    let right = office.access.right(request.headers());
    // Who has no token must not keep a connection that others could need; nor one that was secured otherwise than now.
    let keeps = !guest.lent && right.is_ok() && guest.is_as_secure_as(office.tls().as_ref());
    // Nor one to a process that has handed over: the next request is the other's.
    let keeps = keeps && !office.is_handed_over();
    let mut reply = handle(office, &guest, right, request).await;
    if !keeps {
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply.map(|body| busy.with(body))
}

async fn handle(office: &Office, guest: &Guest, right: Result<Right, ApiError>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let caller = Caller {
        who: right.as_ref().map_or("unknown", |right| right.name()),
        certificate: guest.secured.as_ref().and_then(|secured| secured.certificate.clone()),
        peer: Arc::clone(&guest.peer),
    };
    let resource = Resource::find(head.uri.path());
    let addressed = guest.is_still_believed(office).and_then(|()| office.access.hosts.check(&head, resource.as_ref()));
    let Some(desk) = office.desk() else {
        return addressed.map_or_else(ApiError::into_reply, |()| starting(&head, resource));
    };
    let admitted = addressed.and_then(|()| admit(right, &head, resource));
    let answered = match admitted {
        Ok((resource, right)) => answer(resource, Call { desk, caller, right, head, body }).await,
        Err(error) => {
            if error.is_refusal() {
                office.refusals.request(&caller, &Asked::of(&head), &error);
            }
            Err(error)
        }
    };
    answered.unwrap_or_else(ApiError::into_reply)
}

/// Before there is a desk: it lives, and that is all that can be said.
fn starting(head: &Parts, resource: Option<Resource>) -> Reply {
    match resource.filter(|resource| resource.takes(&head.method)) {
        Some(Resource::Livez) => probes::live(),
        Some(Resource::Readyz) => probes::starting(),
        _ => {
            let error = "the proxy is starting; try again in a few seconds";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error).header(header::RETRY_AFTER, "1").into_reply()
        }
    }
}

/// What a request names, if it may have it. Decided before its body is looked at.
fn admit(
    right: Result<Right, ApiError>,
    head: &Parts,
    resource: Option<Resource>,
) -> Result<(Resource, Right), ApiError> {
    let path = head.uri.path();
    let is_open = resource.as_ref().is_some_and(Resource::is_open);
    let right = if is_open { right.unwrap_or(Right::Read) } else { right? };
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
    right.require(&resource, &head.method)?;
    Ok((resource, right))
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
        self.desk().is_some_and(|desk| desk.control.drain.is_handed_over())
    }

    /// What is spoken below HTTP.
    fn tls(&self) -> Option<Arc<Server>> {
        self.desk().map_or_else(|| self.access.tls.clone(), |desk| desk.control.live.load().tls.admin.clone())
    }

    /// None until the proxy has started.
    fn desk(&self) -> Option<Rc<Desk>> {
        if self.desk.get().is_none() {
            let control = self.started.borrow().clone()?;
            let desk = Rc::new(Desk {
                control,
                instances: RefCell::new(Instances::default()),
                uploads: Arc::new(Semaphore::new(UPLOADS)),
                changes: Arc::new(Semaphore::new(CHANGES)),
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
}

impl Guest {
    /// Whether who comes now would be secured in the same way.
    fn is_as_secure_as(&self, now: Option<&Arc<Server>>) -> bool {
        match (&self.secured, now) {
            (None, None) => true,
            (Some(secured), Some(now)) => Arc::ptr_eq(&secured.server, now),
            _ => false,
        }
    }

    /// A certificate that was shown to authorities who are no longer believed opens nothing any more.
    ///
    /// # Errors
    /// 421, so that who has another one connects again.
    fn is_still_believed(&self, office: &Office) -> Result<(), ApiError> {
        match (&self.secured, office.tls()) {
            (Some(secured), Some(now)) if !secured.server.believes_as(&now) => {
                let error = "other authorities sign clients' certificates by now: connect again";
                Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, error))
            }
            _ => Ok(()),
        }
    }
}

impl Call {
    /// A change that this is about to make.
    pub(super) fn change(&self, what: &'static str, of: String) -> Change {
        Change { caller: self.caller.clone(), asked: Asked::of(&self.head), what, of }
    }

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
