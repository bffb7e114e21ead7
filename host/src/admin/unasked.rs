//! What an explanation says of questions that a request comes to and that nobody can be asked: the plugin has no live
//! version, or one that does not export the question.

use std::time::Duration;

use witgate_core::config::{Balance, OnError, ScoreMode};
use witgate_policy::Question;

use crate::{
    generation::{Action, Cluster, Generation, PluginRef, RoutePlan, Scorer},
    proxy::{ask::Asked, decide::Forward},
    reason::Reason,
};

/// How far a request came.
pub(super) enum Came<'a> {
    /// It was answered by the proxy.
    Answered,
    /// Nothing was decided.
    Failed,
    /// An endpoint of a cluster was to be picked.
    Picking {
        /// Where it goes.
        forward: &'a Forward,
        /// Why it goes nowhere.
        failed: Option<Reason>,
    },
}

/// `asked`, and in their places the questions that could not be asked.
pub(super) fn filled_in(generation: &Generation, route: usize, mut asked: Vec<Asked>, came: &Came<'_>) -> Vec<Asked> {
    let (Some(config), Some(plan)) = (generation.config.routes.get(route), generation.routes.plans.get(route)) else {
        return asked;
    };
    let router_decided = asked.iter().any(|asked| asked.question == Question::Router && asked.answer.is_some());
    let names = &config.plugins;
    let forwarded = match came {
        Came::Picking { forward, failed } => generation.clusters.get(forward.cluster).map(|c| (&**c, forward, failed)),
        Came::Answered | Came::Failed => None,
    };
    let scorer = forwarded.and_then(|(cluster, forward, failed)| scores(cluster, forward, *failed));
    let wanted = [
        Some((Question::Router, names.router.as_deref(), plan.router.as_ref())),
        (!router_decided && is_split(plan)).then_some((
            Question::Splitter,
            names.splitter.as_deref(),
            plan.splitter.as_ref(),
        )),
        (!matches!(came, Came::Answered)).then_some((
            Question::Affinity,
            names.affinity.as_deref(),
            plan.affinity_plugin.as_ref(),
        )),
        scorer.map(|(question, name, plugin)| (question, Some(name), Some(plugin))),
    ];
    let mut all = Vec::new();
    for (question, name, plugin) in wanted.into_iter().flatten() {
        let (Some(name), Some(plugin)) = (name, plugin) else { continue };
        let one = match asked.iter().position(|asked| asked.question == question) {
            Some(index) => asked.remove(index),
            None if plugin.plugin.is_none() => unasked(generation, question, name),
            None => continue,
        };
        // A request that a plugin's failure ends comes to no further question.
        let ends = one.fallback.is_some() && plugin.on_error == OnError::Reject;
        all.push(one);
        if ends && question != Question::Weigh {
            break;
        }
    }
    all.append(&mut asked);
    all
}

fn is_split(plan: &RoutePlan) -> bool {
    matches!(plan.action, Action::Split(_))
}

/// What the cluster's scorer is asked: all the time, or for a request that is not kept on an endpoint and has a choice.
fn scores<'g>(
    cluster: &'g Cluster,
    forward: &Forward,
    failed: Option<Reason>,
) -> Option<(Question, &'g str, &'g PluginRef)> {
    let Balance::Plugin { plugin: name, .. } = &cluster.config.balance else { return None };
    let Scorer { plugin, mode, .. } = cluster.scorer.as_ref()?;
    let question = match mode {
        ScoreMode::Weigh { .. } => Question::Weigh,
        ScoreMode::Pick { .. } => {
            let kept = forward.hash.is_some()
                || forward.sticky.is_some_and(|id| cluster.endpoints.iter().any(|endpoint| endpoint.id() == id));
            let choice = !kept && cluster.endpoints.len() > 1;
            (choice || failed == Some(Reason::PluginFailure)).then_some(Question::Pick)?
        }
    };
    Some((question, name, plugin))
}

fn unasked(generation: &Generation, question: Question, name: &str) -> Asked {
    let slot = generation.plugins.get(name);
    let live = slot.and_then(|slot| slot.live.as_ref());
    let why = match (live, slot.and_then(|slot| slot.broken.as_deref())) {
        (Some(_), _) => "the live version does not export this".to_owned(),
        (None, Some(broken)) => format!("no version is live: {broken}"),
        (None, None) => "no version is live".to_owned(),
    };
    Asked {
        question,
        plugin: name.to_owned(),
        version: live.map(|plugin| plugin.version()),
        answer: None,
        fallback: Some(why),
        took: Duration::ZERO,
    }
}
