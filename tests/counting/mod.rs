//! How the benchmarks let an instruction counter count: `cargo xtask instructions` starts them with `--instructions`, and
//! callgrind starts a new count whenever `witgate_mark` is entered. Counts nothing itself. Shared by the benchmarks of
//! several crates through `#[path]`.

use std::hint::black_box;

/// A part of the name of all that is to be run, where a counter counts; empty: everything. None: nobody counts.
pub(crate) fn asked() -> Option<String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (first, rest) = words.split_first()?;
    (first == "--instructions").then(|| rest.first().cloned().unwrap_or_default())
}

/// Prints what the counter reads of an operation whose rounds have just run, between two marks. What stands before the
/// first mark and after the second is setting up.
#[expect(clippy::print_stdout, reason = "the names of what is counted are what the counter reads")]
pub(crate) fn tell(rounds: usize, name: &str) {
    println!("{rounds} {name}");
}

/// Where the counter ends a count and starts the next: it knows the function by its name.
#[inline(never)]
pub(crate) fn witgate_mark() {
    black_box(());
}
