//! Loops in the background that follow the generation that is live. None of them is ever waited for by a request.

pub mod config;
pub mod dns;
pub mod endpoints;
pub mod health;
pub mod scores;
pub mod tls;
