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
    match counting::asked() {
        Some(filter) => operation::count(all(), &filter),
        None => divan::main(),
    }
}

// So many at a time for the reason that those of `witgate-core` give.
#[divan::bench(args = names(), sample_size = 256)]
fn requests(bencher: Bencher<'_, '_>, name: &str) {
    if let Some(operation) = all().into_iter().find(|operation| operation.name == name) {
        operation.make().time(bencher);
    }
}

/// Every operation, small ones first.
fn all() -> Vec<Operation> {
    [heads::operations(), whole::operations()].into_iter().flatten().collect()
}

fn names() -> Vec<String> {
    all().into_iter().map(|operation| operation.name).collect()
}
