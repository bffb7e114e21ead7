//! What a plugin must pass before it is asked anything that counts: it starts, accepts its configuration, names its
//! fields, and answers each of its questions once about a made-up request. It must never let an answer out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri, header::HOST};
use witgate_core::answer;
use witgate_core::config::Isolation;
use witgate_core::request::{FieldName, Head};

use crate::bindings::{Columns, Manifest, field_name};
use crate::call::{self, Subject};
use crate::engine::{Code, Engine};
use crate::instances::{Caller, Instance, Scratch};
use crate::log::Log;
use crate::{Failure, Question, Refused, Settings, Stage};

/// Time for an instance to be made. componentize-py's take tens of milliseconds on a loaded machine; what needs
/// longer would leave workers without an instance for as long.
pub(crate) const START: Duration = Duration::from_secs(5);
/// Time for `configure`, which may parse large tables and compile patterns.
pub(crate) const CONFIGURE: Duration = Duration::from_secs(1);
/// A rehearsal's budget, as a multiple of the call's own and at least so much: first calls meet cold caches and, in
/// interpreters, first compilations. It finds loops and nonsense; slowness is judged on live calls.
const REHEARSAL: (u32, Duration) = (10, Duration::from_millis(50));
/// Fields of a manifest; wit/types.wit says so to authors.
const FIELDS: usize = 32;

/// Passes a plugin through all of it; returns the fields that it reads.
pub(crate) fn examine(
    engine: &Engine,
    code: &Code,
    settings: &Settings,
    log: &Arc<Log>,
    progress: &dyn Fn(Stage),
) -> Result<Vec<FieldName>, Refused> {
    progress(Stage::Configure);
    let (budget, configure) = (settings.budget, |reason: String| Refused::new(Stage::Configure, reason));
    if budget.memory > engine.memory_ceiling {
        let (asked, ceiling) = (budget.memory >> 20, engine.memory_ceiling >> 20);
        return Err(configure(format!("its memory budget of {asked} MiB is over the ceiling of {ceiling} MiB")));
    }
    let caller = |time| Caller { engine, code, budget: time, begun: None, watched: false };
    let mut instance = caller(START).start(log, budget.memory).map_err(|e| configure(start_failed(&e, settings)))?;
    let fields = caller(CONFIGURE)
        .configure(&mut instance, &settings.config)
        .map_err(|e| configure(during(&e, "configure", CONFIGURE, settings)))?
        .map_err(|text| configure(format!("configure refuses its configuration: {text}")))?;
    let fields = manifest(fields).map_err(configure)?;
    progress(Stage::Rehearse);
    let (times, least) = REHEARSAL;
    rehearse(caller((budget.time * times).max(least)), &mut instance, &fields, settings)?;
    if settings.isolation == Isolation::Request {
        let quick = caller(budget.time);
        let again = quick.start(log, budget.memory).and_then(|mut it| quick.configure(&mut it, &settings.config));
        again
            .map_err(|e| {
                let why = during(&e, "a fresh instance with configure", budget.time, settings);
                configure(format!("{why}; with isolation = \"request\" every call makes one within the time budget"))
            })?
            .map_err(|text| {
                configure(format!("configure accepts its configuration once and then refuses it: {text}"))
            })?;
    }
    Ok(fields)
}

/// The refusal for a spare that could not be made although the first instance could.
pub(crate) fn refused_instance(failure: &Failure, settings: &Settings) -> Refused {
    Refused::new(Stage::Configure, during(failure, "another instance", START, settings))
}

/// The host's names of a manifest's fields.
pub(crate) fn manifest(manifest: Manifest) -> Result<Vec<FieldName>, String> {
    if manifest.fields.len() > FIELDS {
        return Err(format!("its manifest names {} fields; {FIELDS} are allowed", manifest.fields.len()));
    }
    let mut names = Vec::with_capacity(manifest.fields.len());
    for field in manifest.fields {
        let text = format!("{field:?}");
        let name = field_name(field).ok_or_else(|| format!("its manifest names {text}, which is no header's name"))?;
        if names.contains(&name) {
            return Err(format!("its manifest names {name} twice"));
        }
        names.push(name);
    }
    Ok(names)
}

fn rehearse(caller: Caller<'_>, on: &mut Instance, fields: &[FieldName], settings: &Settings) -> Result<(), Refused> {
    let mut scratch = Scratch::default();
    let clusters: Arc<[String]> = ["rehearsal-a".to_owned(), "rehearsal-b".to_owned()].into();
    let columns = columns();
    for question in Question::ALL.into_iter().filter(|&q| caller.code.exports.answers(q)) {
        let refused = |why: String| Refused::new(Stage::Rehearse, why);
        let malformed = |e: answer::Malformed| refused(format!("{question} gave a {e}"));
        let failed = |e: Failure| refused(during(&e, question.name(), caller.budget, settings));
        let mut head = Box::new(request());
        let subject = Subject { caller, fields, scratch: &mut scratch };
        let head = Some(&mut head);
        match question {
            Question::Router => {
                let raw = call::with_head(on, head, |on| subject.route(on)).map_err(failed)?;
                answer::accept_route(raw, |_| Some(0)).map(drop).map_err(malformed)?;
            }
            Question::Splitter => {
                let split = |on: &mut Instance| subject.split(on, 0, &[1, 1], &clusters);
                let raw = call::with_head(on, head, split).map_err(failed)?;
                answer::accept_split(raw, clusters.len()).map(drop).map_err(malformed)?;
            }
            Question::Affinity => {
                let raw = call::with_head(on, head, |on| subject.stick(on)).map_err(failed)?;
                raw.map(answer::accept_stick).transpose().map(drop).map_err(malformed)?;
            }
            Question::Pick => {
                let raw = call::with_head(on, head, |on| subject.pick(on, &columns)).map_err(failed)?;
                answer::accept_scores(&raw, columns.len()).map_err(malformed)?;
            }
            Question::Weigh => {
                let raw = call::with_head(on, None, |on| subject.weigh(on, 1_000, &columns)).map_err(failed)?;
                answer::accept_scores(&raw, columns.len()).map_err(malformed)?;
            }
        }
    }
    Ok(())
}

fn request() -> Head {
    let mut head = Head {
        uri: Uri::from_static("/rehearsal?q=1"),
        client: IpAddr::from([192, 0, 2, 1]), // RFC 5737: for documentation.
        ..Head::default()
    };
    head.headers.insert(HOST, HeaderValue::from_static("rehearsal.invalid")); // RFC 2606.
    head
}

fn columns() -> Columns {
    Columns {
        id: vec![1, 2],
        in_flight: vec![0, 1],
        latency_ms: vec![0.0, 10.0],
        success_rate: vec![1.0, 1.0],
        request_rate: vec![0.0, 1.0],
        weight: vec![1, 1],
        zone: vec![0, 0],
        age_s: vec![0.0, 60.0],
    }
}

fn start_failed(failure: &Failure, settings: &Settings) -> String {
    match failure {
        Failure::Trap(why) => format!("it traps as it starts: {why}"),
        other => during(other, "the start of an instance", START, settings),
    }
}

/// What happened, and what would be right.
fn during(failure: &Failure, what: &str, limit: Duration, settings: &Settings) -> String {
    match failure {
        Failure::Overrun => format!("{what} did not end within {limit:?}"),
        Failure::Memory => {
            let mib = settings.budget.memory >> 20;
            format!("{what} needs more than its memory budget of {mib} MiB (`budget.memory`)")
        }
        Failure::Waited => format!("{what} wants to wait (sleep or poll); a question is answered at once"),
        other => format!("{what} {other}"),
    }
}
