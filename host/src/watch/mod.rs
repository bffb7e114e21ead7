//! Background loops that follow the current generation.

pub mod endpoints;
pub mod health;
pub mod scores;
