//! The log and the first lines of a process whose reader is gone, stalls, or sits on a full disk: it serves, answers its
//! admin API and obeys signals as ever.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
    process::Stdio,
    thread,
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::Signal,
};
use witgate_tests::{
    client::{self, Client},
    origin::Origin,
    wait_for,
};

use crate::process::{Room, Serving, admin_request, answering};

/// A pipe that takes nothing more until it is read.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("it is ours");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).expect("it is ours");
    (reader, writer)
}

fn gone() -> PipeWriter {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer
}

fn lost(serving: &Serving) -> u64 {
    let metrics = client::get(serving.admin(), "/metrics", "").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("witgate_log_lines_dropped_total "));
    line.unwrap_or_else(|| panic!("no such metric in {metrics}")).parse().expect("a number")
}

/// Everything that logs while it serves: an upload, an answer to a bad token.
fn use_it(serving: &Serving) {
    assert_eq!(serving.status(), 200);
    serving.upload("flip", &answering(250, 0));
    assert_eq!(serving.status(), 250);
    let wrong = admin_request("wrong", "GET", "/v1/plugins", b"");
    assert_eq!(Client::connect(serving.admin()).ask(wrong).status, 401);
    assert_eq!(client::get(serving.admin(), "/readyz", "").status, 200);
}

fn drained(mut serving: Serving) {
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait().code(), Some(0));
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let disk = File::options().write(true).open("/dev/full").expect("Linux has it");
    for stderr in [Stdio::from(disk), gone().into()] {
        let origin = Origin::named("origin");
        let room = Room::proxying(&origin, "");
        let serving = room.serving(room.spawn_to(Stdio::piped(), stderr));
        use_it(&serving);
        // Logs on the thread that has to hear the next signal, too.
        serving.signal(Signal::HUP);
        wait_for("lost lines to be counted", || (lost(&serving) > 3).then_some(()));
        drained(serving);
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let (_reader, stderr) = full();
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let serving = room.serving(room.spawn_to(Stdio::piped(), stderr.into()));
    use_it(&serving);
    drained(serving);
}

#[test]
fn a_second_signal_ends_it_though_nobody_reads_the_log() {
    let (_reader, stderr) = full();
    let origin = Origin::scripted(|_, _| true);
    let room = Room::proxying(&origin, "");
    let mut serving = room.serving(room.spawn_to(Stdio::piped(), stderr.into()));
    let mut held = serving.client();
    held.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("it listens");
    wait_for("the request", || (!origin.seen().is_empty()).then_some(()));
    serving.signal(Signal::TERM);
    wait_for("the drain", || (client::get(serving.admin(), "/readyz", "").status == 503).then_some(()));
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait().code(), Some(1));
}

#[test]
fn a_reader_that_comes_late_finds_every_line_in_order() {
    let (mut reader, stderr) = full();
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let serving = room.serving(room.spawn_to(Stdio::piped(), stderr.into()));
    use_it(&serving);
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    });
    drained(serving);
    let text = reading.join().expect("the reader ends");
    let text = text.trim_start_matches('.');
    let mut rest = text;
    for part in ["listening", "change=\"upload\"", "refused who=", "draining"] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing, or out of order, in {text}"));
        rest = &rest[at..];
    }
    assert!(text.ends_with("drained\n"), "{text}");
    assert!(!text.contains("lost"), "{text}");
}

#[test]
fn a_stdout_that_nobody_reads_holds_nothing_up() {
    let (_reader, stalled) = full();
    for stdout in [stalled, gone()] {
        let origin = Origin::named("origin");
        let room = Room::proxying(&origin, "");
        let stderr = File::create(room.path("stderr.log")).expect("a file for stderr");
        let mut serving = Serving::unheard(&room, room.spawn_to(stdout.into(), stderr.into()));
        use_it(&serving);
        serving.signal(Signal::TERM);
        assert_eq!(serving.wait().code(), Some(0));
        assert!(room.log().ends_with("drained\n"), "{}", room.log());
    }
}
