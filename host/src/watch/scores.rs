//! Asks weighing plugins, once an interval, off the request path, and publishes what they say as weight tables. A
//! plugin that fails leaves its last table, which grows stale; the native algorithm then stands.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use witgate_core::{answer, config::ScoreMode};
use witgate_policy::{Instances, Question};

use crate::{
    control::Control,
    drain::Phase,
    generation::{Cluster, Generation},
    scores,
};

/// The shortest sleep between two looks at what is due.
const TICK: Duration = Duration::from_millis(10);

/// What is remembered of a cluster between two rounds.
struct Round {
    due: Instant,
    asked: Option<Instant>,
    /// Requests finished so far, by endpoint id.
    finished: HashMap<u64, u64>,
}

/// Runs until the proxy stops.
pub async fn run(control: Arc<Control>) {
    let start = Instant::now();
    let mut instances = Instances::default();
    let mut rounds: HashMap<String, Round> = HashMap::new();
    let mut phase = control.drain.watch();
    loop {
        let now = Instant::now();
        let generation = control.live.load();
        let mut next = now + Duration::from_secs(1);
        rounds.retain(|name, _| generation.cluster_index(name).is_some());
        for cluster in generation.clusters.iter() {
            let Some(interval) = interval(cluster) else { continue };
            let round = rounds.entry(cluster.config.name.clone()).or_insert_with(|| Round {
                due: now,
                asked: None,
                finished: HashMap::new(),
            });
            if round.due <= now {
                round.due = now + interval;
                weigh(&control, cluster, round, &mut instances, now, start);
            }
            next = next.min(round.due);
        }
        instances.sweep();
        let wait = next.saturating_duration_since(Instant::now()).max(TICK);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
        }
    }
}

fn interval(cluster: &Cluster) -> Option<Duration> {
    match &cluster.scorer.as_ref()?.mode {
        ScoreMode::Weigh { interval, .. } => Some(*interval),
        ScoreMode::Pick { .. } => None,
    }
}

fn weigh(
    control: &Control,
    cluster: &Cluster,
    round: &mut Round,
    instances: &mut Instances,
    now: Instant,
    start: Instant,
) {
    let Some(scorer) = &cluster.scorer else { return };
    let Some(plugin) = &scorer.plugin.plugin else { return };
    if cluster.endpoints.is_empty() {
        return;
    }
    let mut columns = scores::columns(scorer.salt, cluster.endpoints.iter(), now);
    let elapsed = round.asked.map(|asked| now.saturating_duration_since(asked).as_secs_f32());
    // Made anew, so that what is gone is not in it.
    let mut finished = HashMap::with_capacity(columns.id.len());
    for ((rate, id), endpoint) in columns.request_rate.iter_mut().zip(&columns.id).zip(cluster.endpoints.iter()) {
        let total = endpoint.requests();
        if let (Some(before), Some(elapsed)) = (round.finished.get(id), elapsed.filter(|e| *e > 0.0)) {
            *rate = total.saturating_sub(*before) as f32 / elapsed;
        }
        finished.insert(*id, total);
    }
    round.finished = finished;
    round.asked = Some(now);
    let now_ms = u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX);
    let Ok(given) = plugin.weigh(instances, now_ms, &columns, now) else { return };
    if let Err(malformed) = answer::accept_scores(&given, cluster.endpoints.len()) {
        plugin.reject(instances, Question::Weigh, &malformed.0, now);
        return;
    }
    let given = given.into();
    let Ok(_published) =
        control.live.publish(|present| Ok::<_, std::convert::Infallible>(with_table(present, cluster, &given, now)));
}

/// The present generation with one cluster's table replaced; none where the cluster has changed since it was asked about.
fn with_table(present: &Generation, asked: &Cluster, given: &Arc<[f32]>, made: Instant) -> Option<Generation> {
    let index = present.cluster_index(&asked.config.name)?;
    let cluster = &present.clusters[index];
    if !Arc::ptr_eq(&cluster.endpoints, &asked.endpoints) {
        return None;
    }
    let mut cluster = Cluster::clone(cluster);
    // Of the picker that stands now: the one that was asked about may have endpoints that are out since.
    let table = Arc::new(cluster.native.rescore(Some(given)));
    cluster.scorer.as_mut()?.table = Some((table, made));
    Some(present.with_cluster(index, cluster))
}
