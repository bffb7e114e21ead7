//! What serving a request costs: its headers, the heads on the wire, and all of it from the client's bytes to the
//! endpoint and back, over streams in memory. `cargo bench -p witgate --features internals --bench requests` tells the
//! time of each; started with `--instructions` it only runs each so many times, for `cargo xtask instructions` to count
//! under callgrind.

#[path = "../../../tests/counting/mod.rs"]
mod counting;
mod ends;
mod heads;
mod inputs;
#[path = "../../../tests/counting/operation.rs"]
mod operation;
mod whole;

use divan::Bencher;

use crate::operation::Operation;

fn main() {
    operation::main(all());
}

// So many at a time for the reason that those of `witgate-core` give.
#[divan::bench(args = operation::names(all()), sample_size = 256)]
fn requests(bencher: Bencher<'_, '_>, name: &str) {
    operation::time(all(), name, bencher);
}

/// Every operation, small ones first.
fn all() -> Vec<Operation> {
    [heads::operations(), whole::operations()].into_iter().flatten().collect()
}
