//! The proxy through all of its lives: it is followed from one process to the next by what it tells systemd, and none of them
//! outlives this program.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::http::{self, Connection};
use crate::lab::process::{PROXY_CORE, Process, Scratch, is_running, signal};
use crate::resilience::drain::Admin;
use crate::resilience::site;
use crate::run::{Failed, Outcome};

const READY_LIMIT: Duration = Duration::from_secs(60);
/// Until another process says that it is the main one, and until the one before has ended: above the proxy's own limits.
const UPGRADE_LIMIT: Duration = Duration::from_secs(90);
const END_LIMIT: Duration = Duration::from_secs(30);

/// Kills what is in the list, and still is that program, once nobody holds its input any more.
const GUARD: &str = r#"trap "" INT TERM HUP; read -r _
while read -r id; do [ "$(readlink "/proc/$id/exe")" = "$2" ] && kill -KILL "$id"; done < "$1""#;

pub(super) struct Proxy {
    /// The process that serves.
    pub(super) id: u32,
    pub(super) admin: Admin,
    port: u16,
    notices: UnixDatagram,
    handover: Option<Handover>,
    ids: PathBuf,
    _first: Process,
    guard: Child,
}

/// An upgrade under way.
struct Handover {
    from: u128,
    since: Instant,
    old: u32,
}

impl Proxy {
    pub(super) fn start(program: &Path, scratch: &Scratch, conf: &Path, admin: u16) -> Result<Proxy, Failed> {
        let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", program.display()));
        let (socket, ids) = (scratch.path("notify"), scratch.path("ids"));
        let notices = UnixDatagram::bind(&socket).map_err(failed)?;
        notices.set_nonblocking(true).map_err(failed)?;
        fs::write(&ids, "").map_err(failed)?;
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh"]).arg(&ids).arg(program).current_dir("/");
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(failed)?;
        let words = [&format!("NOTIFY_SOCKET={}", socket.display()), &program.display().to_string(), "run", "-c"];
        let mut arguments: Vec<String> = words.map(str::to_string).to_vec();
        arguments.push(conf.display().to_string());
        let mut first = Process::start(Path::new("env"), &arguments, PROXY_CORE, &scratch.path("proxy.log"))?;
        first.wait_until(READY_LIMIT, || http::is_ready(admin))?;
        let (id, port) = (first.id(), admin);
        let admin = Admin::of(admin, &site::token(scratch)?);
        let mut proxy = Proxy { id, admin, port, notices, handover: None, ids, _first: first, guard };
        proxy.note(id)?;
        Ok(proxy)
    }

    /// So that the guard knows it.
    fn note(&mut self, id: u32) -> Outcome {
        let written = fs::OpenOptions::new().append(true).open(&self.ids).and_then(|mut file| writeln!(file, "{id}"));
        written.map_err(|error| Failed::new(format!("{}: {error}", self.ids.display())))
    }

    pub(super) fn signal(&self, name: &str) -> Outcome {
        signal(self.id, name)
    }

    pub(super) fn metrics(&self) -> Result<String, Failed> {
        let answer =
            Connection::open(self.port).and_then(|mut to| to.exchange(&http::request("GET", "/metrics", &[], b"")));
        let answer = answer.map_err(|error| Failed::new(format!("GET /metrics: {error}")))?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// SIGUSR2. [`Proxy::follow`] says when another process has taken over.
    pub(super) fn upgrade(&mut self) -> Outcome {
        self.handover = Some(Handover { from: super::now(), since: Instant::now(), old: self.id });
        self.signal("USR2")
    }

    pub(super) fn is_upgrading(&self) -> bool {
        self.handover.is_some()
    }

    /// Looks at an upgrade: from when until when it took, once the old process is gone.
    pub(super) fn follow(&mut self) -> Result<Option<(u128, u128)>, Failed> {
        let mut notice = [0; 1024];
        while let Ok(length) = self.notices.recv(&mut notice) {
            if let Some(id) = main_of(&String::from_utf8_lossy(&notice[..length])) {
                self.id = id;
                self.note(id)?;
            }
        }
        let Some(handover) = &self.handover else { return Ok(None) };
        if self.id != handover.old && !is_running(handover.old) {
            let from = handover.from;
            self.handover = None;
            return Ok(Some((from, super::now())));
        }
        if handover.since.elapsed() > UPGRADE_LIMIT {
            let what = if self.id == handover.old { "nobody took over" } else { "the old process does not end" };
            self.handover = None;
            return Err(Failed::new(format!("upgrade: {what}")));
        }
        Ok(None)
    }

    /// SIGTERM, and the wait for its end.
    pub(super) fn end(self) -> Outcome {
        self.signal("TERM")?;
        let since = Instant::now();
        while is_running(self.id) {
            if since.elapsed() > END_LIMIT {
                return Err(Failed::new("the proxy does not end by TERM"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The process that a notice names as the main one (sd_notify(3)).
fn main_of(notice: &str) -> Option<u32> {
    notice.lines().find_map(|line| line.strip_prefix("MAINPID="))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices() {
        assert_eq!(main_of("MAINPID=77\nREADY=1"), Some(77));
        assert_eq!(main_of("READY=1\nSTATUS=MAINPID"), None);
    }
}
