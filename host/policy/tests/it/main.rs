//! The crate from outside: one binary, because each would link the whole of wasmtime.

mod admission;
mod cache;
mod canonical;
mod common;
mod questions;
mod shipped;
mod store;
