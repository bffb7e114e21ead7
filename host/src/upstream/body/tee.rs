//! A copy of a request's body while it is sent, for a mirror. What is sent never waits for the copy: where that falls behind
//! it breaks off.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{BodyError, piece::Piece};

/// Bytes that a copy may be behind by.
const BEHIND: usize = 64 << 10;

/// Where pieces go in.
pub(super) struct Tee(Rc<RefCell<Pipe>>);

/// Where they come out.
pub(super) struct Copied {
    pipe: Rc<RefCell<Pipe>>,
    /// What is left of its length, where that was said.
    left: Option<u64>,
}

/// Tells whether a copy broke off, also while nothing of it is asked for.
pub struct Behind(Option<Rc<RefCell<Pipe>>>);

#[derive(Default)]
struct Pipe {
    pieces: VecDeque<Piece>,
    /// What they count.
    size: usize,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// There is no more.
    Whole,
    /// It fell behind, or the original broke off.
    Broken,
}

/// A copy of a body of this length.
pub(super) fn tee(length: Option<u64>) -> (Tee, Copied) {
    let pipe = Rc::new(RefCell::new(Pipe::default()));
    (Tee(Rc::clone(&pipe)), Copied { pipe, left: length })
}

impl Behind {
    /// Of this copy; of none it never tells anything.
    pub(super) fn of(copied: Option<&Copied>) -> Self {
        Self(copied.map(|copied| Rc::clone(&copied.pipe)))
    }

    /// Whether it broke off; where not, who polls is woken when it does. That must be the task that reads the copy.
    pub fn poll_broken(&self, cx: &Context<'_>) -> bool {
        let Some(pipe) = &self.0 else { return false };
        let mut pipe = pipe.borrow_mut();
        if pipe.end.is_none() {
            pipe.waker = Some(cx.waker().clone());
        }
        pipe.end == Some(End::Broken)
    }
}

impl Tee {
    /// Copies a piece.
    pub(super) fn push(&self, frame: &Frame<Bytes>) {
        let mut pipe = self.0.borrow_mut();
        if pipe.end.is_some() {
            return;
        }
        let Some(piece) = Piece::of(frame) else { return };
        pipe.size += piece.size();
        if pipe.size > BEHIND || Rc::strong_count(&self.0) == 1 {
            pipe.end(End::Broken);
        } else {
            pipe.pieces.push_back(piece);
            pipe.wake();
        }
    }

    /// The original has ended.
    pub(super) fn end(&self) {
        self.0.borrow_mut().end(End::Whole);
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.0.borrow_mut().end(End::Broken);
    }
}

impl Pipe {
    fn end(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
            if end == End::Broken {
                self.pieces.clear();
            }
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Copied {
    pub(super) fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut pipe = self.pipe.borrow_mut();
        if let Some(piece) = pipe.pieces.pop_front() {
            pipe.size = pipe.size.saturating_sub(piece.size());
            let frame = piece.frame();
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.left = self.left.map(|left| left.saturating_sub(len));
            return Poll::Ready(Some(Ok(frame)));
        }
        match pipe.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Broken) => Poll::Ready(Some(Err(BodyError::Copy))),
            None => {
                pipe.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let pipe = self.pipe.borrow();
        pipe.pieces.is_empty() && pipe.end == Some(End::Whole)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::piece::LEAST, *};

    fn poll(copied: &mut Copied) -> Poll<Option<Result<Bytes, String>>> {
        let frame = copied.poll_frame(&Context::from_waker(Waker::noop()));
        frame.map(|frame| {
            frame.map(|frame| frame.map(|f| f.into_data().unwrap_or_default()).map_err(|error| error.to_string()))
        })
    }

    fn data(size: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; size]))
    }

    #[test]
    fn a_copy_has_every_piece_and_the_end() {
        let (tee, mut copied) = tee(Some(7));
        assert!(poll(&mut copied).is_pending());
        tee.push(&data(3));
        tee.push(&data(4));
        assert_eq!(poll(&mut copied), Poll::Ready(Some(Ok(Bytes::from_static(b"xxx")))));
        assert_eq!(copied.size_hint().exact(), Some(4));
        tee.end();
        drop(tee);
        assert_eq!(poll(&mut copied), Poll::Ready(Some(Ok(Bytes::from_static(b"xxxx")))));
        assert_eq!(poll(&mut copied), Poll::Ready(None));
    }

    #[test]
    fn a_copy_that_falls_behind_breaks_off_and_holds_nothing() {
        for size in [1, BEHIND / 2] {
            let (tee, mut copied) = tee(None);
            (0..=BEHIND / size.max(LEAST)).for_each(|_| tee.push(&data(size)));
            assert!(tee.0.borrow().pieces.is_empty(), "of {size}");
            assert!(matches!(poll(&mut copied), Poll::Ready(Some(Err(_)))), "of {size}");
        }
        // One that keeps up does not.
        let (tee, mut copied) = tee(None);
        for _ in 0..10 {
            tee.push(&data(BEHIND));
            assert!(matches!(poll(&mut copied), Poll::Ready(Some(Ok(_)))));
        }
    }

    #[test]
    fn an_original_that_breaks_off_breaks_its_copy_off() {
        let (tee, mut copied) = tee(None);
        tee.push(&data(3));
        drop(tee);
        assert!(matches!(poll(&mut copied), Poll::Ready(Some(Err(_)))));
    }
}
