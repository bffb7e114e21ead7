//! What a valid `[traces]` says.

/// `[traces]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// An OpenTelemetry collector's URL for spans, `http://…`, with the path.
    pub collector: String,
    /// Part of the requests of which spans are sent, at random; default 0.01. A trusted proxy decides for its own.
    pub sample: f64,
    /// What spans are said to be of; default `witgate`.
    pub service: String,
}
