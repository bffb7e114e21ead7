//! The component's allocator: talc, behind lists of freed small blocks. A question allocates a few small values and frees
//! them before it ends, so what an allocation costs shows in every request. Absent from native builds, and where feature
//! `allocator` is off.
//!
//! Of what a question costs, allocation was a third with talc alone (350 instructions to allocate and 150 to free), and
//! more with the standard library's dlmalloc. A list takes 15 and 10. `unsafe` is written here
//! because the trait that allocators implement is unsafe, and no crate that is kept has such lists.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::{self, NonNull};

/// Sizes are rounded up to a multiple of this, which is also every small block's alignment.
const STEP: usize = 16;
/// Blocks up to `STEP * CLASSES` bytes are small. Larger ones are rare, and the allocator below takes them.
const CLASSES: usize = 32;

/// An allocator that keeps freed small blocks for the next of their size. They never go back to `inner`, so that it holds
/// at most what was in use at once of each size.
pub(crate) struct Cached<A> {
    inner: A,
    /// For each size, the first free block; each free block begins with the address of the next.
    free: [Cell<Option<NonNull<Free>>>; CLASSES],
}

struct Free {
    next: Option<NonNull<Free>>,
}

impl<A> Cached<A> {
    pub(crate) const fn new(inner: A) -> Self {
        Self { inner, free: [const { Cell::new(None) }; CLASSES] }
    }
}

/// The list that a block of this layout belongs to; none where it is not small.
#[inline]
fn class(layout: Layout) -> Option<usize> {
    let class = layout.size().wrapping_sub(1) / STEP; // A size of 0 belongs to no list.
    (class < CLASSES && layout.align() <= STEP).then_some(class)
}

/// The layout of every block of a list.
#[inline]
fn block(class: usize) -> Layout {
    // Cannot fail: a power of two, and far from the largest size.
    Layout::from_size_align((class + 1) * STEP, STEP).unwrap_or(Layout::new::<[u128; CLASSES]>())
}

// SAFETY: a block that is handed out is one that `inner` made with the layout of its list, which holds every layout of
// that list; it is in no list while it is handed out, because it is taken out when it is, and put back only when it is
// freed, which its owner promises to do once and with the layout that it was asked with.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Cached<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            // SAFETY: the caller's promises are the ones that `inner` asks for.
            return unsafe { self.inner.alloc(layout) };
        };
        if let Some(first) = self.free[class].get() {
            // SAFETY: what is in a list was freed, is nobody's, and begins with a `Free` that `dealloc` wrote.
            self.free[class].set(unsafe { first.as_ref().next });
            return first.as_ptr().cast();
        }
        // SAFETY: the block's size is not 0.
        unsafe { self.inner.alloc(block(class)) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match (class(layout), NonNull::new(block.cast::<Free>())) {
            (Some(class), Some(first)) => {
                // SAFETY: the block is given up by its only owner, and is aligned and large enough for a `Free`.
                unsafe { first.write(Free { next: self.free[class].get() }) };
                self.free[class].set(Some(first));
            }
            // SAFETY: as in `alloc`.
            _ => unsafe { self.inner.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        match (class(layout), class(wanted)) {
            (Some(had), Some(wants)) if had == wants => old,
            // SAFETY: neither is small: `inner` made the block with this very layout.
            (None, None) => unsafe { self.inner.realloc(old, layout, size) },
            _ => {
                // SAFETY: `size` is not 0, by the caller's promise.
                let new = unsafe { self.alloc(wanted) };
                if !new.is_null() {
                    // SAFETY: two different blocks, each at least as long as what is copied; the old one is the caller's.
                    unsafe { ptr::copy_nonoverlapping(old, new, layout.size().min(size)) };
                    // SAFETY: as in `dealloc`.
                    unsafe { self.dealloc(old, layout) };
                }
                new
            }
        }
    }
}

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
mod global {
    use super::Cached;
    use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

    // SAFETY: a component without shared memory has one thread.
    unsafe impl Sync for Cached<WasmDynamicTalc> {}

    #[global_allocator]
    static ALLOCATOR: Cached<WasmDynamicTalc> = Cached::new(new_wasm_dynamic_allocator());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    /// Allocates, writes, grows, shrinks and frees by a fixed sequence of random numbers, and checks after each step that
    /// no block changed but by its owner.
    #[test]
    fn blocks_keep_what_is_written_until_they_are_freed() {
        let allocator = Cached::new(System);
        let mut random = 1u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % below
        };
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for step in 0..20_000usize {
            let mark = step as u8;
            let size = 1 + next(STEP * CLASSES * 2);
            match next(3) {
                0 if live.len() < 200 => {
                    let layout = Layout::from_size_align(size, 1 << next(6)).unwrap();
                    let block = unsafe { allocator.alloc(layout) };
                    assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()), "{layout:?}");
                    unsafe { block.write_bytes(mark, size) };
                    live.push((block, layout, mark));
                }
                1 if !live.is_empty() => {
                    let (block, layout, mark) = live.swap_remove(next(live.len()));
                    check(block, layout.size(), mark, "at the end");
                    unsafe { allocator.dealloc(block, layout) };
                }
                _ if !live.is_empty() => {
                    let at = next(live.len());
                    let (block, layout, old) = live[at];
                    let block = unsafe { allocator.realloc(block, layout, size) };
                    check(block, layout.size().min(size), old, "after it moved");
                    unsafe { block.write_bytes(mark, size) };
                    live[at] = (block, Layout::from_size_align(size, layout.align()).unwrap(), mark);
                }
                _ => {}
            }
        }
        for (block, layout, mark) in live {
            check(block, layout.size(), mark, "at the very end");
            unsafe { allocator.dealloc(block, layout) };
        }
    }

    fn check(block: *mut u8, size: usize, mark: u8, when: &str) {
        let bytes = unsafe { core::slice::from_raw_parts(block, size) };
        assert!(bytes.iter().all(|byte| *byte == mark), "{size} bytes of {mark}, {when}: {bytes:?}");
    }

    #[test]
    fn a_freed_block_is_the_next_one_of_its_size() {
        let allocator = Cached::new(System);
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        unsafe {
            let first = allocator.alloc(layout(20));
            allocator.dealloc(first, layout(20));
            assert_ne!(allocator.alloc(layout(33)), first, "another size");
            assert_eq!(allocator.alloc(layout(32)), first);
            assert_ne!(allocator.alloc(layout(32)), first, "it is taken");
        }
    }
}
