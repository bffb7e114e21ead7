//! Client commands against a running proxy: a plugin's whole life, found by file and by environment, and every refusal
//! with its reason and exit code 1.

use std::{fs, net::TcpListener};

use witgate_tests::origin::Origin;

use crate::{
    fixtures::{self, Fixture},
    process::{Room, Said, Serving, answering, ended, write},
};

/// How commands find the proxy.
#[derive(Clone, Copy, Debug)]
enum By {
    File,
    Environment,
}

/// A room whose admin API has an address that is in the file: commands with `-c` need one, and a port that is free now
/// need not be so later.
fn room(origin: &Origin, by: By) -> Room {
    let room = Room::proxying(origin, "");
    if let By::File = by {
        let config = fs::read_to_string(room.config()).expect("a configuration");
        room.configure(&config.replacen("127.0.0.1:0", "unix:admin.sock", 1));
    }
    room
}

fn command(room: &Room, serving: &Serving, by: By, arguments: &[&str]) -> Said {
    let mut command = room.command(arguments);
    match by {
        By::File => command.arg("-c").arg(room.config()),
        By::Environment => command.env("WITGATE_ADMIN", &serving.admin).env("WITGATE_TOKEN", &serving.token),
    };
    ended(command)
}

/// A command that succeeds and says all of `parts` on stdout.
#[track_caller]
fn check(said: &Said, parts: &[&str]) {
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:#?}");
    for part in parts {
        assert!(said.stdout.contains(part), "{part:?} is not in {said:#?}");
    }
}

#[test]
fn a_plugins_life_by_file_and_by_environment() {
    let origin = Origin::named("origin");
    for by in [By::File, By::Environment] {
        let room = room(&origin, by);
        let serving = room.start();
        let say = |arguments: &[&str]| command(&room, &serving, by, arguments);
        let [first, second] =
            [250, 251].map(|status| write(&room.path(&format!("{status}.wasm")), &answering(status, 0)));

        check(&say(&["plugin", "list"]), &["no plugins"]);
        check(&say(&["plugin", "push", &first, "--name", "flip"]), &["flip version 1", "router", "activate flip 1"]);
        assert_eq!(serving.status(), 200, "{by:?}: stored, and not live");
        check(&say(&["plugin", "push", &first, "--name", "flip", "--activate"]), &["stored already", "it is live"]);
        assert_eq!(serving.status(), 250);
        check(&say(&["plugin", "push", &second, "--name", "flip"]), &["flip version 2"]);
        assert_eq!(serving.status(), 250);
        check(&say(&["plugin", "activate", "flip", "2"]), &["version 2 is live"]);
        assert_eq!(serving.status(), 251);
        check(&say(&["plugin", "rollback", "flip"]), &["version 1 is live"]);
        assert_eq!(serving.status(), 250);
        let list = say(&["plugin", "list"]);
        check(&list, &["flip", "router", "closed"]);
        let json = say(&["plugin", "list", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert_eq!((&json["plugins"][0]["active"], &json["plugins"][0]["previous"]), (&1.into(), &2.into()), "{json}");
        check(&say(&["explain", "http://a.test/b"]), &["a.test/b", "250", "flip"]);
        check(&say(&["explain", "http://u:p@a.test/b"]), &["GET a.test/b", "250"]);
        let asked = origin.seen().len();
        check(&say(&["plugin", "inspect", &first][..]).without_target(&room, &first), &["router", "sha256"]);
        assert_eq!(origin.seen().len(), asked, "no command sends traffic");
        serving.end();
        let serving = room.start();
        assert_eq!(serving.status(), 250, "{by:?}: after a restart");
        check(&command(&room, &serving, by, &["drain"]), &["draining"]);
        let mut serving = serving;
        assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    }
}

impl Said {
    /// `inspect` needs no proxy, and takes no `-c`: the same without.
    fn without_target(self, room: &Room, file: &str) -> Self {
        let alone = room.say(&["plugin", "inspect", file]);
        assert!(self.code == Some(2) || self.stdout == alone.stdout, "{self:#?}\n{alone:#?}");
        alone
    }
}

#[test]
fn what_is_refused_exits_1_and_says_why() {
    let origin = Origin::named("origin");
    let room = room(&origin, By::File);
    let serving = room.start();
    let say = |arguments: &[&str]| command(&room, &serving, By::File, arguments);
    let good = write(&room.path("good.wasm"), &answering(250, 0));
    check(&say(&["plugin", "push", &good, "--name", "flip", "--activate"]), &["it is live"]);

    let refused: [(&str, Vec<u8>, &[&str]); 6] = [
        ("empty", Vec::new(), &["empty"]),
        ("text", b"hello, world".to_vec(), &["not WebAssembly", "hello"]),
        ("cut", answering(251, 0)[..300].to_vec(), &["damaged or cut short"]),
        ("bare", b"\0asm\x01\0\0\0".to_vec(), &["component type", "witgate-sdk"]),
        ("traps", Fixture::new(&["router"]).always("route", fixtures::TRAP).build(), &["route", "trap"]),
        ("refuses", Fixture::new(&["router"]).always("configure", fixtures::REFUSE).build(), &["configure", "no"]),
    ];
    for (what, wasm, parts) in refused {
        let file = write(&room.path(&format!("{what}.wasm")), &wasm);
        let said = say(&["plugin", "push", &file, "--name", "flip", "--activate"]);
        said.check(1, &["error: "]);
        let message = said.stderr.to_lowercase();
        assert!(parts.iter().all(|part| message.contains(&part.to_lowercase())), "{what}, {parts:?}: {said:#?}");
        assert_eq!((said.stdout.as_str(), serving.status()), ("", 250), "{what}: the active version stays: {said:#?}");
    }
    say(&["plugin", "push", &good, "--name", "../etc"]).check(1, &["../etc"]);
    say(&["plugin", "push", &room.path("none.wasm").display().to_string(), "--name", "a"])
        .check(1, &["none.wasm", "No such file"]);
    say(&["plugin", "activate", "flip", "7"]).check(1, &["no version 7", "it has 1"]);
    say(&["plugin", "activate", "flop", "1"]).check(1, &["flop"]);
    say(&["plugin", "rollback", "flip"]).check(1, &["no earlier version"]);
    room.say(&["plugin", "inspect", &room.path("text.wasm").display().to_string()]).check(1, &["not WebAssembly"]);
    assert_eq!(serving.status(), 250);
}

#[test]
fn a_proxy_that_is_not_found_or_not_ours_is_named() {
    let origin = Origin::named("origin");
    let room = room(&origin, By::Environment);
    // Nothing was ever started here: there is no token yet, and the port is not in the file.
    room.say(&["drain", "-c"]).check(1, &["admin.token", "first starts"]);
    room.say(&["drain"]).check(1, &["which proxy?", "WITGATE_ADMIN"]);
    let serving = room.start();
    room.say(&["drain", "-c"]).check(1, &["chosen at the start", "WITGATE_ADMIN"]);
    let with = |admin: &str, token: &str| {
        let mut command = room.command(&["plugin", "list"]);
        command.env("WITGATE_ADMIN", admin).env("WITGATE_TOKEN", token);
        ended(command)
    };
    with(&serving.admin, "wrong").check(1, &[&serving.admin, "does not accept the token", "WITGATE_TOKEN"]);
    with("nonsense", "t").check(1, &["nonsense", "no address"]);
    let mut half = room.command(&["drain"]);
    half.env("WITGATE_ADMIN", &serving.admin);
    ended(half).check(1, &["WITGATE_TOKEN"]);
    let silent = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    with(&silent, "t").check(1, &[&silent, "is it running?"]);
    for said in [with(&serving.admin, "wrong"), with(&silent, "secret-token")] {
        assert!(!said.stderr.contains("secret-token") && !said.stderr.contains(&serving.token), "{said:#?}");
    }
    assert_eq!(serving.status(), 200);
}
