//! The deciding half of Witgate: routing, splits, affinity, balancing, the acceptance of plugin answers and the
//! configuration they all come from. Pure: no clock, no socket and no randomness of its own; the time and the random
//! bits are arguments.

pub mod affinity;
pub mod answer;
pub mod balance;
pub mod config;
pub mod eligible;
pub mod endpoint;
mod hash;
pub mod health;
pub mod limits;
pub mod outlier;
pub mod request;
pub mod rewrite;
pub mod rollout;
pub mod routing;
#[cfg(test)]
mod seeded;
pub mod split;
