//! Asks plugins: one function a question, each of which answers with the plugin's accepted opinion or with none, for
//! the native decision. An answer takes effect only through `core::answer`.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use witgate_core::{
    answer::{self, RouteAction, Stick},
    config::OnError,
    request::Head,
};
use witgate_policy::{Columns, Failure, Instances, Plugin, Question};

use crate::{
    generation::{Generation, PluginRef, RoutePlan, Split},
    reason::Reason,
};

/// Who asks: the plugin instances of one thread, the time, random bits, and, for an explanation, a record of what was
/// asked and answered.
pub struct Asker<'a> {
    instances: &'a mut Instances,
    /// The clock's last reading. What lies between that and the next question is a matter of nanoseconds.
    now: Instant,
    random: &'a dyn Fn() -> u64,
    record: Option<&'a mut Vec<Asked>>,
}

/// One question as it was answered.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which question.
    pub question: Question,
    /// Which plugin.
    pub plugin: String,
    /// Which version of it; none where no version is live.
    pub version: Option<u32>,
    /// The answer in words; none where the plugin had no opinion or failed.
    pub answer: Option<String>,
    /// Why the native decision stands in the plugin's place.
    pub fallback: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl<'a> Asker<'a> {
    /// Begins to ask `now`, when a clock was read.
    pub fn new(instances: &'a mut Instances, now: Instant, random: &'a dyn Fn() -> u64) -> Self {
        Self { instances, now, random, record: None }
    }

    /// The same, with a record.
    pub fn recording(self, record: &'a mut Vec<Asked>) -> Self {
        Self { record: Some(record), ..self }
    }

    /// The present time: as of the last question's end, or as it was at the begin.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        (self.random)()
    }

    /// Asks `plugin` and has its answer accepted. None: no plugin is live, or it failed and the native decision stands.
    fn ask<R, A>(
        &mut self,
        question: Question,
        asked: Option<&PluginRef>,
        call: impl FnOnce(&Plugin, &mut Instances, Instant) -> Result<R, Failure>,
        accept: impl FnOnce(R) -> Result<A, answer::Malformed>,
        words: impl FnOnce(&A) -> Option<String>,
    ) -> Result<Option<A>, Reason> {
        let Some(asked) = asked else { return Ok(None) };
        let Some(plugin) = &asked.plugin else {
            // Whoever says "reject" means that no request may pass without the plugin's word.
            return if asked.on_error == OnError::Reject { Err(Reason::PluginFailure) } else { Ok(None) };
        };
        let began = self.record.is_some().then(Instant::now);
        self.instances.begin_at(self.now);
        let outcome = call(plugin, self.instances, self.now).and_then(|raw| {
            accept(raw).map_err(|malformed| {
                plugin.reject(self.instances, question, &malformed.0, self.now);
                Failure::Malformed(malformed.0)
            })
        });
        self.now = self.instances.ended().unwrap_or(self.now);
        if let (Some(record), Some(began)) = (self.record.as_deref_mut(), began) {
            record.push(Asked {
                question,
                plugin: plugin.name().to_owned(),
                version: Some(plugin.version()),
                answer: outcome.as_ref().ok().and_then(words),
                fallback: outcome.as_ref().err().map(ToString::to_string),
                took: began.elapsed(),
            });
        }
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(_) if asked.on_error == OnError::Reject => Err(Reason::PluginFailure),
            Err(_) => Ok(None),
        }
    }
}

/// Which cluster. Header changes of an accepted answer are made.
pub fn router(
    asker: &mut Asker<'_>,
    route: &RoutePlan,
    generation: &Generation,
    head: &mut Box<Head>,
) -> Result<RouteAction, Reason> {
    let decision = asker.ask(
        Question::Router,
        route.router.as_ref(),
        |plugin, instances, now| plugin.route(instances, head, now),
        |raw| answer::accept_route(raw, |name| generation.cluster_index(name)),
        |accepted| match &accepted.action {
            RouteAction::Pass => None,
            RouteAction::Cluster(index) => Some(format!("cluster {}", generation.clusters[*index].config.name)),
            RouteAction::Respond { status, .. } => Some(format!("respond {status}")),
        },
    )?;
    let Some(decision) = decision else { return Ok(RouteAction::Pass) };
    for name in decision.remove_headers {
        head.headers.remove(name);
    }
    for (name, value) in decision.set_headers {
        head.headers.insert(name, value);
    }
    Ok(decision.action)
}

/// Which choice of a split.
pub fn splitter(
    asker: &mut Asker<'_>,
    route: &RoutePlan,
    split: &Split,
    head: &mut Box<Head>,
) -> Result<Option<usize>, Reason> {
    let choice = asker.ask(
        Question::Splitter,
        route.splitter.as_ref(),
        |plugin, instances, now| plugin.split(instances, head, split.offer, &split.weights, &split.names, now),
        |raw| answer::accept_split(raw, split.clusters.len()),
        |choice| choice.map(|index| format!("cluster {}", split.names[index])),
    )?;
    Ok(choice.flatten())
}

/// Which key.
pub fn affinity(asker: &mut Asker<'_>, route: &RoutePlan, head: &mut Box<Head>) -> Result<Option<Stick>, Reason> {
    let stick = asker.ask(
        Question::Affinity,
        route.affinity_plugin.as_ref(),
        |plugin, instances, now| plugin.stick(instances, head, now),
        |raw| raw.map(answer::accept_stick).transpose(),
        |stick| {
            let stick = stick.as_ref()?;
            Some(format!(
                "key hash {:016x}{}",
                stick.hash,
                if stick.set_cookie.is_some() { ", sets a cookie" } else { "" }
            ))
        },
    )?;
    Ok(stick.flatten())
}

/// How good each candidate is.
pub fn picker(
    asker: &mut Asker<'_>,
    plugin: &PluginRef,
    head: &mut Box<Head>,
    columns: &Columns,
) -> Result<Option<SmallVec<[f32; 8]>>, Reason> {
    asker.ask(
        Question::Pick,
        Some(plugin),
        |plugin, instances, now| plugin.pick(instances, head, columns, now),
        |raw| answer::accept_scores(&raw, columns.id.len()).map(|()| SmallVec::from_vec(raw)),
        |scores| Some(format!("scores {scores:?}")),
    )
}
