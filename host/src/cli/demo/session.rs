//! Clients that stay on their endpoint: a cookie comes with the first answer, and every later request goes to the same
//! place.

use std::collections::BTreeMap;

use super::{
    super::show::{Table, bar, count},
    Outcome,
    load::{self, Ask},
    report::{Report, percent},
    world::World,
};

const CLIENTS: u32 = 300;
/// Requests of each client after the first.
const RETURNS: u32 = 10;
const CONNECTIONS: usize = 16;

/// What a client remembers: its cookie and who answered first.
type Memory = Option<(String, String)>;

pub(super) fn show(world: &World, report: &mut Report) -> Outcome {
    report.chapter(
        "session, an affinity: who came once comes back to the same place",
        &format!("GET /cart/ by {CLIENTS} new clients, then {RETURNS} times more with the cookie they were given"),
    );
    let mut memories: Vec<Memory> = vec![None; CLIENTS as usize];
    load::each(
        world.web,
        CONNECTIONS,
        CLIENTS,
        |_| Ask::new("/cart/"),
        |client, outcome| {
            let answer = report.request(outcome);
            memories[client as usize] = answer.and_then(|answer| {
                let (cookie, _) = answer.header("set-cookie").split_once(';')?;
                Some((cookie.to_owned(), answer.origin().to_owned()))
            });
        },
    )?;
    let sent = memories.clone();
    let ask = move |n: u32| match &sent[(n % CLIENTS) as usize] {
        Some((cookie, _)) => Ask::new("/cart/").header("cookie", cookie),
        None => Ask::new("/cart/"),
    };
    let (mut strayed, mut issued_again) = (0_u64, 0_u64);
    load::each(world.web, CONNECTIONS, CLIENTS * RETURNS, ask, |n, outcome| {
        let (Some(answer), Some((_, home))) = (report.request(outcome), &memories[(n % CLIENTS) as usize]) else {
            return;
        };
        strayed += u64::from(answer.origin() != home);
        issued_again += u64::from(!answer.header("set-cookie").is_empty());
    })?;
    world.on()?;
    let mut homes: BTreeMap<&str, u64> = BTreeMap::new();
    memories.iter().flatten().for_each(|(_, home)| *homes.entry(home).or_default() += 1);
    let mut table = Table::new(&["endpoint", ">clients", ">share", ""]).indent(3);
    for (endpoint, clients) in &homes {
        let share = percent(*clients, CLIENTS.into());
        let drawn = report.paint.cyan(bar(share / 100.0, 40));
        table.row([*endpoint, &count(*clients), &format!("{share:.1} %"), &drawn]);
    }
    report.table(&table);
    let given = memories.iter().flatten().count();
    let example = memories.iter().flatten().next().map_or("none", |(cookie, _)| cookie.as_str());
    report.claim(
        given == CLIENTS as usize,
        format_args!("{given} of {CLIENTS} clients were given a cookie, such as {example}"),
    );
    let returns = count(CLIENTS * RETURNS);
    report.claim(
        strayed == 0 && issued_again == 0,
        format_args!(
            "of {returns} later requests {strayed} went elsewhere, and {issued_again} were given another cookie"
        ),
    );
    report.claim(homes.len() == 3, format_args!("{} of 3 endpoints have clients", homes.len()));
    report.claim_none_failed();
    Ok(())
}
