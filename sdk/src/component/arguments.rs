//! A question's arguments as the host left them in this memory: read in place, and what was allocated for them freed. It
//! must never be given anything but the arguments of a question, once each.
//!
//! The generated code makes a `Vec<Option<String>>` of a request, for which the host has to ask for each piece of memory:
//! with two declared fields four calls into the component, and as many allocations to free. So the host is shown a room
//! (`witgate_room`) to write to instead, the same one for each question. What does not fit, and all that is written by a
//! host that does not know of the room, is allocated with `cabi_realloc` as ever.
#![allow(unsafe_code)]

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ops::Deref;
use core::slice;
use std::alloc::dealloc;

/// A request with a few fields of ordinary length, or a thousand endpoints of 36 bytes to weigh. What is never written of it
/// takes no memory.
const ROOM: usize = 40 << 10;

#[repr(C, align(16))]
struct Room(UnsafeCell<[u8; ROOM]>);

// SAFETY: a component without shared memory has one thread.
#[cfg(not(target_feature = "atomics"))]
unsafe impl Sync for Room {}

static HERE: Room = Room(UnsafeCell::new([0; ROOM]));

/// Where the host may write arguments until their question is answered: the address in the low half, and the length.
#[unsafe(no_mangle)]
extern "C" fn witgate_room() -> u64 {
    (ROOM as u64) << 32 | HERE.0.get().expose_provenance() as u64
}

/// A list or a string by its address and its length, in the room or allocated by `cabi_realloc`.
struct Piece<T> {
    at: *mut T,
    len: usize,
}

impl<T> Piece<T> {
    /// # Safety
    /// The host has written it, and it is not freed yet.
    unsafe fn as_slice<'a>(&self) -> &'a [T] {
        if self.len == 0 {
            return &[]; // Of an empty list the address means nothing.
        }
        // SAFETY: by the caller's promise; the canonical ABI has the host align it.
        unsafe { slice::from_raw_parts(self.at, self.len) }
    }

    fn is_allocated(&self) -> bool {
        self.len > 0 && self.at.addr().wrapping_sub(HERE.0.get().addr()) >= ROOM
    }

    /// # Safety
    /// As [`Piece::as_slice`]; nothing refers to it any more.
    #[inline(always)]
    unsafe fn free(&self) {
        if self.is_allocated() {
            // SAFETY: by the caller's promise.
            unsafe { self.give_back() };
        }
    }

    /// # Safety
    /// As [`Piece::free`]; it is allocated.
    #[cold]
    unsafe fn give_back(&self) {
        // SAFETY: `cabi_realloc` or `from_iter` made it with the global allocator for exactly this many values, which have a
        // layout as they lie in memory.
        unsafe { dealloc(self.at.cast(), Layout::array::<T>(self.len).unwrap_unchecked()) };
    }
}

/// A declared field's value: `option<string>` as it lies in memory.
#[repr(C)]
pub struct Value {
    present: u8,
    at: *mut u8,
    len: usize,
}

impl Value {
    /// The text; none where the request lacks the field.
    pub(crate) fn as_deref(&self) -> Option<&str> {
        // SAFETY: a value is only ever one that the host has written, which is freed after its last reader (`Values`), and
        // the canonical ABI has the host write UTF-8 only.
        self.text().map(|text| unsafe { str::from_utf8_unchecked(text.as_slice()) })
    }

    fn text(&self) -> Option<Piece<u8>> {
        (self.present != 0).then_some(Piece { at: self.at, len: self.len })
    }
}

/// A list that is freed when it is dropped.
pub(crate) struct List<T>(Piece<T>);

impl<T> List<T> {
    /// # Safety
    /// It is an argument of the question in progress, and belongs to the caller.
    pub(super) unsafe fn new(at: *mut u8, len: usize) -> Self {
        List(Piece { at: at.cast(), len })
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values = Box::leak(Box::from_iter(values));
        List(Piece { at: values.as_mut_ptr(), len: values.len() })
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: by the promise of whoever made it; freed when it is dropped.
        unsafe { self.0.as_slice() }
    }
}

impl<T> Drop for List<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: nothing that borrowed it is left.
        unsafe { self.0.free() };
    }
}

/// The declared fields' values: `list<option<string>>`.
pub(super) struct Values(List<Value>);

impl Values {
    /// # Safety
    /// As [`List::new`].
    pub(super) unsafe fn new(at: *mut u8, len: usize) -> Self {
        // SAFETY: by the caller's promise.
        Values(unsafe { List::new(at, len) })
    }
}

impl Deref for Values {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        &self.0
    }
}

impl Drop for Values {
    #[inline(always)]
    fn drop(&mut self) {
        for text in self.iter().filter_map(Value::text) {
            // SAFETY: nothing that borrowed it is left.
            unsafe { text.free() };
        }
    }
}

/// Arguments that are too many to be passed one by one, as a record of pairs of words: eight lists, and the time or a list
/// before them.
///
/// # Safety
/// As [`List::new`]; `R` is aligned as the record is.
pub(super) unsafe fn record<R: Copy + Into<[[usize; 2]; 9]>>(at: *mut u8) -> [[usize; 2]; 9] {
    let record = Piece::<R> { at: at.cast(), len: 1 };
    // SAFETY: by the caller's promise; the words are copied before the record is freed.
    unsafe {
        let words = record.as_slice()[0];
        record.free();
        words.into()
    }
}

/// A record that begins with a `u64`, and is aligned for it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Timed([[usize; 2]; 9]);

impl From<Timed> for [[usize; 2]; 9] {
    fn from(record: Timed) -> Self {
        record.0
    }
}
