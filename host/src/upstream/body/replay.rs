//! A request's body that may be sent again: what was sent of it is kept while it is little. Pieces are shared, never copied.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::{
    BodyError, Source,
    piece::{LEAST, Piece},
};

/// Bytes of a body that are kept. What may be sent again is mostly a form or a document; large uploads pass by.
const KEPT: usize = 64 << 10;

/// One reading of a body, from its beginning. Others may follow while it lives or after it.
pub(super) struct Replay {
    shared: Rc<RefCell<Shared>>,
    /// Pieces that were read.
    at: usize,
    /// Bytes that were read.
    read: u64,
}

struct Shared {
    source: Source,
    /// Its length, where that was said.
    length: Option<u64>,
    kept: Vec<Piece>,
    /// What they count.
    size: usize,
    /// There was more than is kept: it cannot be read again.
    is_over: bool,
    has_ended: bool,
}

impl Replay {
    /// Of a body that nothing was read of.
    pub(super) fn new(source: Source) -> Self {
        let length = source.incoming.size_hint().exact();
        let shared = Shared { source, length, kept: Vec::new(), size: 0, is_over: false, has_ended: false };
        Self { shared: Rc::new(RefCell::new(shared)), at: 0, read: 0 }
    }

    /// Another reading, from the beginning.
    pub(super) fn again(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), at: 0, read: 0 }
    }

    /// Whether all that was read of it can be read again.
    pub(super) fn is_kept(&self) -> bool {
        !self.shared.borrow().is_over
    }

    /// Whether all of it was read, and can be read again.
    pub(super) fn is_whole(&self) -> bool {
        let shared = self.shared.borrow();
        shared.has_ended && !shared.is_over
    }

    /// The next frame: of what is kept, else of the body itself.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Whoever could ask for another reading is gone: no use in keeping more.
        let is_last = Rc::strong_count(&self.shared) == 1;
        let mut shared = self.shared.borrow_mut();
        let frame = match shared.kept.get(self.at) {
            Some(piece) => piece.frame(),
            None if shared.has_ended => return Poll::Ready(None),
            None => match ready!(shared.source.poll_frame(cx)) {
                Some(Ok(frame)) => {
                    shared.note(&frame, is_last);
                    frame
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    shared.has_ended = true;
                    return Poll::Ready(None);
                }
            },
        };
        self.at += 1;
        self.read += frame.data_ref().map_or(0, |data| data.len() as u64);
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        self.at >= shared.kept.len() && (shared.has_ended || shared.source.incoming.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.shared.borrow().length.map(|length| length.saturating_sub(self.read));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Shared {
    /// Keeps a piece that was read just now, where it may be read again.
    fn note(&mut self, frame: &Frame<Bytes>, is_last: bool) {
        self.has_ended |= frame.is_trailers();
        let piece = Piece::of(frame).filter(|_| !self.is_over && !is_last);
        self.size += piece.as_ref().map_or(LEAST, Piece::size);
        match piece {
            Some(piece) if self.size <= KEPT => self.kept.push(piece),
            _ => {
                self.kept = Vec::new();
                self.is_over = true;
            }
        }
    }
}
