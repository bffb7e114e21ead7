//! Whose request it is: cluster, refusal or redirect, and what the origin is told.

use super::{
    super::show::Table,
    Outcome,
    load::{self, Answer, Ask},
    report::Report,
    world::World,
};

/// A request and what must come of it.
struct Case {
    says: &'static str,
    ask: fn() -> Ask,
    status: u16,
    /// The origin that answers; empty where the plugin does.
    origin: &'static str,
    /// What it was told in `x-tenant`, or else what the plugin's own answer says.
    told: &'static str,
}

/// Every request also claims to be of a tenant, which nobody may believe.
fn forged(path: &'static str) -> Ask {
    Ask::new(path).header("x-tenant", "forged")
}

const CASES: [Case; 6] = [
    Case {
        says: "Host: acme.example.com",
        ask: || forged("/api/").host("acme.example.com"),
        status: 200,
        origin: "acme",
        told: "acme",
    },
    Case {
        says: "x-account: globex",
        ask: || forged("/api/").header("x-account", "globex"),
        status: 200,
        origin: "globex",
        told: "globex",
    },
    Case {
        says: "x-account: nobody",
        ask: || forged("/api/").header("x-account", "nobody"),
        status: 200,
        origin: "stable",
        told: "",
    },
    Case { says: "nothing", ask: || forged("/api/"), status: 200, origin: "stable", told: "" },
    Case {
        says: "GET /api/internal/",
        ask: || forged("/api/internal/"),
        status: 403,
        origin: "",
        told: "not from outside",
    },
    Case {
        says: "Host: www.old.example.com",
        ask: || forged("/api/a?b=1").host("www.old.example.com"),
        status: 308,
        origin: "",
        told: "https://example.com/api/a?b=1",
    },
];

/// Times that each case is asked.
const TIMES: u32 = 50;
const CONNECTIONS: usize = 8;

pub(super) fn show(world: &World, report: &mut Report) -> Outcome {
    report.chapter(
        "tenant, a router: whose request is it?",
        &format!("GET /api/, each request {TIMES} times, each with a forged x-tenant"),
    );
    let mut table = Table::new(&["the request says", ">status", "answered by", "x-tenant, body or location"]).indent(3);
    let mut right = 0;
    for case in &CASES {
        let mut shown = None;
        let ask = case.ask;
        load::each(
            world.web,
            CONNECTIONS,
            TIMES,
            move |_| ask(),
            |_, outcome| {
                let got = report.request(outcome).map(|answer| seen(&answer));
                right += u32::from(got.as_ref().is_some_and(|got| case.wants(got)));
                // One that is wrong is the one to show.
                if shown.as_ref().is_none_or(|shown| case.wants(shown)) {
                    shown = got.or(shown.take());
                }
            },
        )?;
        let (status, origin, told) = shown.unwrap_or_default();
        let origin = if origin.is_empty() { report.paint.yellow("the plugin") } else { report.paint.cyan(origin) };
        let told = if told.is_empty() { report.paint.dim("(removed)") } else { told };
        table.row([case.says, &status.to_string(), &origin, &told]);
    }
    world.on()?;
    report.table(&table);
    let all = TIMES * CASES.len() as u32;
    report.claim(
        right == all,
        format_args!("{right} of {all} requests were answered so, and no forged x-tenant got through"),
    );
    report.claim_none_failed();
    Ok(())
}

impl Case {
    fn wants(&self, (status, origin, told): &(u16, String, String)) -> bool {
        (*status, origin.as_str(), told.as_str()) == (self.status, self.origin, self.told)
    }
}

fn seen(answer: &Answer) -> (u16, String, String) {
    let told = match answer.status {
        200 => answer.header("x-tenant").to_owned(),
        308 => answer.header("location").to_owned(),
        _ => String::from_utf8_lossy(&answer.body).trim().to_owned(),
    };
    (answer.status, answer.origin().to_owned(), told)
}
