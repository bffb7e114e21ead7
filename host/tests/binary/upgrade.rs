//! The binary replaced under traffic: SIGUSR2 has another process take the place of the one that serves, and nobody who
//! connects is to notice. Where the other one cannot, the first goes on.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use witgate_tests::{client::Client, origin::Origin, wait_for};

use crate::{
    process::{PREAMBLE, Room, Serving, Supervisor, answering},
    shutdown::Holding,
};

/// A process that has taken another's place: nobody's child here, but ours once its parent has ended. Killed with the test.
struct Heir {
    pid: Pid,
    ended: bool,
}

impl Heir {
    /// The one that holds the state directory once it is not `before`.
    fn of(room: &Room, before: u32) -> Self {
        let pid = wait_for("another process to have the state", || {
            let holder: u32 = holder(room)?;
            (holder != before).then_some(holder)
        });
        let pid = Pid::from_raw(pid.try_into().expect("a process' number")).expect("it is not 0");
        Self { pid, ended: false }
    }

    fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it runs");
    }

    /// Its exit code, once its parent and then it have ended.
    fn code(&mut self) -> Option<i32> {
        let status = wait_for("the heir to end", || {
            waitpid(Some(self.pid), WaitOptions::NOHANG).ok().flatten().map(|(_, status)| status)
        });
        self.ended = true;
        status.exit_status()
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

fn holder(room: &Room) -> Option<u32> {
    fs::read_to_string(room.path("state/lock")).ok()?.trim().parse().ok()
}

/// A room in which the binary is started by a path that can be made to mean something else.
struct Upgradable {
    room: Room,
    program: PathBuf,
}

impl Upgradable {
    fn new(room: Room) -> Self {
        // Whoever loses its parent is ours, so that its end can be seen.
        set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
        let program = room.path("witgate");
        symlink(env!("CARGO_BIN_EXE_witgate"), &program).expect("a link");
        Self { room, program }
    }

    fn start(&self) -> Serving {
        self.room.start_by(&self.program, &[])
    }

    /// Puts a script in the binary's place.
    fn replace(&self, script: &str) {
        let beside = self.room.path("other");
        fs::write(&beside, script).expect("a file");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(beside, &self.program).expect("a rename");
    }

    /// Puts the binary back.
    fn mend(&self) {
        fs::remove_file(&self.program).expect("it is there");
        symlink(env!("CARGO_BIN_EXE_witgate"), &self.program).expect("a link");
    }

    fn wait_for_log(&self, part: &str) {
        wait_for(part, || self.room.log().contains(part).then_some(()));
    }

    /// How often it says so.
    fn says(&self, part: &str) -> usize {
        self.room.log().matches(part).count()
    }
}

/// Clients that connect anew for each request, until they are told to stop; what went wrong, and how often nothing did.
struct Load {
    stop: Arc<AtomicBool>,
    whole: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(web: SocketAddr, clients: usize) -> Self {
        let (stop, whole) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (stop, whole) = (Arc::clone(&stop), Arc::clone(&whole));
            move || {
                let mut failed = Vec::new();
                while !stop.load(SeqCst) {
                    let asked = Client::try_connect(web).and_then(|mut client| {
                        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
                        client.response(false)
                    });
                    match asked {
                        Ok(response) if response.status == 200 && response.body == "whole" => {
                            _ = whole.fetch_add(1, SeqCst)
                        }
                        other => failed.push(format!("{other:?}")),
                    }
                }
                failed
            }
        };
        let clients = (0..clients).map(|_| thread::spawn(one())).collect();
        Self { stop, whole, clients }
    }

    /// Waits until so many more were answered.
    fn go_on(&self, more: usize) {
        let wanted = self.whole.load(SeqCst) + more;
        wait_for("more answers", || (self.whole.load(SeqCst) >= wanted).then_some(()));
    }

    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, SeqCst);
        let failed = self.clients.into_iter().flat_map(|client| client.join().expect("it does not panic")).collect();
        (self.whole.load(SeqCst), failed)
    }
}

fn with_workers(workers: usize, origin: &Origin, more: &str) -> String {
    let preamble = PREAMBLE.replace("workers = 1", &format!("workers = {workers}\n{more}"));
    format!(
        "{preamble}[[route]]\nname = \"r\"\ncluster = \"c\"\nplugins = {{ router = \"flip\" }}\n[[cluster]]\nname = \"c\"\n\
         endpoints = [{{ address = \"{}\" }}]\n",
        origin.address
    )
}

#[test]
fn no_connection_is_lost_through_upgrades_in_a_row() {
    let holding = Holding::new();
    let upgradable = Upgradable::new(Room::with(&with_workers(2, &holding.origin, "drain_timeout = \"5m\"")));
    let room = &upgradable.room;
    let mut serving = upgradable.start();
    let mut idle = serving.client();
    assert_eq!(idle.get("/", "").status, 200);
    let mut held = holding.hold(&serving, 3);
    let load = Load::start(serving.web(), 4);
    load.go_on(50);
    let first = holder(room).expect("it serves");
    serving.signal(Signal::USR2);
    let mut heirs = vec![Heir::of(room, first)];
    // More workers than there were, fewer, and as many.
    for (upgrades, workers) in [(2, 4), (3, 1), (4, 2)] {
        load.go_on(200);
        let done = "another process serves in the place of this one";
        wait_for("the upgrade before", || (upgradable.says(done) == heirs.len()).then_some(()));
        room.configure(&with_workers(workers, &holding.origin, "drain_timeout = \"5m\""));
        let before = heirs.last().expect("one at least");
        before.signal(Signal::USR2);
        let next = Heir::of(room, before.number());
        heirs.push(next);
        assert_eq!(heirs.len(), upgrades);
    }
    load.go_on(200);
    // The first process has not ended, as there is something in flight; who only rests is let go without a word cut off.
    assert!(idle.closed(), "a resting connection stays with a process that drains");
    holding.release.store(true, SeqCst);
    for client in &mut held {
        let response = client.response(false).expect("it began before the upgrade");
        assert_eq!((response.status, response.body.as_str()), (200, "half"));
    }
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    let mut last = heirs.pop().expect("the last one");
    for heir in &mut heirs {
        assert_eq!(heir.code(), Some(0), "{}", room.log());
    }
    load.go_on(200);
    let (whole, failed) = load.end();
    assert!(failed.is_empty(), "{} of {whole} failed, the first: {}\n{}", failed.len(), failed[0], room.log());
    last.signal(Signal::TERM);
    assert_eq!(last.code(), Some(0), "{}", room.log());
    assert!(!room.log().contains("drain timeout"), "{}", room.log());
}

/// What waits in the kernel is at sockets of four workers, and is answered by one.
#[test]
fn connections_that_wait_in_the_kernel_are_the_next_process() {
    const WAITING: usize = 60;
    let holding = Holding::new();
    let limited = |workers| {
        let text = with_workers(workers, &holding.origin, "drain_timeout = \"5m\"");
        text.replace("name = \"web\"\n", "name = \"web\"\nlimits = { connections = 1 }\n")
    };
    let upgradable = Upgradable::new(Room::with(&limited(4)));
    let room = &upgradable.room;
    let mut serving = upgradable.start();
    let mut held = holding.hold(&serving, 1);
    let mut waiting: Vec<Client> = (0..WAITING).map(|_| serving.client()).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("the kernel takes it");
    }
    room.configure(&limited(1));
    let first = holder(room).expect("it serves");
    serving.signal(Signal::USR2);
    let mut heir = Heir::of(room, first);
    upgradable.wait_for_log("another process serves in the place of this one");
    // A worker that has accepted one more than it may serve keeps that: it is served when there is room.
    let (sender, answered) = std::sync::mpsc::channel();
    let answering = thread::spawn(move || {
        for client in &mut waiting {
            let response = client.response(false);
            let _ = sender.send(response.map(|response| response.status).map_err(|error| error.to_string()));
        }
    });
    holding.release.store(true, SeqCst);
    assert_eq!(held[0].response(false).expect("it was in flight").body, "half");
    drop(held);
    answering.join().expect("it does not panic");
    let answers: Vec<Result<u16, String>> = answered.iter().collect();
    assert_eq!(answers.len(), WAITING);
    assert!(answers.iter().all(|answer| *answer == Ok(200)), "{answers:?}\n{}", room.log());
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    heir.signal(Signal::TERM);
    assert_eq!(heir.code(), Some(0), "{}", room.log());
}

/// Expects that an upgrade comes to nothing, for this reason, and that everything is then as it was.
#[track_caller]
fn check_refused(spoil: impl FnOnce(&Upgradable), reasons: &[&str], mend: impl FnOnce(&Upgradable)) {
    let origin = Origin::scripted(|_, stream| witgate_tests::origin::respond(stream, 200, &[], b"whole"));
    let upgradable = Upgradable::new(Room::with(&with_workers(2, &origin, "upgrade_timeout = \"5s\"")));
    let room = &upgradable.room;
    let mut serving = upgradable.start();
    let first = holder(room).expect("it serves");
    let load = Load::start(serving.web(), 2);
    spoil(&upgradable);
    serving.signal(Signal::USR2);
    upgradable.wait_for_log("no upgrade, this process serves on");
    for reason in reasons {
        assert!(room.log().contains(reason), "{reason:?} is not in {}", room.log());
    }
    load.go_on(50);
    assert_eq!(holder(room), Some(first), "who has the state");
    // It takes changes again, and can be upgraded still.
    serving.upload("flip", &answering(251, 1));
    let (whole, failed) = load.end();
    let failed: Vec<_> = failed.iter().filter(|said| !said.contains("status: 251")).collect();
    assert!(failed.is_empty(), "{whole} were answered, but {failed:?}\n{}", room.log());
    mend(&upgradable);
    serving.signal(Signal::USR2);
    let mut heir = Heir::of(room, first);
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    assert_eq!(serving.status(), 251, "what was uploaded is live in the next process");
    heir.signal(Signal::TERM);
    assert_eq!(heir.code(), Some(0), "{}", room.log());
}

#[test]
fn a_binary_that_does_not_start_is_refused() {
    check_refused(|u| u.replace("no program"), &["cannot be started"], Upgradable::mend);
    check_refused(
        |u| u.replace("#!/bin/sh\necho 'wrong architecture' >&2\nexit 3\n"),
        &["wrong architecture", "exit status: 3"],
        Upgradable::mend,
    );
    check_refused(
        |u| fs::remove_file(&u.program).expect("it is there"),
        &["cannot be started", "No such file"],
        |u| symlink(env!("CARGO_BIN_EXE_witgate"), &u.program).expect("a link"),
    );
}

#[test]
fn one_that_is_not_ready_in_time_is_refused() {
    check_refused(
        |u| u.replace("#!/bin/sh\nexec sleep 600\n"),
        &["was not ready within 5s (runtime.upgrade_timeout)"],
        Upgradable::mend,
    );
}

#[test]
fn a_configuration_that_is_wrong_is_refused() {
    let before = std::cell::RefCell::new(String::new());
    let save = |u: &Upgradable| *before.borrow_mut() = fs::read_to_string(u.room.config()).expect("it is there");
    let back = |u: &Upgradable| u.room.configure(&before.borrow());
    let nonsense = |u: &Upgradable| {
        save(u);
        u.room.configure("[[listener]]\nnaem = \"web\"\n");
    };
    check_refused(nonsense, &["did you mean `name`?", "has ended before it served (exit status: 1)"], back);
    // What can only be found out by trying.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let occupied = |u: &Upgradable| {
        save(u);
        let more = format!("{}[[listener]]\nname = \"more\"\nlisten = \"{address}\"\n", before.borrow());
        u.room.configure(&more);
    };
    check_refused(occupied, &["the new process cannot serve: listener \"more\" cannot listen on"], back);
}

#[test]
fn one_at_a_time_and_without_changes_meanwhile() {
    let origin = Origin::named("origin");
    let upgradable = Upgradable::new(Room::with(&with_workers(1, &origin, "")));
    let room = &upgradable.room;
    let serving = upgradable.start();
    let go = room.path("go");
    upgradable.replace(&format!(
        "#!/bin/sh\necho 'the script runs' >&2\nwhile [ ! -e {} ]; do sleep 0.02; done\nexit 7\n",
        go.display()
    ));
    serving.signal(Signal::USR2);
    upgradable.wait_for_log("the script runs");
    serving.signal(Signal::USR2);
    upgradable.wait_for_log("another upgrade is under way");
    let refused = serving.call("PUT", "/v1/plugins/flip?activate=true", &answering(250, 0));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    assert_eq!(serving.call("GET", "/v1/plugins", b"").status, 200, "who only asks is answered");
    assert_eq!(serving.status(), 200);
    fs::write(go, "").expect("a file");
    upgradable.wait_for_log("exit status: 7");
    serving.upload("flip", &answering(250, 0));
    serving.end();
    assert_eq!(upgradable.says("no upgrade, this process serves on"), 1, "{}", room.log());
}

#[test]
fn a_drain_gives_an_upgrade_up() {
    let origin = Origin::named("origin");
    let upgradable = Upgradable::new(Room::with(&with_workers(1, &origin, "")));
    let mut serving = upgradable.start();
    upgradable.replace("#!/bin/sh\necho 'the script runs' >&2\nexec sleep 600\n");
    serving.signal(Signal::USR2);
    upgradable.wait_for_log("the script runs");
    serving.signal(Signal::TERM);
    assert_eq!(serving.wait().code(), Some(0), "{}", upgradable.room.log());
}

/// State, a plugin's file, and the admin API's socket go from one to the next.
#[test]
fn the_state_and_the_admin_api_are_the_next_process() {
    let origin = Origin::named("origin");
    let config = |more: &str| {
        let text = with_workers(1, &origin, "")
            .replace("listen = \"127.0.0.1:0\"\n[runtime]", "listen = \"unix:admin.sock\"\n[runtime]");
        format!("{text}{more}")
    };
    let upgradable = Upgradable::new(Room::with(&config("")));
    let room = &upgradable.room;
    let mut serving = upgradable.start();
    let push = |status: u16, name: &str| {
        fs::write(room.path("pushed.wasm"), answering(status, 0)).expect("a file");
        let pushed = room.path("pushed.wasm");
        let said = room.say(&["plugin", "push", pushed.to_str().expect("UTF-8"), "--name", name, "--activate", "-c"]);
        said.check(0, &[]);
    };
    push(250, "flip");
    assert_eq!(serving.status(), 250);
    let first = holder(room).expect("it serves");
    // The next process is to take a file that this one has never seen.
    fs::write(room.path("file.wasm"), answering(252, 0)).expect("a file");
    let file = "[[plugin]]\nname = \"file\"\npath = \"file.wasm\"\n";
    let routes = config(file).replace("router = \"flip\"", "router = \"file\"");
    room.configure(&routes);
    serving.signal(Signal::USR2);
    let mut heir = Heir::of(room, first);
    assert_eq!(serving.wait().code(), Some(0), "{}", room.log());
    assert_eq!(serving.status(), 252, "the file's plugin decides");
    assert!(room.path("admin.sock").exists(), "the first process has taken the socket's file with it");
    let listed = room.say(&["plugin", "list", "-c"]);
    assert!(listed.stdout.contains("file") && listed.stdout.contains("flip"), "{listed:?}");
    // Its changes are durable, and another process is told who has the directory.
    push(251, "file");
    assert_eq!(serving.status(), 251);
    room.refuse().check(1, &[&format!("in use by another witgate process (process {})", heir.number())]);
    heir.signal(Signal::TERM);
    assert_eq!(heir.code(), Some(0), "{}", room.log());
    assert!(!room.path("admin.sock").exists(), "the last one takes it with it");
    let again = room.start();
    assert_eq!(again.status(), 251);
}

#[test]
fn a_supervisor_is_told_whom_to_watch() {
    let origin = Origin::named("origin");
    let upgradable = Upgradable::new(Room::with(&with_workers(1, &origin, "")));
    let room = &upgradable.room;
    let supervisor = Supervisor::of(room);
    let mut serving = room.start_by(&upgradable.program, &[supervisor.environment()]);
    assert_eq!(supervisor.told(), "READY=1");
    let first = holder(room).expect("it serves");
    serving.signal(Signal::USR2);
    let mut heir = Heir::of(room, first);
    assert_eq!(supervisor.told(), format!("MAINPID={}", heir.number()));
    assert!(serving.wait().success());
    heir.signal(Signal::TERM);
    // Nothing else was said between: the service has neither stopped nor become ready once more.
    assert_eq!(supervisor.told(), "STOPPING=1");
    assert_eq!(heir.code(), Some(0), "{}", room.log());
}
