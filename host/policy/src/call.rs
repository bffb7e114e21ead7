//! The questions as functions, each arming its deadline. Whatever happens in a call, the request is back in its
//! owner's hands after it, and the failure costs one instance and one fallback. It must never wait.

use std::sync::Arc;
use std::time::Instant;

use witgate_core::answer::{RawRoute, RawStick};
use witgate_core::config::Isolation;
use witgate_core::request::{FieldName, Head};
use witgate_core::rollout::Admission;

use crate::bindings::{Columns, Offer};
use crate::instances::{Caller, Guest, Instance, Instances, Scratch};
use crate::plugin::Plugin;
use crate::stats::Shard;
use crate::{Failure, Question};

/// What a question is asked with.
pub(crate) struct Subject<'a> {
    pub(crate) caller: Caller<'a>,
    /// The declared fields.
    pub(crate) fields: &'a [FieldName],
    /// For their values, where they have to lie outside of the store.
    pub(crate) scratch: &'a mut Scratch,
}

impl Subject<'_> {
    pub(crate) fn route(self, on: &mut Instance) -> Result<RawRoute, Failure> {
        match &on.guest {
            Guest::Core(guest) => self.caller.direct(&mut on.store, |store| guest.route(store, self.fields)),
            Guest::Component(questions) => {
                let func = questions.router.as_ref().ok_or_else(not_asked)?.func_route();
                let values = self.scratch.fill(self.fields, &on.store.data().head);
                self.caller.call(&mut on.store, func, (&*values,)).map(|(answer,)| answer.into())
            }
        }
    }

    pub(crate) fn split(
        self,
        on: &mut Instance,
        id: u64,
        weights: &[u32],
        clusters: &Arc<[String]>,
    ) -> Result<Option<u32>, Failure> {
        let state = on.store.data_mut();
        if !state.clusters.as_ref().is_some_and(|known| Arc::ptr_eq(known, clusters)) {
            state.clusters = Some(Arc::clone(clusters));
        }
        state.offering = true;
        let answer = match &on.guest {
            Guest::Core(guest) => {
                self.caller.direct(&mut on.store, |store| guest.split(store, self.fields, id, weights))
            }
            Guest::Component(questions) => {
                let func = questions.splitter.as_ref().ok_or_else(not_asked)?.func_split();
                let values = self.scratch.fill(self.fields, &on.store.data().head);
                let answer = self.caller.call(&mut on.store, func, (&*values, Offer { id, weights }));
                answer.map(|(answer,)| answer)
            }
        };
        on.store.data_mut().offering = false;
        answer
    }

    pub(crate) fn stick(self, on: &mut Instance) -> Result<Option<RawStick>, Failure> {
        match &on.guest {
            Guest::Core(guest) => self.caller.direct(&mut on.store, |store| guest.stick(store, self.fields)),
            Guest::Component(questions) => {
                let func = questions.affinity.as_ref().ok_or_else(not_asked)?.func_stick();
                let values = self.scratch.fill(self.fields, &on.store.data().head);
                self.caller.call(&mut on.store, func, (&*values,)).map(|(answer,)| answer.map(Into::into))
            }
        }
    }

    pub(crate) fn pick(self, on: &mut Instance, columns: &Columns) -> Result<Vec<f32>, Failure> {
        match &on.guest {
            Guest::Core(guest) => self.caller.direct(&mut on.store, |store| guest.pick(store, self.fields, columns)),
            Guest::Component(questions) => {
                let func = questions.scorer.as_ref().ok_or_else(not_asked)?.func_pick();
                let values = self.scratch.fill(self.fields, &on.store.data().head);
                self.caller.call(&mut on.store, func, (&*values, columns.view())).map(|(answer,)| answer)
            }
        }
    }

    pub(crate) fn weigh(self, on: &mut Instance, now_ms: u64, columns: &Columns) -> Result<Vec<f32>, Failure> {
        match &on.guest {
            Guest::Core(guest) => self.caller.direct(&mut on.store, |store| guest.weigh(store, now_ms, columns)),
            Guest::Component(questions) => {
                let func = questions.scorer.as_ref().ok_or_else(not_asked)?.func_weigh();
                self.caller.call(&mut on.store, func, (now_ms, columns.view())).map(|(answer,)| answer)
            }
        }
    }
}

fn not_asked() -> Failure {
    Failure::Malformed("the plugin does not export this interface".to_owned())
}

/// Counts a question for which no call was made: no failure of the plugin's.
fn no_call(counted: &Shard, question: Question, failure: Failure) -> Failure {
    counted.failed(question, &failure);
    failure
}

/// Lends the request to the instance for the time of a call; `None` is a question about no request.
pub(crate) fn with_head<R>(
    on: &mut Instance,
    head: Option<&mut Box<Head>>,
    call: impl FnOnce(&mut Instance) -> R,
) -> R {
    let Some(head) = head else { return call(on) };
    let state = on.store.data_mut();
    std::mem::swap(&mut state.head, head);
    state.about_request = true;
    let result = call(on);
    let state = on.store.data_mut();
    state.about_request = false;
    std::mem::swap(&mut state.head, head);
    result
}

/// Every question takes the worker's own instances and the present time, and answers raw: nothing has an effect before
/// `witgate_core::answer` accepted it, and what that refuses is told back with [`Plugin::reject`].
impl Plugin {
    /// `router.route`.
    ///
    /// # Errors
    /// Where there is no answer; the caller decides natively.
    pub fn route(&self, on: &mut Instances, head: &mut Box<Head>, now: Instant) -> Result<RawRoute, Failure> {
        self.ask(on, Question::Router, Some(head), now, |subject, on| subject.route(on))
    }

    /// `splitter.split`: the index of a choice, or no opinion. The same `offer_id` must mean the same `clusters`.
    ///
    /// # Errors
    /// As [`Plugin::route`].
    pub fn split(
        &self,
        on: &mut Instances,
        head: &mut Box<Head>,
        offer_id: u64,
        weights: &[u32],
        clusters: &Arc<[String]>,
        now: Instant,
    ) -> Result<Option<u32>, Failure> {
        self.ask(on, Question::Splitter, Some(head), now, |subject, on| subject.split(on, offer_id, weights, clusters))
    }

    /// `affinity.stick`: a key, or no opinion.
    ///
    /// # Errors
    /// As [`Plugin::route`].
    pub fn stick(&self, on: &mut Instances, head: &mut Box<Head>, now: Instant) -> Result<Option<RawStick>, Failure> {
        self.ask(on, Question::Affinity, Some(head), now, |subject, on| subject.stick(on))
    }

    /// `scorer.pick`: a score for each endpoint of `columns`.
    ///
    /// # Errors
    /// As [`Plugin::route`].
    pub fn pick(
        &self,
        on: &mut Instances,
        head: &mut Box<Head>,
        columns: &Columns,
        now: Instant,
    ) -> Result<Vec<f32>, Failure> {
        self.ask(on, Question::Pick, Some(head), now, |subject, on| subject.pick(on, columns))
    }

    /// `scorer.weigh`: a score for each endpoint of `columns`; `now_ms` is a monotonic clock in milliseconds. Off the
    /// request path, always with the same `on`, so that the plugin may keep state from call to call.
    ///
    /// # Errors
    /// As [`Plugin::route`].
    pub fn weigh(&self, on: &mut Instances, now_ms: u64, columns: &Columns, now: Instant) -> Result<Vec<f32>, Failure> {
        self.ask(on, Question::Weigh, None, now, |subject, on| subject.weigh(on, now_ms, columns))
    }

    /// The host found the last answer to `question` malformed: a failure as any other, and the instance is discarded.
    pub fn reject(&self, on: &mut Instances, question: Question, reason: &str, now: Instant) {
        let slot = on.slot(self);
        on.trial(slot, false);
        let instance = on.take(slot);
        self.count_failure(on.counted(slot), question, &Failure::Malformed(reason.to_owned()), instance, now);
    }

    fn ask<R>(
        &self,
        on: &mut Instances,
        question: Question,
        head: Option<&mut Box<Head>>,
        now: Instant,
        call: impl FnOnce(Subject<'_>, &mut Instance) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let slot = on.slot(self);
        let begun = on.begun.take();
        on.ended = None;
        if on.trial(slot, false) {
            self.breaker.succeeded(now); // Its answer was not rejected until now.
        }
        if self.breaker.refuses(now) {
            return Err(no_call(on.counted(slot), question, Failure::Quarantined));
        }
        // A worker without an instance leaves the circuit alone: the one trial is not to be spent on it.
        let ready = match self.settings.isolation {
            Isolation::Request => None,
            Isolation::Worker => match on.take(slot).or_else(|| self.spare(now)) {
                None => return Err(no_call(on.counted(slot), question, Failure::NoInstance)),
                ready => ready,
            },
        };
        let admission = self.breaker.admit(now);
        if admission == Admission::Refuse {
            if let Some(instance) = ready {
                on.put(slot, instance);
            }
            return Err(no_call(on.counted(slot), question, Failure::Quarantined));
        }
        let begun = begun.unwrap_or_else(Instant::now);
        let mut caller = Caller { watched: self.watched(now), ..self.caller() };
        let mut instance = match ready {
            Some(instance) => {
                caller.begun = Some(begun);
                instance
            }
            None => match self.make_for_one_call() {
                Ok(instance) => instance,
                Err(failure) => return Err(self.count_failure(on.counted(slot), question, &failure, None, now)),
            },
        };
        let result = {
            let subject = Subject { caller, fields: &self.manifest, scratch: &mut on.scratch };
            with_head(&mut instance, head, |instance| call(subject, instance))
        };
        let (ended, state) = (Instant::now(), instance.store.data());
        on.ended = Some(ended);
        let lasted = ended.saturating_duration_since(begun);
        on.counted(slot).called(question, lasted, state.limits.used());
        // Making an instance for the one call has a budget of its own.
        let own = state.deadline.begun();
        let took = if own == begun { lasted } else { ended.saturating_duration_since(own) };
        match result.and_then(|answer| self.in_time(&state.deadline, took, now).map(|()| answer)) {
            Ok(answer) => {
                on.trial(slot, admission == Admission::Trial);
                if self.settings.isolation == Isolation::Worker {
                    on.put(slot, instance);
                } // Otherwise dropped here: its slot and pages are warm for the next one on this very core.
                Ok(answer)
            }
            Err(failure) => Err(self.count_failure(on.counted(slot), question, &failure, Some(instance), now)),
        }
    }

    /// Both steps get the call's own budget, which admission has tried.
    fn make_for_one_call(&self) -> Result<Box<Instance>, Failure> {
        let time = self.settings.budget.time;
        self.make(time, time).map(Box::new)
    }

    /// Counts a failure, tells the circuit, and has the instance replaced.
    fn count_failure(
        &self,
        counted: &Shard,
        question: Question,
        failure: &Failure,
        instance: Option<Box<Instance>>,
        now: Instant,
    ) -> Failure {
        counted.failed(question, failure);
        self.log.failure(question.name(), failure);
        if self.breaker.failed(now) {
            self.log.failure("quarantined", &"it failed too often; native answers stand in for it");
        }
        if let Some(instance) = instance {
            self.engine.keeper.discard(instance);
        }
        if self.settings.isolation == Isolation::Worker {
            self.ask_refill(now);
        }
        failure.clone()
    }
}
