//! Whether a proxy does what its scenario asks for: only then is it worth measuring.

use std::path::PathBuf;
use std::process::Command;

use super::generate;
use super::load::{Tool, Work};
use super::targets::{Answers, Target};
use crate::lab::http::{self, Answer, Connection};
use crate::run::{self, Failed, Outcome};

/// How often it is asked; each with another cookie.
const ASKED: usize = 200;

/// Asks `target` as its load will, and says what is wrong with its answers.
pub(super) fn check(target: &Target, work: &Work, port: u16) -> Outcome {
    let outcome = match (target.answers, work.tool) {
        (_, Tool::WrkTls | Tool::WrkShaking) => by_curl(work, port),
        (_, Tool::H2load) => by_nghttp(work, port),
        (Answers::Routed, _) => routed(work, port),
        (Answers::Whole, _) => by_connection(work, port),
        (answers, _) => by_cookie(answers, work, port),
    };
    outcome.map_err(|what| Failed::new(format!("{} does not do what is measured: {what}", target.name)))
}

/// The same users as in `users.lua`.
pub(super) fn cookie(user: usize) -> String {
    format!("theme=dark; uid=user-{}; lang=en", user * 7919)
}

fn by_cookie(answers: Answers, work: &Work, port: u16) -> Result<(), String> {
    let mut connection = Connection::open(port).map_err(|error| error.to_string())?;
    let mut origin = |headers: &[(&str, &str)]| origin_of(ask(&mut connection, work.path, headers)?, work);
    let seen: Vec<String> =
        (0..ASKED).map(|user| origin(&[("Cookie", &cookie(user))])).collect::<Result<_, String>>()?;
    let count = |name: &str| seen.iter().filter(|origin| *origin == name).count();
    let (first, second, canary) = (count("origin-1"), count("origin-2"), count("canary"));
    let balanced = first > ASKED / 5 && second > ASKED / 5;
    let as_wanted = match answers {
        Answers::Policy => balanced && (6..=40).contains(&canary) && origin(&[("X-Canary", "1")])? == "canary",
        _ => balanced && canary == 0,
    };
    if !as_wanted {
        return Err(format!("{ASKED} users went to {first} + {second} and {canary} to the canary"));
    }
    if answers == Answers::Policy {
        // By the cookie, not by chance.
        for (user, before) in seen.iter().enumerate().take(ASKED / 4) {
            let again = origin(&[("Cookie", &cookie(user))])?;
            if (again == "canary") != (before == "canary") {
                return Err(format!("user {user} went to {before}, then to {again}"));
            }
        }
    }
    Ok(())
}

fn by_connection(work: &Work, port: u16) -> Result<(), String> {
    let mut first = 0;
    for _ in 0..ASKED {
        let mut connection = Connection::open(port).map_err(|error| error.to_string())?;
        first += usize::from(origin_of(ask(&mut connection, work.path, &[])?, work)? == "origin-1");
    }
    let wanted = ASKED / 4..=ASKED * 3 / 4;
    if wanted.contains(&first) { Ok(()) } else { Err(format!("of {ASKED} connections {first} went to one of two")) }
}

fn routed(work: &Work, port: u16) -> Result<(), String> {
    let mut connection = Connection::open(port).map_err(|error| error.to_string())?;
    let (mut first, mut second) = (0, 0);
    for route in (0..ASKED).map(|turn| turn * (generate::ROUTES / ASKED) + turn % 50) {
        let path = generate::prefix(route) + "items";
        let answer = ask(&mut connection, &path, &[("Host", &generate::host(route))])?;
        match origin_of(answer, work)?.as_str() {
            "origin-1" => first += 1,
            _ => second += 1,
        }
    }
    if first < ASKED / 5 || second < ASKED / 5 {
        return Err(format!("{ASKED} routes went to {first} + {second}"));
    }
    for (host, path) in [("h1.example", "/nothing"), ("nobody.example", "/p1/items")] {
        let status = ask(&mut connection, path, &[("Host", host)])?.status;
        if status != 404 {
            return Err(format!("{host}{path} gives {status}"));
        }
    }
    Ok(())
}

/// TLS, which the client of these tools does not speak. curl says for each answer what it was and from whom.
fn by_curl(work: &Work, port: u16) -> Result<(), String> {
    let mut curl = Command::new(installed("curl"));
    curl.args(["--silent", "--show-error", "--insecure", "--http1.1", "--max-time", "30", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code} %{size_download} %header{x-origin}\\n"]);
    curl.arg(format!("https://127.0.0.1:{port}{}?[1-40]", work.path));
    let printed = run::output(&mut curl).map_err(|failed| failed.message)?;
    let well = |origin: &str| printed.lines().filter(|line| **line == format!("200 {} {origin}", work.body)).count();
    both("curl", &printed, well("origin-1"), well("origin-2"))
}

/// HTTP/2, which it does not speak either. nghttp shows headers as they come.
fn by_nghttp(work: &Work, port: u16) -> Result<(), String> {
    let mut nghttp = Command::new(installed("nghttp"));
    nghttp.args(["--verbose", "--null-out", "--no-verify-peer", "--timeout=30", "--multiply=40"]);
    let printed = run::output(nghttp.arg(format!("http://127.0.0.1:{port}{}", work.path)));
    let printed = printed.map_err(|failed| failed.message)?;
    // Behind the stream's number, and colours where it thinks of a terminal.
    let count = |header: &str| printed.lines().filter(|line| line.trim_end().ends_with(header)).count();
    if count(":status: 200") != 40 || count(&format!("content-length: {}", work.body)) != 40 {
        return Err(format!("nghttp sees\n{}", printed.lines().take(20).collect::<Vec<_>>().join("\n")));
    }
    both("nghttp", &printed, count("x-origin: origin-1"), count("x-origin: origin-2"))
}

fn both(tool: &str, printed: &str, first: usize, second: usize) -> Result<(), String> {
    let few = || printed.lines().take(4).collect::<Vec<_>>().join("\n");
    if first >= 10 && second >= 10 { Ok(()) } else { Err(format!("{tool} sees {first} + {second}\n{}", few())) }
}

fn installed(program: &str) -> PathBuf {
    run::which(program).unwrap_or_else(|| PathBuf::from(program))
}

fn ask(connection: &mut Connection, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
    connection.exchange(&http::request("GET", path, headers, b"")).map_err(|error| error.to_string())
}

fn origin_of(answer: Answer, work: &Work) -> Result<String, String> {
    match (answer.status, answer.body.len(), answer.header("x-origin")) {
        (200, length, Some(origin)) if length == work.body => Ok(origin.to_string()),
        (status, length, origin) => Err(format!("an answer is {status} with {length} bytes from {origin:?}")),
    }
}
