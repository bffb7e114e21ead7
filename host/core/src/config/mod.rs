//! Text to [`Config`], or every diagnostic at once. Never opens a file or a socket.

mod model;

pub use model::*;
