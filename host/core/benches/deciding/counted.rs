//! Runs operations for an instruction counter, which starts a new count whenever `witgate_mark` is entered. Counts
//! nothing itself.

use std::hint::black_box;

use crate::all;

/// Runs every operation whose name contains `filter`, and prints its rounds and its name. Between two names the
/// counter sees two marks, around the rounds; what stands before the first and after the second is setting up.
pub(crate) fn run(filter: &str) {
    for operation in all().into_iter().filter(|operation| operation.name.contains(filter)) {
        let name = operation.name.clone();
        let mut operation = operation.make();
        // So that the allocator has its memory, and what is made when first needed is made.
        operation.count(|| ());
        println!("{} {name}", operation.count(witgate_mark));
    }
}

/// Where the counter ends a count and starts the next: it knows the function by its name.
#[inline(never)]
fn witgate_mark() {
    black_box(());
}
