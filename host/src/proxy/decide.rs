//! Head to [`Plan`]: which cluster, which key. Every step is "the plugin, else native".

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use witgate_core::{affinity, answer::RouteAction, request::Head};

use super::{Body, ask, ask::Asker};
use crate::{
    generation::{Action, Affinity, Generation, RoutePlan, Split},
    reason::Reason,
};

/// What is to be done with a request.
pub enum Plan {
    /// Answered here.
    Reply(Box<Response<Body>>),
    /// Sent on.
    Forward(Forward),
}

/// Where a request goes.
#[derive(Debug, Default)]
pub struct Forward {
    /// Index into the generation's clusters.
    pub cluster: usize,
    /// The affinity key's hash.
    pub hash: Option<u64>,
    /// The endpoint that the client's own sticky cookie names.
    pub sticky: Option<u64>,
    /// Index of the route whose sticky cookie is to be issued where the client has none, or has one whose endpoint is
    /// gone.
    pub issue_for: Option<usize>,
    /// A cookie that a plugin wants set.
    pub set_cookie: Option<HeaderValue>,
}

/// Decides about a request of the route with this index. What a router wants changed in the head is changed.
pub fn plan(
    generation: &Generation,
    asker: &mut Asker<'_>,
    index: usize,
    head: &mut Box<Head>,
) -> Result<Plan, Reason> {
    let route = generation.routes.plans.get(index).ok_or(Reason::NoRoute)?;
    let cluster = match ask::router(asker, route, generation, head)? {
        RouteAction::Respond { status, headers, body } => {
            let mut response = reply(status, None, Bytes::from(body));
            if headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
                response.headers_mut().remove(header::CONTENT_TYPE);
            }
            for (name, value) in headers {
                response.headers_mut().append(name, value);
            }
            return Ok(Plan::Reply(Box::new(response)));
        }
        RouteAction::Cluster(cluster) => cluster,
        RouteAction::Pass => match &route.action {
            Action::Reply(own) => {
                let mut response = reply(own.status, own.location.as_ref(), own.body.clone());
                if let Some(extras) = &route.extras {
                    extras.response_headers.apply(response.headers_mut());
                }
                return Ok(Plan::Reply(Box::new(response)));
            }
            Action::Cluster(cluster) => *cluster,
            Action::Split(split) => choose_split(asker, route, split, head)?,
        },
    };
    let mut forward = Forward { cluster, ..Forward::default() };
    stick(asker, route, index, head, &mut forward)?;
    Ok(Plan::Forward(forward))
}

fn choose_split(
    asker: &mut Asker<'_>,
    route: &RoutePlan,
    split: &Split,
    head: &mut Box<Head>,
) -> Result<usize, Reason> {
    let choice = match ask::splitter(asker, route, split, head)? {
        Some(choice) => choice,
        None => split.native.choose(head, asker.random()),
    };
    split.clusters.get(choice).copied().ok_or(Reason::NoHealthyEndpoint)
}

fn stick(
    asker: &mut Asker<'_>,
    route: &RoutePlan,
    index: usize,
    head: &mut Box<Head>,
    forward: &mut Forward,
) -> Result<(), Reason> {
    if let Some(stick) = ask::affinity(asker, route, head)? {
        forward.hash = Some(stick.hash);
        forward.set_cookie = stick.set_cookie;
        return Ok(());
    }
    match route.affinity.as_deref() {
        Some(Affinity::By(keys)) => forward.hash = affinity::by_key(keys, head),
        Some(Affinity::Cookie(cookie)) => {
            forward.sticky = cookie.read(head, super::unix_time());
            forward.issue_for = Some(index);
        }
        None => {}
    }
    Ok(())
}

fn reply(status: StatusCode, location: Option<&HeaderValue>, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body.clone()));
    *response.status_mut() = status;
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location.clone());
    }
    if !body.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response
}
