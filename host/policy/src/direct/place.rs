//! Places in a guest's memory: what they are called, and the room that a guest may show for arguments. Must never hand out
//! one that leads out of the memory.

use std::cell::Cell;

use wasmtime::{Memory, Store};

use crate::canonical::Unreadable;
use crate::guest::State;

pub(super) const MEMORY: &str = "memory";
pub(super) const REALLOC: &str = "cabi_realloc";
/// Of modules built with the SDK: `() -> u64`, the address (low half) and the length of a place that the host may write a
/// question's arguments to, without asking for each piece of memory. It is the host's from one answer to the next, and
/// whoever has it keeps each answer until the next question of its kind, so that nobody has to be told when it was read.
const ROOM: &str = "witgate_room";
/// A pointer and a length: a list or a string.
pub(super) type List = (u32, u32);

/// Where arguments are written; nowhere in modules that do not say.
#[derive(Default)]
pub(super) struct Room {
    at: u32,
    end: u32,
    /// Where what is free of it begins, while it may be used. A cell, because the instance is borrowed for the time of a
    /// question.
    free: Cell<Option<u32>>,
}

impl Room {
    pub(super) fn find(
        store: &mut Store<State>,
        instance: &wasmtime::Instance,
        memory: &Memory,
    ) -> wasmtime::Result<Self> {
        if instance.get_func(&mut *store, ROOM).is_none() {
            return Ok(Self::default());
        }
        let place = instance.get_typed_func::<(), u64>(&mut *store, ROOM)?.call(&mut *store, ())?;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (at, len) = (place as u32, (place >> 32) as u32);
        fits(memory, &*store, at, 1, len)?;
        // Not for `configure`, which is no question: what it is given is the guest's to free.
        Ok(Self { at, end: at.saturating_add(len), free: Cell::new(None) })
    }

    pub(super) fn is_there(&self) -> bool {
        self.end > self.at
    }

    /// Begins anew.
    pub(super) fn empty(&self) {
        self.free.set(self.is_there().then_some(self.at));
    }

    pub(super) fn take(&self, align: u32, bytes: u32) -> Option<u32> {
        let at = self.free.get()?.checked_next_multiple_of(align)?;
        let end = at.checked_add(bytes).filter(|end| *end <= self.end)?;
        self.free.set(Some(end));
        Some(at)
    }
}

pub(super) fn pair((at, len): List) -> [u8; 8] {
    (u64::from(len) << 32 | u64::from(at)).to_le_bytes()
}

pub(super) fn fits(
    memory: &Memory,
    store: impl wasmtime::AsContext,
    at: u32,
    align: u32,
    bytes: u32,
) -> wasmtime::Result<()> {
    if !at.is_multiple_of(align) {
        return Err(Unreadable::Unaligned.into());
    }
    if u64::from(at) + u64::from(bytes) > memory.data_size(&store) as u64 {
        return Err(Unreadable::OutOfBounds.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_used_from_the_first_question_on_and_only_where_there_is_one() {
        let room = Room { at: 100, end: 120, free: Cell::new(None) };
        assert_eq!(room.take(1, 0), None, "before the first question");
        room.empty();
        assert_eq!([room.take(1, 3), room.take(4, 8), room.take(1, 0)], [Some(100), Some(104), Some(112)]);
        assert_eq!([room.take(1, 9), room.take(8, 8), room.take(8, 1)], [None, Some(112), None]);
        room.empty();
        assert_eq!(room.take(1, 20), Some(100), "anew");
        let none = Room::default();
        none.empty();
        // Nothing at address 0: a guest takes the null pointer for no value.
        assert_eq!([none.take(1, 0), none.take(4, 4)], [None, None]);
    }
}
