//! A process that is out of file descriptors: it goes on, and says that it does.

use std::{fs, net::TcpStream};

use witgate_tests::{client, origin::Origin, wait_for};

use crate::process::Room;

#[test]
fn probes_are_answered_without_a_file_descriptor_to_be_had() {
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let config = fs::read_to_string(room.config()).expect("a configuration");
    let patient = "name = \"web\"\nlimits = { header_timeout = \"10m\", idle_timeout = \"10m\" }";
    room.configure(&config.replace("name = \"web\"", patient));
    let serving = room.start();
    let limit = serving.limit_files(8);
    let connect = |address, n| -> Vec<TcpStream> {
        (0..n).map(|_| TcpStream::connect(address).expect("the kernel takes it")).collect()
    };
    let clients = connect(serving.web(), limit);
    let used_up = || wait_for("all to be used", || (serving.open_files() >= limit).then_some(()));
    used_up();
    let probe = |what: &str| {
        for n in 0..20 {
            let answer = client::get(serving.admin(), "/readyz", "");
            assert_eq!(answer.status, 200, "{what}, number {n}: {answer:?}\n{}", serving.log());
        }
        assert_eq!(serving.call("GET", "/v1/plugins", b"").status, 200, "{what}");
    };
    probe("nobody else asks");
    // They get what is held back, and give way to those that come.
    let silent = connect(serving.admin(), 10);
    probe("others ask nothing");
    assert!(serving.log().contains("accept failed"), "it was not out of them at all: {}", serving.log());
    drop((clients, silent));
    wait_for("room again", || (serving.open_files() < limit).then_some(()));
    assert_eq!(serving.status(), 200);
    serving.end();
}

#[test]
fn more_connections_than_files_are_said_at_the_start() {
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let config = fs::read_to_string(room.config()).expect("a configuration");
    for (connections, warned) in [(200, false), (300, true)] {
        let limits = format!("name = \"web\"\nlimits = {{ connections = {connections} }}");
        room.configure(&config.replace("name = \"web\"", &limits));
        let serving = room.start_with_files(256);
        let said = serving.log().contains("allow more connections than the process may open files");
        assert_eq!(said, warned, "{connections}: {}", serving.log());
        serving.end();
    }
}
