//! Where among the bytes that a client sends its requests' heads are: the parser does not show all that they say. Keeps the
//! head that is being read and nothing of bodies.

use std::ops::Range;

use crate::upstream::{self, Passing};

/// Bytes of memory that are kept between two requests.
const KEPT: usize = 1 << 10;

/// The bytes of a connection of HTTP/1, as they come.
#[derive(Debug)]
pub(super) struct Requests {
    /// What is of no request whose head was accepted.
    ahead: Vec<u8>,
    /// How many bytes of that are kept: a head of the largest size, and what may have been read behind it.
    most: usize,
    body: Body,
}

/// The body behind the head that was accepted last.
#[derive(Debug)]
enum Body {
    /// So many bytes are left.
    Length(u64),
    Chunked(Passing),
    /// Nobody knows where it ends: of what comes, nothing is told any more. The parser goes no further either.
    Lost,
}

impl Requests {
    pub(super) fn new(most: usize) -> Self {
        Self { ahead: Vec::new(), most, body: Body::Length(0) }
    }

    /// Takes what was read. Whether any of it belongs to a request that is still to come.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let ahead = self.body.behind(bytes);
        if ahead.is_empty() {
            return false;
        }
        if self.ahead.len() + ahead.len() > self.most {
            self.body = Body::Lost;
            self.ahead = Vec::new();
        } else {
            self.ahead.extend_from_slice(ahead);
        }
        true
    }

    /// The head that comes next, where it is whole.
    pub(super) fn head(&self) -> Option<&[u8]> {
        self.place().map(|place| &self.ahead[place])
    }

    fn place(&self) -> Option<Range<usize>> {
        // Empty lines before a head are no part of it (RFC 9112 §2.2).
        let begin = self.ahead.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
        upstream::end_of_head(&self.ahead[begin..]).map(|length| begin..begin + length)
    }

    /// Takes it away, with its body: that has `length` bytes, or comes in chunks.
    pub(super) fn accept(&mut self, length: u64, chunked: bool) {
        let Some(Range { end, .. }) = self.place() else { return };
        self.body = if chunked { Body::Chunked(Passing::new()) } else { Body::Length(length) };
        let left = self.body.behind(&self.ahead[end..]).len();
        if left == 0 {
            self.ahead.clear();
            self.ahead.shrink_to(KEPT);
        } else {
            self.ahead.drain(..self.ahead.len() - left);
        }
    }

    /// Lets go of what is kept, where nothing is ahead but empty lines.
    pub(super) fn rest(&mut self) {
        self.ahead = Vec::new();
    }
}

impl Body {
    /// What of `bytes`, which come next, is behind it.
    fn behind<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let of_body = match self {
            Self::Length(left) => {
                let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                here
            }
            Self::Chunked(passing) => match passing.pass(bytes) {
                Ok(None) => bytes.len(),
                Ok(Some(end)) => {
                    *self = Self::Length(0);
                    end
                }
                Err(_) => {
                    *self = Self::Lost;
                    bytes.len()
                }
            },
            Self::Lost => bytes.len(),
        };
        &bytes[of_body..]
    }
}
