//! What the deciding code costs, operation by operation. `cargo bench -p witgate-core` tells the time of each;
//! started with `--instructions` it only runs each so many times, for `cargo xtask instructions` to count under
//! callgrind.

mod answers;
mod balance;
#[path = "../../../../tests/counting/mod.rs"]
mod counting;
mod inputs;
#[path = "../../../../tests/counting/operation.rs"]
mod operation;
mod requests;
mod routes;

use divan::Bencher;

use crate::operation::Operation;

fn main() {
    operation::main(all());
}

// Enough at a time for the caches to be as warm as they get; left to find the number itself, divan judges by the first,
// cold rounds, and takes one where that looks slow.
#[divan::bench(args = operation::names(all()), sample_size = 256)]
fn deciding(bencher: Bencher<'_, '_>, name: &str) {
    operation::time(all(), name, bencher);
}

/// Every operation, in the order of a request.
fn all() -> Vec<Operation> {
    [routes::operations(), requests::operations(), balance::operations(), answers::operations()]
        .into_iter()
        .flatten()
        .collect()
}
