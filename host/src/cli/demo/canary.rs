//! A percentage of users to the canary: measured on users who come twice, and overruled by a header.

use super::{
    super::show::{Table, bar, count},
    Outcome,
    load::{self, Ask},
    report::{Report, percent},
    world::World,
};

/// What the configuration says.
const CHOICES: [(&str, f64); 2] = [("stable", 90.0), ("canary", 10.0)];
/// Points that a share may be off, or four standard errors where so few users are asked that these are more.
const TOLERANCE: f64 = 1.5;
const CONNECTIONS: usize = 32;
/// Users of each side who ask for the other one.
const FORCED: u32 = 100;

pub(super) fn show(world: &World, report: &mut Report, users: u32) -> Outcome {
    report.chapter(
        "canary, a splitter: one user in ten, always the same ones",
        &format!("GET /shop/ by {} users with a cookie each, twice", count(users)),
    );
    let first = visit(world, report, users, None)?;
    let second = visit(world, report, users, None)?;
    world.on()?;
    let mut table = Table::new(&["cluster", ">configured", ">got", ">users", ""]).indent(3);
    let mut off: f64 = 0.0;
    for (choice, (cluster, configured)) in (0_u8..).zip(CHOICES) {
        let got = first.iter().filter(|side| **side == Some(choice)).count() as u64;
        let share = percent(got, users.into());
        off = off.max((share - configured).abs());
        let drawn = report.paint.cyan(bar(share / 100.0, 40));
        table.row([cluster, &format!("{configured:.1} %"), &format!("{share:.2} %"), &count(got), &drawn]);
    }
    report.table(&table);
    let tolerance = TOLERANCE.max(4.0 * (10.0 * 90.0 / f64::from(users)).sqrt());
    report.claim(off <= tolerance, format_args!("shares are {off:.2} points off, at most {tolerance:.1} are allowed"));
    let flipped = first.iter().zip(&second).filter(|(first, second)| first != second).count() as u64;
    report.claim(flipped == 0, format_args!("{} users were on the other side on their second visit", count(flipped)));
    let few = users.min(FORCED);
    for (value, side) in [("1", 1), ("0", 0)] {
        let forced = visit(world, report, few, Some(value))?;
        let there = forced.iter().filter(|got| **got == Some(side)).count();
        let cluster = CHOICES[usize::from(side)].0;
        report.claim(
            forced.len() == there,
            format_args!("x-canary: {value} puts {there} of {few} users on {cluster}, whoever they are"),
        );
    }
    report.claim_none_failed();
    Ok(())
}

/// Where each user came out, as an index into [`CHOICES`].
fn visit(world: &World, report: &mut Report, users: u32, force: Option<&'static str>) -> Outcome<Vec<Option<u8>>> {
    let mut sides = vec![None; users as usize];
    let ask = move |user: u32| {
        let ask = Ask::new("/shop/").header("cookie", format!("uid=user-{user}"));
        match force {
            Some(value) => ask.header("x-canary", value),
            None => ask,
        }
    };
    load::each(world.web, CONNECTIONS, users, ask, |user, outcome| {
        let side = |origin: &str| (0_u8..).zip(CHOICES).find(|(_, (name, _))| *name == origin).map(|(side, _)| side);
        sides[user as usize] = report.request(outcome).and_then(|answer| side(answer.origin()));
    })?;
    Ok(sides)
}
