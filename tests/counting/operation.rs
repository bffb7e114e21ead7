//! One operation, to be timed or to be repeated for a counter. Knows none by name. Shared as `counting` is, which stands
//! beside it.

use std::hint::black_box;

use divan::Bencher;

use crate::counting::{asked, tell, witgate_mark};

/// Rounds of an operation that takes up to some thousand instructions: enough that which keys are looked up, and how
/// the hash maps of this process are seeded, is averaged out.
pub(crate) const ROUNDS: usize = 4096;

/// What a benchmark of such operations does: it lets them be counted, or leaves them to divan.
pub(crate) fn main(all: Vec<Operation>) {
    match asked() {
        Some(filter) => count(all, &filter),
        None => divan::main(),
    }
}

pub(crate) fn names(all: Vec<Operation>) -> Vec<String> {
    all.into_iter().map(|operation| operation.name).collect()
}

/// Times the one of this name.
pub(crate) fn time(all: Vec<Operation>, name: &str, bencher: Bencher<'_, '_>) {
    if let Some(operation) = all.into_iter().find(|operation| operation.name == name) {
        operation.make().time(bencher);
    }
}

/// Runs every operation whose name contains `filter` for a counter.
fn count(operations: Vec<Operation>, filter: &str) {
    for operation in operations.into_iter().filter(|operation| operation.name.contains(filter)) {
        let name = operation.name.clone();
        let mut operation = operation.make();
        // So that the allocator has its memory, and what is made when first needed is made.
        operation.count(|| ());
        tell(operation.count(witgate_mark), &name);
    }
}

/// An operation, not set up yet: some need tables that take long to make.
pub(crate) struct Operation {
    name: String,
    make: Box<dyn FnOnce() -> Box<dyn Repeat>>,
}

impl Operation {
    /// `make` sets it up; the pair that it returns is what makes one round's input, outside of what is measured, and
    /// what is measured.
    pub(crate) fn new<I, O, In, Work>(
        name: impl Into<String>,
        rounds: usize,
        make: impl FnOnce() -> (In, Work) + 'static,
    ) -> Self
    where
        I: 'static,
        O: 'static,
        In: FnMut() -> I + 'static,
        Work: FnMut(I) -> O + 'static,
    {
        let make = move || -> Box<dyn Repeat> {
            let (input, work) = make();
            Box::new(Pair { rounds, input, work })
        };
        Self { name: name.into(), make: Box::new(make) }
    }

    fn make(self) -> Box<dyn Repeat> {
        (self.make)()
    }
}

/// An operation that is set up.
trait Repeat {
    fn time(&mut self, bencher: Bencher<'_, '_>);

    /// Runs all its rounds between two calls of `mark`; how many there were.
    fn count(&mut self, mark: fn()) -> usize;
}

struct Pair<In, Work> {
    rounds: usize,
    input: In,
    work: Work,
}

impl<I, O, In: FnMut() -> I, Work: FnMut(I) -> O> Repeat for Pair<In, Work> {
    fn time(&mut self, bencher: Bencher<'_, '_>) {
        bencher.with_inputs(&mut self.input).bench_local_values(&mut self.work);
    }

    fn count(&mut self, mark: fn()) -> usize {
        let inputs: Vec<I> = (0..self.rounds).map(|_| (self.input)()).collect();
        mark();
        for input in inputs {
            black_box((self.work)(black_box(input)));
        }
        mark();
        self.rounds
    }
}
