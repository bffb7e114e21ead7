//! `PUT /v1/clusters/{c}/endpoints` and `PATCH /v1/clusters/{c}/endpoints/{address}`: changes that hold until the next
//! configuration.

use http::StatusCode;
use serde::Deserialize;
use witgate_core::{
    config::{self, MAX_WEIGHT, WantedEndpoint},
    endpoint::State,
};

use super::{
    body::Limit,
    clusters,
    reply::{ApiError, Reply},
    serve::Call,
};
use crate::control::{Control, EndpointChange};

/// Bytes of a set of endpoints: some 100,000 of them.
const SET: Limit<'static> = Limit { bytes: 16 << 20, set_by: "a set of endpoints" };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    endpoints: Vec<WantedEndpoint>,
}

const SET_EXAMPLE: &str = r#"{"endpoints": [{"address": "10.0.3.11:8080", "weight": 1}]}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    state: Option<Word>,
    weight: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Drain,
    Active,
}

const WISH_EXAMPLE: &str = r#"{"state": "drain"}, {"state": "active"} or {"weight": 10}"#;

/// Replaces the set. 200 with the cluster once new requests go to it.
pub(super) async fn replace(call: Call, cluster: String) -> Result<Reply, ApiError> {
    let desk = call.desk.clone();
    let change = call.change("endpoints", cluster.clone());
    desk.control.live.load().find_cluster(&cluster).map_err(ApiError::not_found)?;
    let set: Set = call.sent().json_within(SET, SET_EXAMPLE).await?;
    let endpoints = config::endpoints(set.endpoints).map_err(unprocessable)?;
    let permit = desk.change_permit().await?;
    let replace = move |control: &Control, cluster: &str| control.replace_endpoints(cluster, endpoints);
    change.run(&desk.control, permit, replace).await?;
    clusters::show(&desk.control, &cluster)
}

/// Changes one. 200 with the cluster once new requests follow.
pub(super) async fn change(call: Call, cluster: String, address: String) -> Result<Reply, ApiError> {
    let desk = call.desk.clone();
    let change = call.change("endpoint", format!("{cluster} {address}"));
    desk.control.live.load().find_cluster(&cluster).map_err(ApiError::not_found)?;
    let Wish { state, weight } = call.sent().json(WISH_EXAMPLE).await?;
    let state = state.map(|word| match word {
        Word::Drain => State::Draining,
        Word::Active => State::Active,
    });
    if state.is_none() && weight.is_none() {
        return Err(ApiError::bad_request(format!("nothing is to be changed; expected JSON like {WISH_EXAMPLE}")));
    }
    if let Some(weight) = weight.filter(|weight| *weight > MAX_WEIGHT) {
        return Err(unprocessable(format!("weight: {weight} is out of range, 0 to {MAX_WEIGHT}")));
    }
    let permit = desk.change_permit().await?;
    let wish = EndpointChange { state, weight };
    let of = cluster.clone();
    let work = move |control: &Control, _: &str| control.change_endpoint(&of, &address, wish).map(|()| wish);
    change.run(&desk.control, permit, work).await?;
    clusters::show(&desk.control, &cluster)
}

fn unprocessable(error: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error)
}
