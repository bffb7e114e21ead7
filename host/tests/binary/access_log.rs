//! The access log of a process: on its stdout, and in a file that is moved away under it.

use std::{fs, io::Read as _, process::Stdio};

use rustix::process::Signal;
use witgate_tests::{origin::Origin, wait_for};

use crate::process::{Room, Serving};

#[test]
fn sigusr1_has_the_file_opened_anew() {
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "[access_log]\npath = \"access.log\"\nformat = \"{path} {status}\"\n");
    let mut serving = room.start();
    let text = |name: &str| fs::read_to_string(room.path(name)).unwrap_or_default();
    assert_eq!(serving.client().get("/1", "").status, 200);
    wait_for("the line", || (text("access.log") == "/1 200\n").then_some(()));
    fs::rename(room.path("access.log"), room.path("access.log.1")).expect("it is there");
    serving.signal(Signal::USR1);
    wait_for("the new file", || room.path("access.log").exists().then_some(()));
    assert_eq!(serving.client().get("/2", "").status, 200);
    // The drain writes what waits.
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait().code(), Some(0));
    assert_eq!((text("access.log.1").as_str(), text("access.log").as_str()), ("/1 200\n", "/2 200\n"));
}

#[test]
fn stdout_has_the_lines_behind_the_first_ones() {
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "[access_log]\npath = \"stdout\"\nformat = \"{path} {status}\"\n");
    let (mut reader, stdout) = std::io::pipe().expect("a pipe");
    let stderr = fs::File::create(room.path("stderr.log")).expect("a file for stderr");
    let mut serving = Serving::unheard(&room, room.spawn_to(stdout.into(), stderr.into()));
    assert_eq!(serving.client().get("/1", "").status, 200);
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait().code(), Some(0));
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("text");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.contains(&"/1 200") && lines.iter().any(|line| line.starts_with("admin ")), "{said}");
}

#[test]
fn a_place_that_cannot_be_opened_is_told_and_nothing_starts() {
    let room = Room::proxying(&Origin::named("origin"), "[access_log]\npath = \"no/such/access.log\"\n");
    room.refuse().check(1, &["the access log", "no/such/access.log, cannot be opened"]);
}

#[test]
fn a_stdout_that_nobody_reads_holds_neither_requests_nor_the_end_up() {
    let (reader, stdout) = std::io::pipe().expect("a pipe");
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "[access_log]\npath = \"stdout\"\nbuffer = \"64KiB\"\n");
    let stderr = fs::File::create(room.path("stderr.log")).expect("a file for stderr");
    let mut serving = Serving::unheard(&room, room.spawn_to(Stdio::from(stdout), stderr.into()));
    let mut client = serving.client();
    let long = format!("referer: {}\r\n", "r".repeat(4_000));
    (0..200).for_each(|n| assert_eq!(client.get(&format!("/{n}"), &long).status, 200));
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait().code(), Some(0));
    drop(reader);
}
