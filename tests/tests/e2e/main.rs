//! End-to-end tests by feature, in one binary so that they link once.

mod access_log;
mod admin;
mod circuit;
mod dns;
mod drain;
mod examples;
#[path = "../../fixtures/mod.rs"]
mod fixtures;
mod framing;
mod grpc_health;
mod health;
mod hedging;
mod http2;
mod leaving;
mod limits;
mod listeners;
mod mirroring;
mod plugins;
mod proxy_protocol;
mod proxying;
mod reference;
mod reload;
mod retries;
mod rewrites;
mod routing;
mod slow_start;
mod smuggling;
mod tcp;
mod tls;
mod traces;
mod upgrade;
