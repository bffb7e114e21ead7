//! What is said, and what is not begun, where the proxy cannot start; and what the first lines are where it can.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use witgate_tests::{
    client::{self, Client},
    origin::Origin,
};

use crate::fixtures::{Fixture, REFUSE};
use crate::process::{PREAMBLE, Room, Supervisor, admin_request, answering, write};

/// Six mistakes of six kinds.
const BAD: &str = r#"
[admin]
listen = "127.0.0.1:0"
[runtime]
workers = 1
drain_timeout = "soon"
speed = 11
[[listener]]
name = "web"
listen = "localhost"
[[route]]
name = "r"
cluster = "nowhere"
plugins = { router = "No Name" }
[[cluster]]
name = "c"
endpoints = [{ address = "127.0.0.1:9", weight = -1 }]
"#;

#[test]
fn every_error_of_a_configuration_is_said_and_nothing_is_started() {
    let room = Room::with(BAD);
    let config = room.config().display().to_string();
    let check = room.say(&["check", &config]);
    check.check(1, &["soon", "speed", "localhost", "nowhere", "No Name", "weight"]);
    for (number, line) in (1..).zip(BAD.lines()) {
        if ["soon", "speed", "localhost", "nowhere", "No Name", "weight"].iter().any(|wrong| line.contains(wrong)) {
            assert!(check.stderr.contains(&format!("{config}:{number}:")), "line {number} is not named: {check:#?}");
        }
    }
    let run = room.refuse();
    assert_eq!(
        (run.code, &run.stdout, &run.stderr),
        (Some(1), &String::new(), &check.stderr),
        "run says what check says"
    );
    let made: Vec<_> = fs::read_dir(room.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made.len(), 2, "the configuration and the working directory: {made:?}");
}

#[test]
fn a_good_file_is_fine_and_a_missing_one_is_named() {
    let room = Room::with(&format!("{PREAMBLE}[[route]]\nname = \"r\"\nrespond = {{ status = 204 }}\n"));
    let good = room.say(&["check", &room.config().display().to_string()]);
    good.check(0, &[]);
    assert!(good.stdout.contains("fine: 1 listener, 1 route"), "{good:#?}");
    let missing = room.path("missing.toml").display().to_string();
    room.say(&["check", &missing]).check(1, &[&missing, "No such file"]);
    room.say(&["run", "-c", &missing]).check(1, &[&missing, "No such file"]);
    room.say(&["run"]).check(1, &["witgate.toml"]);
}

#[test]
fn what_has_no_end_or_is_no_file_is_not_read() {
    let room = Room::with("");
    let check = |path: &str, parts: &[&str]| {
        for command in [&["check", path][..], &["run", "-c", path], &["drain", "-c", path]] {
            room.say(command).check(1, parts);
        }
    };
    check("/dev/zero", &["/dev/zero: it is a device, and should be a file"]);
    let dir = room.path("").display().to_string();
    check(&dir, &[&dir, "it is a directory"]);
    let pipe = room.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    check(&pipe.display().to_string(), &["pipe: it is a pipe"]);
    let large = write(&room.path("large.toml"), &vec![b'#'; (16 << 20) + 1]);
    check(&large, &["large.toml: it is larger than 16777216 bytes, the limit of a configuration"]);
    room.say(&["plugin", "inspect", "/dev/zero"]).check(1, &["it is a device"]);
    // A plugin's file: said, and done without.
    room.configure(&format!("{PREAMBLE}[[plugin]]\nname = \"p\"\npath = \"pipe\"\n"));
    room.say(&["check", &room.config().display().to_string()]).check(0, &["warning:", "plugin \"p\"", "it is a pipe"]);
    room.start().end();
    assert!(room.log().contains("it is a pipe"), "{}", room.log());
    // So is one that does not take its configuration.
    write(&room.path("refuses.wasm"), &Fixture::every().always("configure", REFUSE).build());
    room.configure(&format!("{PREAMBLE}[[plugin]]\nname = \"p\"\npath = \"refuses.wasm\"\n"));
    let refused = "configure refuses its configuration: no";
    room.say(&["check", &room.config().display().to_string()]).check(0, &["warning:", "plugin \"p\"", refused]);
    room.start().end();
    assert!(room.log().contains(refused), "{}", room.log());
}

#[test]
fn usage_errors_are_exit_code_2() {
    let room = Room::with("");
    for line in [&[][..], &["reticulate"], &["run", "--log", "xml"], &["check"], &["plugin"], &["plugin", "push", "a"]]
    {
        let said = room.say(line);
        assert_eq!(said.code, Some(2), "witgate {line:?}: {said:#?}");
        assert!(said.stderr.contains("Usage") || said.stderr.contains("--help"), "witgate {line:?}: {said:#?}");
    }
    assert_eq!(room.say(&["--version"]).code, Some(0));
    assert_eq!(room.say(&["help"]).code, Some(0));
    let said = room.say(&["explain", "-c"]);
    said.check(2, &[]);
}

#[test]
fn the_first_lines_say_where_in_the_order_of_the_file() {
    let room = Room::with(
        "[admin]\nlisten = \"unix:admin.sock\"\n[runtime]\nworkers = 2\n\
         [[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[listener]]\nname = \"api\"\nlisten = \"[::1]:0\"\n\
         [[route]]\nname = \"r\"\nrespond = { status = 204 }\n",
    );
    let serving = room.start();
    let [web, api, admin] = serving.first_lines.as_slice() else { panic!("{:?}", serving.first_lines) };
    let api = api.strip_prefix("listening api ").unwrap_or_else(|| panic!("{api}"));
    assert!(web.starts_with("listening web 127.0.0.1:"), "{web}");
    assert_eq!(admin, &format!("admin unix:{}", room.path("admin.sock").display()));
    assert_eq!(serving.status(), 204);
    assert_eq!(client::get(api.parse().unwrap(), "/", "").status, 204);
    // A process that was killed leaves its socket's file behind: the next one replaces it, and takes its own with it.
    serving.kill();
    assert!(room.path("admin.sock").exists());
    room.start().end();
    assert!(!room.path("admin.sock").exists());
}

/// A room with a version that is live and answers 250, in which nothing runs.
fn used(origin: &Origin) -> Room {
    let room = Room::proxying(origin, "");
    let serving = room.start();
    serving.upload("flip", &answering(250, 0));
    serving.end();
    room
}

/// Breaks something, expects a refusal that says so, mends it, and expects that nothing was lost.
#[track_caller]
fn refused(room: &Room, spoil: impl FnOnce(&Room), parts: &[&str], mend: impl FnOnce(&Room)) {
    let before = room.state_files();
    let config = fs::read_to_string(room.config()).expect("a configuration");
    spoil(room);
    let said = room.refuse();
    said.check(1, parts);
    assert_eq!(said.stdout, "", "nothing listens: {said:#?}");
    assert!(!said.stderr.contains("panicked") && !said.stderr.contains("listening"), "{said:#?}");
    mend(room);
    room.configure(&config);
    assert_eq!(room.state_files(), before, "{said:#?}");
    let serving = room.start();
    assert_eq!(serving.status(), 250, "the live version is what it was: {}", room.log());
    serving.end();
}

fn nothing(_: &Room) {}

/// Replaces the first `127.0.0.1:0` after `after`.
fn with_address(room: &Room, after: &str, address: &str) {
    let config = fs::read_to_string(room.config()).expect("a configuration");
    let (before, rest) = config.split_once(after).expect("a place in the configuration");
    room.configure(&format!("{before}{after}{}", rest.replacen("127.0.0.1:0", address, 1)));
}

#[test]
fn a_taken_or_foreign_address_is_named() {
    let origin = Origin::named("origin");
    let room = used(&origin);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&room, |r| with_address(r, "[[listener]]", &address), &["listener \"web\"", &address, "in use"], nothing);
    refused(&room, |r| with_address(r, "[admin]", &address), &["admin API", &address, "in use"], nothing);
    // 192.0.2.0/24 is for documentation: no interface has it.
    let foreign = "192.0.2.1:80";
    refused(
        &room,
        |r| with_address(r, "[[listener]]", foreign),
        &["listener \"web\"", foreign, "no interface"],
        nothing,
    );
    refused(&room, |r| with_address(r, "[admin]", foreign), &["admin API", foreign], nothing);
    // Another Witgate on the port, which would share it if it were only asked the kernel's way.
    let other = Room::with(&format!("{PREAMBLE}[[route]]\nname = \"r\"\nrespond = {{ status = 204 }}\n"));
    let serving = other.start();
    let address = serving.web().to_string();
    refused(&room, |r| with_address(r, "[[listener]]", &address), &["listener \"web\"", &address, "in use"], nothing);
    assert_eq!(serving.status(), 204);
    // The admin socket of a process that lives.
    let socket = |r: &Room| {
        let config = fs::read_to_string(r.config()).expect("a configuration");
        r.configure(&config.replacen("127.0.0.1:0", &format!("unix:{}", r.path("precious").display()), 1));
        fs::write(r.path("precious"), "mine").expect("a file");
    };
    refused(&room, socket, &["admin API", "precious", "not a socket"], |r| {
        assert_eq!(fs::read(r.path("precious")).expect("it is still there"), b"mine");
    });
}

#[test]
fn a_second_process_on_a_state_directory_is_refused_and_the_first_serves_on() {
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let first = room.start();
    first.upload("flip", &answering(250, 0));
    let said = room.refuse();
    let state = room.path("state").display().to_string();
    let pid = fs::read_to_string(room.path("state/lock")).unwrap();
    said.check(1, &[&state, "in use", &format!("process {}", pid.trim()), "state_dir"]);
    assert_eq!(first.status(), 250);
    first.upload("flip", &answering(251, 0));
    assert_eq!(first.status(), 251);
    // A killed process holds nothing.
    first.kill();
    assert_eq!(room.start().status(), 251);
}

#[test]
fn a_token_file_that_cannot_be_trusted_is_refused() {
    let origin = Origin::named("origin");
    let room = used(&origin);
    let mode = |mode: u32| {
        move |room: &Room| {
            fs::set_permissions(room.path("admin.token"), fs::Permissions::from_mode(mode)).expect("chmod");
        }
    };
    for open in [0o644, 0o640, 0o602] {
        refused(&room, mode(open), &["admin.token", &format!("{open:04o}"), "chmod 600"], mode(0o600));
    }
    let token = room.token();
    let write = |text: String| move |room: &Room| fs::write(room.path("admin.token"), text).expect("a token");
    refused(&room, write(String::new()), &["admin.token", "empty"], write(token.clone()));
    refused(&room, write("\n \n".to_owned()), &["admin.token", "empty"], write(token.clone()));
    let directory = |room: &Room| {
        fs::remove_file(room.path("admin.token")).expect("removable");
        fs::create_dir(room.path("admin.token")).expect("a directory");
    };
    let no_directory = |room: &Room| {
        fs::remove_dir(room.path("admin.token")).expect("removable");
        fs::write(room.path("admin.token"), &token).expect("a token");
        fs::set_permissions(room.path("admin.token"), fs::Permissions::from_mode(0o600)).expect("chmod");
    };
    refused(&room, directory, &["admin.token", "directory"], no_directory);
}

#[test]
fn a_state_directory_that_is_none_is_named() {
    let origin = Origin::named("origin");
    let room = used(&origin);
    let aside = |room: &Room| {
        fs::rename(room.path("state"), room.path("aside")).expect("a rename");
        fs::write(room.path("state"), "precious").expect("a file");
    };
    let back = |room: &Room| {
        assert_eq!(fs::read(room.path("state")).expect("it is still there"), b"precious");
        fs::remove_file(room.path("state")).expect("removable");
        fs::rename(room.path("aside"), room.path("state")).expect("a rename");
    };
    let state = room.path("state").display().to_string();
    refused(&room, aside, &[&state, "not a directory"], back);
    // Keys that a disk has damaged: a new one would log everybody out, so that this is the operator's to decide.
    let key = fs::read(room.path("state/cookie.key")).unwrap();
    let write = |bytes: Vec<u8>| move |room: &Room| fs::write(room.path("state/cookie.key"), bytes).expect("a key");
    refused(&room, write(key[..10].to_vec()), &["cookie.key", "64 hexadecimal digits"], write(key.clone()));
    refused(&room, write(Vec::new()), &["cookie.key", "empty"], write(key));
    for name in ["state/cookie.key", "state/artifact.key"] {
        let mode = |mode: u32| {
            move |room: &Room| fs::set_permissions(room.path(name), fs::Permissions::from_mode(mode)).expect("chmod")
        };
        refused(&room, mode(0o644), &[name, "0644", "chmod 600"], mode(0o600));
    }
}

#[test]
fn of_two_first_starts_at_once_one_serves_and_the_token_is_its_own() {
    let origin = Origin::named("origin");
    for round in 0..8 {
        let room = Room::proxying(&origin, "");
        // Both are started before either is waited for.
        let started = [room.spawn(), room.spawn()];
        let outcomes = started.map(|child| room.outcome(child));
        let lost: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(matches!(lost[..], [status] if status.code() == Some(1)), "round {round}: {lost:?}\n{}", room.log());
        assert!(room.log().contains("is in use by another witgate"), "round {round}: {}", room.log());
        let winner = outcomes.into_iter().find_map(Result::ok).expect("one serves");
        // Its token is not the one of the file where the loser has put its own there.
        let call = admin_request(&room.token(), "GET", "/v1/plugins", b"");
        let call = Client::connect(winner.admin()).ask(call);
        assert_eq!(call.status, 200, "round {round}: the token in the file is the loser's");
    }
}

#[test]
fn a_supervisor_is_told_when_it_serves_and_when_it_stops() {
    let room = Room::with("[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n");
    let supervisor = Supervisor::of(&room);
    let (name, value) = supervisor.environment();
    let mut serving = room.start_with_environment(name, value);
    assert_eq!(supervisor.told(), "READY=1");
    assert_eq!(serving.status(), 404, "it serves");
    serving.signal(rustix::process::Signal::TERM);
    assert_eq!(supervisor.told(), "STOPPING=1");
    assert!(serving.wait().success());
}

/// Says what systemd does not understand of them.
#[test]
fn the_unit_files_are_some() {
    let units = ["witgate.service", "witgate.socket"];
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_witgate");
    let copies = units.map(|unit| {
        let text = fs::read_to_string(witgate_tests::root().join("examples/systemd").join(unit)).unwrap();
        let here = text.replace("/usr/local/bin/witgate", program).replace("User=witgate\nGroup=witgate\n", "");
        let copy = dir.path().join(unit);
        fs::write(&copy, here).unwrap();
        (copy, text)
    });
    let paths = copies.iter().map(|(path, _)| path);
    let Ok(said) = std::process::Command::new("systemd-analyze").arg("verify").args(paths).output() else {
        // A machine without systemd has nobody to ask; the keys are at least what they should be.
        let [(_, service), (_, socket)] = &copies;
        assert!(service.contains("Type=notify\n") && service.contains("ExecReload=/bin/kill -HUP $MAINPID\n"));
        assert!(socket.contains("\nListenStream="));
        return;
    };
    let said = String::from_utf8_lossy(&said.stderr);
    let about: Vec<&str> = said.lines().filter(|line| units.iter().any(|unit| line.contains(unit))).collect();
    assert!(about.is_empty(), "{about:?}");
}
