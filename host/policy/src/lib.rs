//! A Wasm host that knows nothing of sockets: it turns bytes into admitted plugins and asks them questions under a
//! hard budget. It must never hand a plugin more than the request in question, wait on a plugin, or let a plugin's
//! failure cost its caller more than an `Err`.
//!
//! ```text
//! bytes ──Engine::load──▶ Code ──Plugin::admit(config)──▶ Plugin ──route, split, stick, pick, weigh──▶ raw answers
//!         wrap, compile,         instantiate, configure,          a worker's own Instances,
//!         inspect                rehearse                         a deadline on each call
//! ```
//!
//! Raw answers take effect only through `witgate_core::answer`. [`Store`] keeps uploaded versions on disk.

mod admission;
mod artifact;
mod bindings;
mod bounds;
mod breaker;
mod call;
mod canonical;
mod compiled;
mod direct;
mod engine;
mod guest;
mod inspect;
mod instances;
mod keeper;
mod log;
mod plugin;
mod regular;
mod stats;
mod store;
mod wasi;

use std::fmt;

pub use artifact::CacheOptions;
pub use bindings::Columns;
pub use engine::{Code, Engine, EngineOptions, Error};
pub use instances::Instances;
pub use plugin::{Plugin, Settings};
pub use stats::{Fallbacks, QuestionStats, Stats};
pub use store::{Active, Put, Store, StoreError, Stored, VersionInfo, check_name};

/// What a plugin can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// `router.route`.
    Router,
    /// `splitter.split`.
    Splitter,
    /// `affinity.stick`.
    Affinity,
    /// `scorer.pick`.
    Pick,
    /// `scorer.weigh`.
    Weigh,
}

impl Question {
    /// Every question.
    pub const ALL: [Self; 5] = [Self::Router, Self::Splitter, Self::Affinity, Self::Pick, Self::Weigh];

    /// As metrics and messages call it: `router`, `splitter`, `affinity`, `pick`, `weigh`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Splitter => "splitter",
            Self::Affinity => "affinity",
            Self::Pick => "pick",
            Self::Weigh => "weigh",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which question interfaces a plugin exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exports {
    /// `router`.
    pub router: bool,
    /// `splitter`.
    pub splitter: bool,
    /// `affinity`.
    pub affinity: bool,
    /// `scorer`: both `pick` and `weigh`.
    pub scorer: bool,
}

impl Exports {
    /// Names of the interfaces, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        [(self.router, "router"), (self.splitter, "splitter"), (self.affinity, "affinity"), (self.scorer, "scorer")]
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name))
            .collect()
    }

    /// Whether the question can be asked.
    pub fn answers(self, question: Question) -> bool {
        match question {
            Question::Router => self.router,
            Question::Splitter => self.splitter,
            Question::Affinity => self.affinity,
            Question::Pick | Question::Weigh => self.scorer,
        }
    }
}

/// A step of an upload, in order. Reported as it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// SHA-256 of the bytes.
    Hash,
    /// A core module is made a component.
    Wrap,
    /// A compiled artefact is read from the cache and authenticated.
    LoadArtefact,
    /// Machine code is generated.
    Compile,
    /// Imports and exports are checked.
    Inspect,
    /// An instance is made and `lifecycle.configure` is called.
    Configure,
    /// Every exported question is answered once about a made-up request, and spare instances are made.
    Rehearse,
    /// The version is written to disk.
    Store,
}

impl Stage {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Wrap => "wrap",
            Self::LoadArtefact => "load-artefact",
            Self::Compile => "compile",
            Self::Inspect => "inspect",
            Self::Configure => "configure",
            Self::Rehearse => "rehearse",
            Self::Store => "store",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a plugin was not admitted. Its text says what is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused at {stage}: {reason}")]
pub struct Refused {
    /// The step that refused.
    pub stage: Stage,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Refused {
    pub(crate) fn new(stage: Stage, reason: impl Into<String>) -> Self {
        Self { stage, reason: reason.into() }
    }
}

/// Why a question got no answer. The caller decides natively in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The version failed too often: its circuit is open. Costs nothing and is no failure of this call.
    #[error("quarantined")]
    Quarantined,
    /// This worker has no instance at the moment; one is being made.
    #[error("no instance is ready")]
    NoInstance,
    /// The call used up its time.
    #[error("over its time budget")]
    Overrun,
    /// The call trapped.
    #[error("trapped: {0}")]
    Trap(String),
    /// The call failed after it was refused memory or table room above its budget.
    #[error("over its memory budget")]
    Memory,
    /// The call wanted to wait (a WASI sleep or poll), which no question may.
    #[error("wanted to wait")]
    Waited,
    /// The answer breaks the contract.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

impl Failure {
    /// Names of the kinds, as metrics call them, in the order of [`Failure::kind`].
    pub const KINDS: [&'static str; 7] =
        ["quarantined", "no-instance", "overrun", "trap", "memory", "waited", "malformed"];

    /// Index of the kind in [`Failure::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Self::Quarantined => 0,
            Self::NoInstance => 1,
            Self::Overrun => 2,
            Self::Trap(_) => 3,
            Self::Memory => 4,
            Self::Waited => 5,
            Self::Malformed(_) => 6,
        }
    }
}
