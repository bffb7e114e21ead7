//! A piece of a body that is held for a while: shared with what is sent, never copied. Holds nothing by itself.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// What a piece counts at least, so that a body in many small ones does not cost more than it has bytes.
pub(super) const LEAST: usize = 64;

/// A frame that can be sent more than once.
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    /// The same as the frame; none of a kind that is not passed on.
    pub(super) fn of(frame: &Frame<Bytes>) -> Option<Self> {
        frame.data_ref().cloned().map(Self::Data).or_else(|| frame.trailers_ref().cloned().map(Self::Trailers))
    }

    /// Bytes that it counts.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Data(data) => data.len().max(LEAST),
            Self::Trailers(trailers) => trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum(),
        }
    }

    /// As it is sent.
    pub(super) fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}
