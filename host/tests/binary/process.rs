//! The binary as a child process in a directory of its own: what it was told, what it says, and how it ends.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;
use witgate_tests::{
    PATIENCE,
    client::{Client, Response},
    origin::Origin,
    wait_for,
};

use crate::fixtures::Fixture;

/// What nearly every test's configuration begins with: free ports, one worker, so that starts are cheap.
pub const PREAMBLE: &str = r#"
[admin]
listen = "127.0.0.1:0"
[runtime]
workers = 1
[[listener]]
name = "web"
listen = "127.0.0.1:0"
"#;

/// A directory with a configuration, and what processes started there leave behind.
pub struct Room {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Fails the test unless the command ended with `code` and said all of `parts` on stderr.
    #[track_caller]
    pub fn check(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:#?}");
        }
    }
}

impl Room {
    /// A room with this configuration, exactly.
    pub fn with(config: &str) -> Self {
        let room = Self { dir: witgate_tests::scratch() };
        room.configure(config);
        room
    }

    /// A room with [`PREAMBLE`], a route `r` of everything to a cluster `c` with this origin, and `more`.
    pub fn proxying(origin: &Origin, more: &str) -> Self {
        Self::with(&format!(
            "{PREAMBLE}[[route]]\nname = \"r\"\ncluster = \"c\"\nplugins = {{ router = \"flip\" }}\n\
             [[cluster]]\nname = \"c\"\nendpoints = [{{ address = \"{}\" }}]\n{more}",
            origin.address
        ))
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &str) {
        fs::write(self.config(), config).expect("the configuration is written");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("witgate.toml")
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.path("admin.token")).expect("the token's file").trim().to_owned()
    }

    /// The binary with arguments, in a working directory without a configuration, and with no environment that matters.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_witgate"), arguments)
    }

    fn command_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let elsewhere = self.path("elsewhere");
        fs::create_dir_all(&elsewhere).expect("a working directory");
        command.args(arguments).current_dir(elsewhere).stdin(Stdio::null());
        let ours = ["ADMIN", "TOKEN", "CA", "CERT", "KEY", "LOG"].map(|name| format!("WITGATE_{name}"));
        for name in ours.iter().map(String::as_str).chain(["RUST_LOG"]) {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end; `-c` and the file go at its own end where `arguments` ends with `-c`.
    pub fn say(&self, arguments: &[&str]) -> Said {
        let mut command = self.command(arguments);
        if arguments.last() == Some(&"-c") {
            command.arg(self.config());
        }
        ended(command)
    }

    /// `witgate run` that is expected to refuse.
    pub fn refuse(&self) -> Said {
        self.say(&["run", "-c"])
    }

    /// Starts `witgate run` and returns at once. What it writes to stderr ends up in [`Room::log`].
    pub fn spawn(&self) -> Child {
        self.spawn_to(Stdio::piped(), self.log_file().into())
    }

    fn log_file(&self) -> File {
        File::options().create(true).append(true).open(self.path("stderr.log")).expect("a file for stderr")
    }

    /// Starts `witgate run` with these for its output and returns at once.
    pub fn spawn_to(&self, stdout: Stdio, stderr: Stdio) -> Child {
        self.run(self.command(&["run", "-c"]), stdout, stderr)
    }

    fn run(&self, mut command: Command, stdout: Stdio, stderr: Stdio) -> Child {
        command.arg(self.config()).stdout(stdout).stderr(stderr).spawn().expect("the binary starts")
    }

    /// Starts `witgate run` where no more than so many files may be open, and waits until it serves.
    pub fn start_with_files(&self, files: u32) -> Serving {
        let limited =
            ["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string(), env!("CARGO_BIN_EXE_witgate"), "run", "-c"];
        self.serving(self.run(self.command_of("sh", &limited), Stdio::piped(), self.log_file().into()))
    }

    /// The same with this in its environment.
    pub fn start_with_environment(&self, name: &str, value: &str) -> Serving {
        self.start_by(Path::new(env!("CARGO_BIN_EXE_witgate")), &[(name, value)])
    }

    /// Starts `witgate run` by another path, with more environment, and waits until it serves.
    pub fn start_by(&self, program: &Path, environment: &[(&str, &str)]) -> Serving {
        let mut command = self.command_of(program.to_str().expect("UTF-8"), &["run", "-c"]);
        command.envs(environment.iter().copied());
        self.serving(self.run(command, Stdio::piped(), self.log_file().into()))
    }

    /// Starts `witgate run` as `sh` has it, with the binary and its arguments as `$@` and this for stdin, stdout and stderr.
    pub fn run_by_script(&self, script: &str, [stdin, stdout, stderr]: [Stdio; 3]) -> Child {
        let mut command = self.command_of("sh", &["-c", script, "sh", env!("CARGO_BIN_EXE_witgate"), "run", "-c"]);
        let command = command.arg(self.config()).stdin(stdin).stdout(stdout).stderr(stderr);
        command.spawn().expect("the binary starts")
    }

    /// Starts `witgate run` and waits until it serves.
    pub fn start(&self) -> Serving {
        self.serving(self.spawn())
    }

    /// Waits until a process that was started serves.
    pub fn serving(&self, child: Child) -> Serving {
        self.outcome(child).unwrap_or_else(|status| panic!("it does not serve: {status}\n{}", self.log()))
    }

    /// Waits until a process that was started serves, or has ended.
    pub fn outcome(&self, mut child: Child) -> Result<Serving, ExitStatus> {
        let lines = lines_of(&mut child);
        let mut first_lines: Vec<String> = Vec::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => first_lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return Err(child.wait().expect("it is our child")),
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    panic!("it neither serves nor ends; it said {first_lines:?}\n{}", self.log());
                }
            }
            let said = |prefix: &str| first_lines.iter().find_map(|l| l.strip_prefix(prefix).map(str::to_owned));
            if let Some(admin) = said("admin ") {
                let web = said("listening web ").and_then(|address| address.parse().ok());
                let log = self.path("stderr.log");
                return Ok(Serving { child, web, admin, first_lines, token: self.token(), log });
            }
        }
    }

    /// Everything that processes in this room have said on stderr since [`Room::forget`].
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    pub fn forget(&self) {
        let _ = fs::remove_file(self.path("stderr.log"));
    }

    /// Every file under the state directory, by its path there.
    pub fn state_files(&self) -> Vec<String> {
        let state = self.path("state");
        let mut files = Vec::new();
        let mut dirs = vec![state.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.push(path.strip_prefix(&state).unwrap_or(&path).display().to_string());
                }
            }
        }
        files.sort_unstable();
        files
    }
}

/// Runs a command to its end.
pub fn ended(mut command: Command) -> Said {
    let output = command.output().expect("the binary starts");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let (lines, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody may be listening any more; what is said is still to be read, or the child would wait.
            let _ = lines.send(line);
        }
    });
    receiver
}

/// A process that serves. Killed with the test.
pub struct Serving {
    child: Child,
    web: Option<SocketAddr>,
    /// As it was printed.
    pub admin: String,
    /// All that was printed up to the admin API's address.
    pub first_lines: Vec<String>,
    pub token: String,
    log: PathBuf,
}

impl Serving {
    /// A process whose first lines cannot be read: its log, in the room, says where it listens.
    pub fn unheard(room: &Room, child: Child) -> Self {
        let said = |what: &str| {
            let log = room.log();
            let line = log.lines().find(|line| line.contains(what))?;
            Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
        };
        let (admin, web) = wait_for("the log to say where it listens", || {
            Some((said("the admin API listens")?, said("listener=\"web\"")?.parse().ok()?))
        });
        let log = room.path("stderr.log");
        Self { child, web: Some(web), admin, first_lines: Vec::new(), token: room.token(), log }
    }

    pub fn web(&self) -> SocketAddr {
        self.web.expect("a listener named web")
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin.parse().expect("the admin API listens on TCP here")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.web())
    }

    /// The status of a GET on a connection of its own.
    pub fn status(&self) -> u16 {
        self.client().get("/", "").status
    }

    /// An admin call with the token, on a connection of its own.
    pub fn call(&self, method: &str, path: &str, body: &[u8]) -> Response {
        Client::connect(self.admin()).ask(admin_request(&self.token, method, path, body))
    }

    /// Uploads a module and makes it live.
    pub fn upload(&self, name: &str, wasm: &[u8]) -> u64 {
        let response = self.call("PUT", &format!("/v1/plugins/{name}?activate=true"), wasm);
        assert!(matches!(response.status, 200 | 201), "upload of {name}: {response:?}\n{}", self.log());
        response.json()["version"].as_u64().expect("a version")
    }

    pub fn activate(&self, name: &str, version: u64) {
        let body = format!("{{\"version\": {version}}}");
        let response = self.call("POST", &format!("/v1/plugins/{name}/activate"), body.as_bytes());
        assert_eq!(response.status, 200, "{response:?}\n{}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{signal:?} to {pid:?}: {error}\n{}", self.log()));
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().expect("it is our child"))
    }

    /// Drains it and waits for its end.
    pub fn end(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Leaves it room for so many more file descriptors, and says how many it may have then.
    pub fn limit_files(&self, more: usize) -> usize {
        let numbers = fs::read_dir(self.files()).expect("it runs").flatten();
        let highest = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<usize>().ok()).max();
        let limit = highest.expect("it has some") + 1 + more;
        let both = Some(limit as u64);
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, Rlimit { current: both, maximum: both })
            .expect("it is our child");
        limit
    }

    /// How many file descriptors it has.
    pub fn open_files(&self) -> usize {
        fs::read_dir(self.files()).expect("it runs").count()
    }

    fn files(&self) -> PathBuf {
        format!("/proc/{}/fd", self.child.id()).into()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of a call of the admin API.
pub fn admin_request(token: &str, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Statuses that [`answering`] can answer with; no origin of these tests does.
pub const STATUSES: [u16; 3] = [250, 251, 252];

/// A router that answers every request with one of [`STATUSES`]; another `marker` makes other bytes of it.
pub fn answering(status: u16, marker: u32) -> Vec<u8> {
    let body = match status {
        250 => {
            "(i32.store8 (i32.const 2048) (i32.const 2)) (i32.store16 (i32.const 2052) (i32.const 250)) (return (i32.const 2048))"
        }
        251 => {
            "(i32.store8 (i32.const 2048) (i32.const 2)) (i32.store16 (i32.const 2052) (i32.const 251)) (return (i32.const 2048))"
        }
        252 => {
            "(i32.store8 (i32.const 2048) (i32.const 2)) (i32.store16 (i32.const 2052) (i32.const 252)) (return (i32.const 2048))"
        }
        other => panic!("{other} is none of {STATUSES:?}"),
    };
    Fixture::new(&["router"]).always("route", body).marker(marker).build()
}

/// Writes a module where a command line can name it.
pub fn write(path: &Path, bytes: &[u8]) -> String {
    fs::write(path, bytes).expect("the file is written");
    path.display().to_string()
}

/// Who is told how a process is doing, as systemd is (sd_notify(3)).
pub struct Supervisor {
    socket: UnixDatagram,
    path: String,
}

impl Supervisor {
    /// One that listens in this room.
    pub fn of(room: &Room) -> Self {
        let path = room.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("it takes a timeout");
        Self { socket, path: path.to_str().expect("UTF-8").to_owned() }
    }

    /// By what a process knows it.
    pub fn environment(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", &self.path)
    }

    /// What it is told next.
    pub fn told(&self) -> String {
        let mut text = [0; 64];
        let read = self.socket.recv(&mut text).expect("something is told");
        String::from_utf8_lossy(&text[..read]).trim().to_owned()
    }
}
