//! Sockets that a service manager has bound and passes on: used where a listener's address is theirs, closed where not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use witgate_tests::{client::Client, wait_for};

use crate::process::Room;

/// Passes its stdin, stdout and stderr on as systemd does, and writes into files itself.
const PASSES: &str = "exec 3<&0 4<&1 5<&2 0</dev/null 1>stdout.txt 2>>../stderr.log
LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=web:more:admin exec \"$@\"";

/// A process with these sockets. Killed with the test.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

fn start(room: &Room, script: &str, sockets: [OwnedFd; 3]) -> Activated {
    Activated(room.run_by_script(script, sockets.map(Stdio::from)))
}

fn config(admin: &str, workers: usize, listeners: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "[admin]\nlisten = \"{admin}\"\n[runtime]\nworkers = {workers}\n[[route]]\nname = \"r\"\n\
         respond = {{ status = 200, body = \"whole\" }}\n"
    );
    for (name, address) in listeners {
        text.push_str(&format!("[[listener]]\nname = \"{name}\"\nlisten = \"{address}\"\n"));
    }
    text
}

fn status(address: SocketAddr) -> u16 {
    Client::connect(address).get("/", "").status
}

fn end(room: &Room, mut process: Activated) {
    kill_process(Pid::from_child(&process.0), Signal::TERM).expect("it runs");
    let status = wait_for("the end", || process.0.try_wait().expect("it is our child"));
    assert_eq!(status.code(), Some(0), "{}", room.log());
}

#[test]
fn what_is_passed_is_served_by_all_workers_and_the_rest_is_closed() {
    let ((web, at), (other, other_at), (admin, admin_at)) = (socket(), socket(), socket());
    let room = Room::with(&config(&admin_at.to_string(), 3, &[("web", at)]));
    // They wait before there is a process.
    let mut early: Vec<Client> = (0..20).map(|_| Client::connect(at)).collect();
    let process = start(&room, PASSES, [web.into(), other.into(), admin.into()]);
    for client in &mut early {
        assert_eq!(client.get("/", "").status, 200, "{}", room.log());
    }
    assert_eq!(witgate_tests::client::get(admin_at, "/livez", "").status, 200);
    wait_for("a warning", || room.log().contains("is no listener's, nor the admin API's: closed").then_some(()));
    assert!(room.log().contains("name=\"more\""), "{}", room.log());
    wait_for("it to be closed", || Client::try_connect(other_at).is_err().then_some(()));
    end(&room, process);
}

#[test]
fn a_unix_socket_for_the_admin_api_stays_where_it_is() {
    let ((web, at), (more, more_at)) = (socket(), socket());
    let room = Room::with(&config("unix:admin.sock", 1, &[("web", at), ("more", more_at)]));
    let admin = UnixListener::bind(room.path("admin.sock")).unwrap();
    let process = start(&room, PASSES, [web.into(), more.into(), admin.into()]);
    assert_eq!((status(at), status(more_at)), (200, 200), "{}", room.log());
    room.say(&["plugin", "list", "-c"]).check(0, &[]);
    assert!(!room.log().contains("closed"), "{}", room.log());
    end(&room, process);
    assert!(room.path("admin.sock").exists(), "it is the service manager's");
}

#[test]
fn what_is_another_process_is_not_touched() {
    let ((web, at), (more, _), (admin, admin_at)) = (socket(), socket(), socket());
    let room = Room::with(&config(&admin_at.to_string(), 1, &[("web", at)]));
    let script = PASSES.replace("LISTEN_PID=$$", "LISTEN_PID=1");
    let mut process = start(&room, &script, [web.into(), more.into(), admin.into()]);
    // They are bound by somebody, and were not passed to this process.
    assert_eq!(wait_for("the end", || process.0.try_wait().unwrap()).code(), Some(1));
    assert!(room.log().contains("cannot listen on"), "{}", room.log());
}

#[test]
fn what_does_not_listen_is_told_and_closed() {
    let ((web, at), (admin, admin_at)) = (socket(), socket());
    let room = Room::with(&config(&admin_at.to_string(), 1, &[("web", at)]));
    let datagrams = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let process = start(&room, PASSES, [web.into(), datagrams.into(), admin.into()]);
    assert_eq!(status(at), 200, "{}", room.log());
    wait_for("a warning", || room.log().contains("cannot be used as a listener").then_some(()));
    end(&room, process);
    assert_eq!(fs::read_to_string(room.path("elsewhere/stdout.txt")).unwrap().lines().count(), 2);
}
