//! Endpoints by merit: what each gets while the scores settle, and that the slow one is not forgotten.

use std::{thread, time::Duration};

use super::{
    super::show::{Table, bar, count, sparkline},
    Outcome,
    load::{Answer, Ask, Flow, Record},
    origins::ORIGINS,
    report::{Report, percent},
    world::World,
};

const CONNECTIONS: usize = 16;
const RUN: Duration = Duration::from_secs(4);
/// One character of the line over time.
const WINDOW: Duration = Duration::from_millis(200);
/// From then on scores are settled: several of the plugin's averages and of the proxy's rounds.
const SETTLED: Duration = Duration::from_secs(2);

const ENDPOINTS: [&str; 4] = ["search-1", "search-2", "search-3", "search-4"];
const SLOWEST: usize = 3;
/// None of the endpoints.
const STRANGER: u8 = u8::MAX;

pub(super) fn show(world: &World, report: &mut Report) -> Outcome {
    report.chapter(
        "latency, a scorer: the slow one gets less, and is not forgotten",
        &format!(
            "GET /search/ over {CONNECTIONS} connections for {} s; scores are computed ten times a second, off the request path",
            RUN.as_secs()
        ),
    );
    let flow = Flow::start(world.web, CONNECTIONS, Ask::new("/search/"), endpoint)?;
    thread::sleep(RUN);
    let records = flow.stop()?;
    world.on()?;
    let Some(start) = records.first().map(|record| record.began) else {
        report.claim(false, "no request was made");
        return Ok(());
    };
    let windows = (RUN.as_millis() / WINDOW.as_millis()) as usize;
    let mut counts = vec![[0_u64; ENDPOINTS.len()]; windows];
    for Record { began, outcome, .. } in records {
        let Some(endpoint) = report.request(outcome) else { continue };
        let window = (began.duration_since(start).as_millis() / WINDOW.as_millis()) as usize;
        if let Some(cell) = counts.get_mut(window).and_then(|cells| cells.get_mut(usize::from(endpoint))) {
            *cell += 1;
        }
    }
    let settled = &counts[(SETTLED.as_millis() / WINDOW.as_millis()) as usize..];
    let of = |endpoint: usize| settled.iter().map(|cells| cells[endpoint]).sum::<u64>();
    let all: u64 = (0..ENDPOINTS.len()).map(of).sum();
    let mut table =
        Table::new(&["endpoint", ">takes", ">share", ">requests", "settled", "over time, from the first request"])
            .indent(3);
    for (endpoint, name) in ENDPOINTS.into_iter().enumerate() {
        let share = percent(of(endpoint), all);
        let line = counts.iter().map(|cells| cells[endpoint] as f64 / cells.iter().sum::<u64>() as f64);
        let drawn = report.paint.cyan(bar(share / 100.0, 40));
        let line = report.paint.dim(sparkline(line, 0.5));
        table.row([name, &delay(name), &format!("{share:.1} %"), &count(of(endpoint)), &drawn, &line]);
    }
    report.table(&table);
    let fair = 100.0 / ENDPOINTS.len() as f64;
    let slowest = percent(of(SLOWEST), all);
    report.claim(
        slowest < fair / 2.0,
        format_args!("{} has {slowest:.1} % where an equal share were {fair:.1} %", ENDPOINTS[SLOWEST]),
    );
    report.claim(
        of(SLOWEST) > 0,
        "and yet it is asked, so that it would be seen to recover (slowly: it is measured rarely)",
    );
    report.claim_none_failed();
    Ok(())
}

fn endpoint(answer: &Answer) -> u8 {
    (0_u8..).zip(ENDPOINTS).find(|(_, name)| *name == answer.origin()).map_or(STRANGER, |(index, _)| index)
}

fn delay(name: &str) -> String {
    let takes = ORIGINS.iter().find(|(origin, _)| *origin == name).map(|(_, delay)| *delay);
    format!("{} ms", takes.unwrap_or_default().as_millis())
}
