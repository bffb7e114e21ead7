//! One version of a plugin replaced by another, again and again, while clients send as fast as they can: what each
//! activation did to what was in flight, and what it cost.

use std::{
    thread,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

use super::{
    super::show::{Table, count, time},
    Outcome,
    load::{Answer, Ask, Flow, Record},
    report::Report,
    world::World,
};

const CONNECTIONS: usize = 32;
const ACTIVATIONS: u32 = 24;
/// How long a version serves before the next one replaces it.
const SERVES: Duration = Duration::from_millis(120);
/// Load without activations, before and after.
const CALM: Duration = Duration::from_millis(1200);
/// By then, after the API's answer, a new request must see the new version.
const VISIBLE: Duration = Duration::from_millis(100);

/// Versions by their judged answer; the plugin's version number is one more.
const VERSIONS: [&str; 2] = ["blue", "green"];
/// An answer that is neither: made of both versions, or of none.
const MIXED: u8 = 2;

/// One activation.
struct Swap {
    /// Index into [`VERSIONS`].
    to: u8,
    asked: Instant,
    answered: Instant,
}

pub(super) fn show(world: &World, report: &mut Report) -> Outcome {
    report.chapter(
        "a plugin replaced under load",
        &format!(
            "GET /app/ over {CONNECTIONS} connections at full speed; version 1 of the plugin `release` sends to blue, version 2 \
             to green,\nand each also says so in a header: an answer that is half the one and half the other would show. \
             {ACTIVATIONS} activations\nthrough the admin API, each checked, written to disk and then published"
        ),
    );
    let flow = Flow::start(world.web, CONNECTIONS, Ask::new("/app/"), version)?;
    let swaps = swaps(world);
    // Whatever came of it, the clients are to be stopped.
    let records = flow.stop()?;
    world.on()?;
    let swaps = swaps?;
    let lives = table(report, &swaps, &records);
    phases(report, &swaps, &records);
    claims(report, &lives, &records);
    for record in records {
        report.request(record.outcome);
    }
    report.claim_none_failed();
    Ok(())
}

/// Which version an answer is of: origin and header must agree.
fn version(answer: &Answer) -> u8 {
    let of = |name: &str| (0_u8..).zip(VERSIONS).find(|(_, version)| *version == name).map(|(index, _)| index);
    match (of(answer.origin()), of(answer.header("x-release"))) {
        (Some(cluster), Some(header)) if cluster == header => cluster,
        _ => MIXED,
    }
}

fn swaps(world: &World) -> Outcome<Vec<Swap>> {
    let bar = ProgressBar::new(ACTIVATIONS.into());
    thread::sleep(CALM);
    let mut swaps = Vec::with_capacity(ACTIVATIONS as usize);
    for n in 1..=ACTIVATIONS {
        // The first version is live at the start.
        let to = (n % 2) as u8;
        let asked = Instant::now();
        world.activate("release", u32::from(to) + 1)?;
        swaps.push(Swap { to, asked, answered: Instant::now() });
        thread::sleep(SERVES);
        bar.inc(1);
    }
    thread::sleep(CALM - SERVES);
    bar.finish_and_clear();
    Ok(swaps)
}

/// What clients saw from an activation's answer to the next activation.
struct Life {
    in_flight: u64,
    /// From the answer to the end of the first request that began after it and got the new version.
    first: Option<Duration>,
    /// Requests that began after the answer, by version.
    by_version: [u64; 2],
    /// From the answer to the beginning of the last request that still got the old version.
    stale: Option<Duration>,
}

impl Life {
    fn of(swap: &Swap, until: Instant, records: &[Record]) -> Self {
        let in_flight = records.iter().filter(|r| r.began <= swap.answered && swap.answered < r.ended).count() as u64;
        let mut life = Self { in_flight, first: None, by_version: [0; 2], stale: None };
        // Those that ended after the next activation was asked for may rightly have either.
        for record in records.iter().filter(|r| r.began > swap.answered && r.ended < until) {
            let Ok(version) = record.outcome else { continue };
            if let Some(cell) = life.by_version.get_mut(usize::from(version)) {
                *cell += 1;
            }
            if version == swap.to {
                let after = record.ended.duration_since(swap.answered);
                life.first = Some(life.first.map_or(after, |first| first.min(after)));
            } else {
                let after = record.began.duration_since(swap.answered);
                life.stale = Some(life.stale.map_or(after, |stale| stale.max(after)));
            }
        }
        life
    }
}

fn table(report: &Report, swaps: &[Swap], records: &[Record]) -> Vec<Life> {
    let paint = report.paint;
    let painted = |version: u8, text: String| if version == 0 { paint.cyan(text) } else { paint.green(text) };
    let mut table = Table::new(&[
        ">swap",
        "to",
        ">took",
        ">in flight",
        ">first new answer",
        ">then blue",
        ">green",
        "blue        green",
    ])
    .indent(3);
    let next = swaps.iter().skip(1).map(|swap| swap.asked);
    let ends = next.chain(swaps.last().map(|last| last.answered + SERVES));
    let lives: Vec<Life> = swaps.iter().zip(ends).map(|(swap, until)| Life::of(swap, until, records)).collect();
    for ((n, swap), life) in (1..).zip(swaps).zip(&lives) {
        let [blue, green] = life.by_version;
        let all = (blue + green).max(1) as f64;
        // A lane for each version, so that without colours too the answer is seen to change sides.
        let lane = |version: u8, n: u64| {
            painted(version, format!("{:12}", "■".repeat((n as f64 / all * 12.0).ceil() as usize)))
        };
        table.row([
            n.to_string(),
            painted(swap.to, VERSIONS[usize::from(swap.to)].to_owned()),
            time(swap.answered - swap.asked),
            count(life.in_flight),
            life.first.map_or_else(|| "never".to_owned(), |first| format!("after {}", time(first))),
            count(blue),
            count(green),
            lane(0, blue) + &lane(1, green),
        ]);
    }
    report.table(&table);
    lives
}

/// Whether a request is of a part of the time.
type Belongs<'a> = &'a dyn Fn(&Record) -> bool;

/// Latency before, during and after.
fn phases(report: &Report, swaps: &[Swap], records: &[Record]) {
    let (Some(first), Some(last)) = (swaps.first(), swaps.last()) else { return };
    let mut table = Table::new(&["", ">requests", ">per second", ">p50", ">p99", ">slowest"]).indent(3);
    let during = |r: &Record| r.ended >= first.asked && r.began <= last.answered;
    let parts: [(&str, Belongs<'_>); 3] = [
        ("before the first swap", &|r| r.ended < first.asked),
        ("while swapping", &during),
        ("after the last swap", &|r| r.began > last.answered),
    ];
    for (name, belongs) in parts {
        let part: Vec<&Record> = records.iter().filter(|r| belongs(r)).collect();
        let mut latencies: Vec<Duration> = part.iter().map(|r| r.ended - r.began).collect();
        latencies.sort_unstable();
        let quantile = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).or(latencies.last());
        let show = |latency: Option<&Duration>| latency.map_or_else(String::new, |latency| time(*latency));
        let span = part.last().map_or(Duration::ZERO, |last| last.ended - part[0].began).as_secs_f64();
        let rate = (part.len() as f64 / span.max(f64::EPSILON)) as u64;
        let cells = [show(quantile(0.5)), show(quantile(0.99)), show(latencies.last())];
        table.row([name.to_owned(), count(part.len() as u64), count(rate)].into_iter().chain(cells));
    }
    crate::cli::show::say!();
    report.table(&table);
}

fn claims(report: &mut Report, lives: &[Life], records: &[Record]) {
    let changed = lives.iter().filter(|life| life.first.is_some_and(|first| first <= VISIBLE)).count();
    let slowest = lives.iter().filter_map(|life| life.first).max().unwrap_or_default();
    report.claim(
        changed == lives.len(),
        format_args!(
            "{changed} of {} activations showed in a new request within {}, the slowest after {}",
            lives.len(),
            time(VISIBLE),
            time(slowest)
        ),
    );
    let stale = lives.iter().filter_map(|life| life.stale).max();
    let text = stale.map_or_else(|| "no request".to_owned(), |stale| format!("a request {} later", time(stale)));
    report
        .claim(stale.is_none(), format_args!("{text} that began after an activation's answer got the version before"));
    let mixed = records.iter().filter(|record| record.outcome == Ok(MIXED)).count() as u64;
    report.claim(
        mixed == 0,
        format_args!("{} of {} answers were of no version or of both", count(mixed), count(records.len() as u64)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a life comes to of requests given as (began, ended, version), in milliseconds; it lasts from 10 to 30.
    #[track_caller]
    fn check(requests: &[(u64, u64, u8)], want: (u64, Option<u64>, [u64; 2], Option<u64>)) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let record = |&(began, ended, version)| Record { began: at(began), ended: at(ended), outcome: Ok(version) };
        let records: Vec<Record> = requests.iter().map(record).collect();
        let life = Life::of(&Swap { to: 1, asked: at(5), answered: at(10) }, at(30), &records);
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        assert_eq!((life.in_flight, ms(life.first), life.by_version, ms(life.stale)), want, "{requests:?}");
    }

    #[test]
    fn lives() {
        check(&[], (0, None, [0, 0], None));
        // In flight at the answer: either version is right, and neither counts.
        check(&[(9, 12, 0), (9, 13, 1)], (2, None, [0, 0], None));
        check(&[(12, 15, 1), (11, 16, 1)], (0, Some(5), [0, 2], None));
        check(&[(12, 15, 1), (14, 16, 0), (29, 31, 0)], (0, Some(5), [1, 1], Some(4)));
        check(&[(12, 15, MIXED)], (0, None, [0, 0], Some(2)));
    }
}
