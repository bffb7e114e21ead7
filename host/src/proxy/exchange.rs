//! One request's accounts: what was begun when its head came and must be settled exactly once when it ends, however it
//! ends. Dropping an exchange settles it as aborted.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use witgate_core::{
    config::ListenerLimits,
    endpoint::{Endpoint, InFlight, Outcome},
    limits::Counted,
    outlier,
};

use super::{grpc, logged::Logged};
use crate::{
    drain::Phase,
    generation::{Cluster, Delivery, Extras, Held, RoutePlan},
    reason::Reason,
    telemetry::{
        RouteMetrics,
        access_log::{AccessLog, Line},
    },
    upstream::{ConnectError, Connection},
    worker::{
        Worker,
        conn::{Conn, Signal},
    },
};

/// One request's accounts.
pub struct Exchange {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    /// The world of this request, and the route that matched, whose metrics it counts for.
    generation: Rc<Held>,
    route: Option<usize>,
    /// When its head was accepted; none where it was not.
    began: Option<Instant>,
    version: Version,
    /// How many requests the connection has carried, this one included.
    nth: u64,
    /// None until the response's head is known.
    status: Option<StatusCode>,
    /// Index of the cluster whose endpoint is tried.
    cluster: usize,
    /// Counts the request at its endpoint while it lives.
    in_flight: Option<InFlight>,
    /// Counts it in the cluster while it lives, where requests are limited there.
    admitted: Option<Counted>,
    settled: bool,
    /// Whether more of the request was to come when it was answered.
    early: bool,
    /// Whether it asks for another protocol, and may.
    upgrade: bool,
    /// What its stream will be where it asks for that by HTTP/2.
    extended: Option<Box<OnUpgrade>>,
    /// Whether it is a CONNECT.
    connect: bool,
    /// Whether it is a call of gRPC.
    call: bool,
    /// Whether its client waits for less long than the route does.
    hurried: bool,
    /// For the access log; none where there is none.
    logged: Option<Box<Logged>>,
}

/// What is held of a request's accounts while its connection goes on in another protocol: not the generation, as such a
/// connection may outlive many. Dropping it settles them.
pub struct Switched {
    worker: Rc<Worker>,
    metrics: Arc<RouteMetrics>,
    status: StatusCode,
    /// From the request's head to the switch.
    took: Duration,
    /// Where others are in flight with it.
    conn: Option<Rc<Conn>>,
    _in_flight: Option<InFlight>,
    _admitted: Option<Counted>,
}

impl Exchange {
    /// Opens the accounts of a request whose head has just come.
    pub fn begin(worker: &Rc<Worker>, conn: &Rc<Conn>, version: Version) -> Self {
        worker.deadlines.enter();
        Self {
            worker: Rc::clone(worker),
            conn: Rc::clone(conn),
            generation: worker.live.load_for(conn.socket),
            route: None,
            began: None,
            version,
            nth: conn.begin(),
            status: None,
            cluster: 0,
            in_flight: None,
            admitted: None,
            settled: false,
            early: false,
            upgrade: false,
            extended: None,
            connect: false,
            call: false,
            hurried: false,
            logged: None,
        }
    }

    /// A line is written when it ends.
    pub fn log(&mut self, logged: Box<Logged>) {
        self.logged = Some(logged);
    }

    /// For the access log, where there is one.
    pub fn tell(&mut self, tell: impl FnOnce(&mut Logged)) {
        if let Some(logged) = &mut self.logged {
            tell(logged);
        }
    }

    /// The proxy answers by itself.
    pub fn refused(&mut self, reason: Reason) {
        self.worker.count(reason);
        self.tell(|logged| logged.because(reason));
    }

    /// The head is a right one, and is looked at from `now` on.
    pub fn accepted(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// Charges the request to the route that matched.
    pub fn routed(&mut self, route: usize) {
        self.route = Some(route);
    }

    /// The cluster lets it in.
    pub fn admitted(&mut self, counted: Option<Counted>) {
        self.admitted = counted;
    }

    /// An endpoint of the cluster with this index is being tried.
    pub fn trying(&mut self, cluster: usize, in_flight: InFlight) {
        self.cluster = cluster;
        self.tell(|logged| {
            logged.trying();
            logged.at(in_flight.endpoint());
        });
        self.in_flight = Some(in_flight);
    }

    /// Records how the try ended. Where failures have come to be too many in a row, whoever ejects is told.
    pub fn tried(&self, now: Instant, latency: Option<Duration>, outcome: Outcome) {
        if let (Some(logged), Some(latency)) = (&self.logged, latency) {
            logged.head_came(latency);
        }
        if let Some(endpoint) = self.endpoint() {
            self.tried_at(endpoint, now, latency, outcome);
        }
    }

    /// The same, of a try beside the one that is in the accounts.
    pub fn tried_at(&self, endpoint: &Endpoint, now: Instant, latency: Option<Duration>, outcome: Outcome) {
        let cluster = self.generation.clusters.get(self.cluster);
        record(&self.worker, cluster.map(|cluster| &**cluster), endpoint, now, latency, outcome);
    }

    /// The cluster whose endpoint is tried.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.generation.clusters.get(self.cluster).map(|cluster| &**cluster)
    }

    /// The try's own account, in the hands of who connects; none while nothing is asked of an endpoint.
    pub fn in_flight(&mut self) -> &mut Option<InFlight> {
        &mut self.in_flight
    }

    /// The try that counts from now on is another.
    pub fn account(&mut self, in_flight: Option<InFlight>) {
        if let (Some(logged), Some(in_flight)) = (&mut self.logged, &in_flight) {
            logged.at(in_flight.endpoint());
        }
        self.in_flight = in_flight;
    }

    /// The endpoint that is being tried.
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.in_flight.as_ref().map(InFlight::endpoint)
    }

    /// Charges a timeout to the endpoint that was being tried.
    pub fn blame(&mut self) {
        self.tried(Instant::now(), None, Outcome::Local);
        self.in_flight = None;
    }

    /// The time for all of the request is over. Where its client chose that, no endpoint is to blame: else clients could have
    /// any ejected.
    pub fn overdue(&mut self) {
        if self.hurried {
            self.in_flight = None;
        } else {
            self.blame();
        }
    }

    /// It is a call of gRPC.
    pub fn call(&mut self) {
        self.call = true;
    }

    /// Whether it is.
    pub fn is_call(&self) -> bool {
        self.call
    }

    /// How long the request may take, where the route gives it so long: no longer than its client waits.
    pub fn until(&mut self, route: Option<Duration>, headers: &HeaderMap) -> Option<Duration> {
        let client = self.call.then(|| grpc::timeout(headers)).flatten();
        self.hurried = client.is_some_and(|client| route.is_none_or(|route| client < route));
        if self.hurried { client } else { route }
    }

    /// How the request is delivered, where the route says anything of it.
    pub fn delivery(&self) -> Option<&Delivery> {
        self.plan()?.delivery.as_deref()
    }

    /// What few routes have, and this one may have.
    pub fn extras(&self) -> Option<&Extras> {
        self.plan()?.extras.as_deref()
    }

    fn plan(&self) -> Option<&RoutePlan> {
        self.route.and_then(|route| self.generation.routes.plans.get(route))
    }

    /// The one generation of this request.
    pub fn generation(&self) -> &Rc<Held> {
        &self.generation
    }

    /// The client's connection.
    pub fn conn(&self) -> &Rc<Conn> {
        &self.conn
    }

    /// Whose request it is.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The answer comes before all of the request did. Where its connection carries one request after the other, the rest is
    /// not waited for, and the connection is closed behind the answer: which it has to say.
    pub fn answered_early(&mut self) {
        self.early = self.version != Version::HTTP_2;
    }

    /// The request asks for another protocol, and may.
    pub fn upgrade(&mut self) {
        self.upgrade = true;
    }

    /// Whether it does: such a request goes to one endpoint at a time, and nowhere beside.
    pub fn may_upgrade(&self) -> bool {
        self.upgrade
    }

    /// It is a CONNECT.
    pub fn connect(&mut self) {
        self.connect = true;
    }

    /// Whether it is.
    pub fn is_connect(&self) -> bool {
        self.connect
    }

    /// It asks for that by HTTP/2, where its stream is known.
    pub fn extended(&mut self, stream: Option<Box<OnUpgrade>>) {
        self.extended = stream;
    }

    /// Whether it does.
    pub fn is_extended(&self) -> bool {
        self.extended.is_some()
    }

    /// What its stream will be.
    pub fn take_extended(&mut self) -> Option<Box<OnUpgrade>> {
        self.extended.take()
    }

    /// The endpoint has switched protocols, for a stream among others or for the whole connection. What is held from now on,
    /// and for how long nothing may come then.
    pub fn switch(mut self, now: Instant, is_stream: bool) -> (Switched, Duration) {
        self.settled = true;
        self.worker.deadlines.leave();
        let status = if self.connect { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        self.status = Some(status);
        self.worker.cells().upgraded.up();
        if let Some(logged) = self.logged.take() {
            self.report(logged, self.took(now));
        }
        let switched = Switched {
            worker: Rc::clone(&self.worker),
            metrics: Arc::clone(self.metrics()),
            status,
            took: self.took(now),
            conn: is_stream.then(|| Rc::clone(&self.conn)),
            _in_flight: self.in_flight.take(),
            _admitted: self.admitted.take(),
        };
        let limits = self.generation.listener(self.conn.socket).map(|listener| listener.limits.idle_timeout);
        (switched, limits.unwrap_or_else(|| ListenerLimits::default().idle_timeout))
    }

    /// The response's head is known; it gets the last word on what concerns the client's connection.
    pub fn answered(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        self.status = Some(status);
        let limits = self.generation.listener(self.conn.socket).map(|l| &l.limits);
        let last = limits.and_then(|l| l.requests_per_connection).is_some_and(|most| self.nth >= most)
            || self.worker.drain.phase() >= Phase::Drain
            || self.conn.signal() >= Signal::Finish
            || self.early;
        if self.version == Version::HTTP_2 {
            // HTTP/2 has frames for it, and forbids the header (RFC 9113 §8.2.2): a GOAWAY, after which what is in
            // flight still finishes.
            headers.remove(header::CONNECTION);
            if last {
                self.conn.ask(Signal::Finish);
            }
        } else if last {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The response was sent on whole; the connection that it came over can carry another request.
    pub fn complete(&mut self, now: Instant, connection: Option<Box<Connection>>) {
        if let Some(connection) = connection {
            self.worker.upstreams.give_back(connection);
        }
        self.settle(now);
    }

    /// The response ended in its middle: the endpoint broke off, or the route's timeout passed.
    pub fn cut_short(&mut self, reason: Reason) {
        self.tell(|logged| logged.because(reason));
        if reason == Reason::Timeout {
            self.overdue();
        } else {
            self.blame();
        }
        // What ends with its connection would look whole.
        if self.version < Version::HTTP_11 {
            self.conn.cut();
        }
        self.settle(Instant::now());
    }

    /// The client went away, or broke off its body.
    pub fn aborted(&mut self) {
        self.status = None;
        self.settle(Instant::now());
    }

    fn metrics(&self) -> &Arc<RouteMetrics> {
        self.plan().map_or(&self.worker.telemetry.unrouted, |route| &route.metrics)
    }

    fn took(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    fn settle(&mut self, now: Instant) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.worker.deadlines.leave();
        self.in_flight = None;
        self.admitted = None;
        let took = self.took(now);
        self.metrics().record(self.worker.id, self.status, took);
        self.conn.end();
        if let Some(logged) = self.logged.take() {
            self.report(logged, took);
        }
    }

    /// Apart, because most are told of nowhere.
    #[inline(never)]
    fn report(&self, mut logged: Box<Logged>, took: Duration) {
        let (generation, status) = (&self.generation, self.status);
        let wanted = |log: &&Arc<AccessLog>| log.wants(status.map(|status| status.as_u16()), || self.worker.random());
        let (log, traced) = (generation.access_log.as_ref().filter(wanted), logged.take_traced());
        if log.is_none() && traced.is_none() {
            return;
        }
        let cluster = logged.cluster().and_then(|cluster| generation.clusters.get(cluster));
        let line = Line {
            listener: generation.listener(self.conn.socket).map(|listener| listener.name.as_str()),
            duration: Some(took),
            route: self.plan().map(|route| &*route.name),
            cluster: cluster.map(|cluster| cluster.config.name.as_str()),
            ..logged.line(status, &self.conn)
        };
        if let Some(log) = log {
            self.worker.log(log, &line);
        }
        if let (Some(traced), Some(traces)) = (traced, &generation.traces) {
            traced.end(traces, &line, took);
        }
    }
}

/// Accounts for a request that never became one: the parser refused its head.
pub fn unread(worker: &Worker, conn: &Conn, reason: Reason) {
    worker.count(reason);
    let generation = worker.live.load_for(conn.socket);
    let status = reason.status().as_u16();
    if let Some(log) = generation.access_log.as_ref().filter(|log| log.wants(Some(status), || worker.random())) {
        let line = Line {
            peer: Some((conn.peer_value().as_bytes(), conn.peer().port())),
            listener: generation.listener(conn.socket).map(|listener| listener.name.as_str()),
            status: Some(status),
            error: Some(reason.word()),
            ..Line::default()
        };
        worker.log(log, &line);
    }
}

/// Tells of an endpoint that could not be connected to: of one that fails at TLS where everybody sees it, as that is the
/// operator's to mend.
pub fn tell_unconnected(worker: &Worker, cluster: &Cluster, endpoint: &Endpoint, error: &ConnectError) {
    let (cluster, endpoint) = (&cluster.config.name, endpoint.address());
    if matches!(error, ConnectError::Tls(_)) && worker.may_warn(Instant::now()) {
        tracing::warn!(cluster, endpoint, %error, "connect failed");
    } else {
        tracing::debug!(cluster, endpoint, %error, "connect failed");
    }
}

/// Records how a try at an endpoint of `cluster` ended, and tells whoever ejects where that was one failure too many.
pub fn record(
    worker: &Worker,
    cluster: Option<&Cluster>,
    endpoint: &Endpoint,
    now: Instant,
    latency: Option<Duration>,
    outcome: Outcome,
) {
    let counts = endpoint.record(now, latency, outcome);
    if outcome.is_success() {
        return;
    }
    let rules = cluster.and_then(|cluster| cluster.config.outlier.as_deref());
    if let Some(cause) = rules.and_then(|rules| outlier::by_row(rules, counts))
        && endpoint.accuse(cause)
    {
        worker.live.shared().note_observed();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.settled {
            self.aborted();
        }
    }
}

impl Switched {
    /// Whose it is.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        self.metrics.record(self.worker.id, Some(self.status), self.took);
        self.worker.cells().upgrades_ended.up();
        if let Some(conn) = &self.conn {
            conn.end();
        }
    }
}
