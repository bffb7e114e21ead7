//! Programs that are measured or that measure: started on one core, read through /proc, and always ended, by their own id.
//! Nothing started here outlives this process, however that ends.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{self, Failed, Outcome};

/// Where what is measured runs, alone.
pub(crate) const PROXY_CORE: usize = 0;
/// Where origins, load and this process run.
pub(crate) const LOAD_CORE: usize = 1;

/// How often something is looked at that is waited for.
const POLL: Duration = Duration::from_millis(1);

/// A running program with its output in a file. Dropping it kills it and waits for its end.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    started: Instant,
}

impl Process {
    /// Starts `program` on `core`, its standard output and error in `log`. It gets SIGKILL when this process dies, so
    /// that neither Ctrl-C nor a panic leaves it behind. Call it on the main thread: the kernel means a thread's death.
    pub(crate) fn start(program: &Path, arguments: &[String], core: usize, log: &Path) -> Result<Process, Failed> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let failed = |error: std::io::Error| Failed::new(format!("{name} could not be started: {error}"));
        let out = File::create(log).map_err(failed)?;
        let mut command = before_others(program, core);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(out.try_clone().map_err(failed)?).stderr(out);
        command.env("WITGATE_LOG", "warn");
        run::without_outer_cargo(&mut command);
        let started = Instant::now();
        let child = command.spawn().map_err(failed)?;
        prefer(child.id());
        Ok(Process { child, name, log: log.to_path_buf(), started })
    }

    /// Polls `ready` until it holds and returns the time since the start; an error when the program ends before, or
    /// `limit` is over.
    pub(crate) fn wait_until(&mut self, limit: Duration, ready: impl Fn() -> bool) -> Result<Duration, Failed> {
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended ({status})")));
            }
            if self.started.elapsed() > limit {
                return Err(self.failed(&format!("was not ready after {} s", limit.as_secs())));
            }
            std::thread::sleep(POLL);
        }
        Ok(self.started.elapsed())
    }

    /// Waits for its end, at most `limit`, and returns what it wrote. Not to end well is an error.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<String, Failed> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(self.output()),
                Ok(Some(status)) => return Err(self.failed(&format!("failed ({status})"))),
                Ok(None) if self.started.elapsed() > limit => {
                    return Err(self.failed(&format!("took longer than {} s", limit.as_secs())));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(self.failed(&error.to_string())),
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, such as STOP.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failed> {
        signal(self.child.id(), name)
    }

    /// Asks it by that signal to end in its own time and waits for that, at most `limit`.
    pub(crate) fn end_by(mut self, signal: &str, limit: Duration) -> Result<(), Failed> {
        self.signal(signal)?;
        let since = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if since.elapsed() > limit => return Err(self.failed(&format!("did not end by {signal}"))),
                Ok(None) => std::thread::sleep(POLL),
                Err(error) => return Err(self.failed(&error.to_string())),
            }
        }
    }

    /// CPU time it has used so far in all of its threads: user and kernel, in clock ticks.
    fn cpu_ticks(&self) -> Result<Cpu, Failed> {
        cpu_of(self.child.id()).ok_or_else(|| self.failed("is gone"))
    }

    /// Resident memory in KiB (VmRSS).
    pub(crate) fn resident_kib(&self) -> Result<u64, Failed> {
        resident_kib(self.child.id()).ok_or_else(|| self.failed("is gone"))
    }

    fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// An error that shows the end of what the program wrote.
    fn failed(&self, what: &str) -> Failed {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines[lines.len().saturating_sub(12)..].join("\n");
        Failed::new(format!("{} {what}\n{last}", self.name).trim_end())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a process a signal by name.
pub(crate) fn signal(id: u32, name: &str) -> Result<(), Failed> {
    run::output(Command::new("kill").args([&format!("-{name}"), &id.to_string()])).map(drop)
}

/// Resident memory of a process in KiB (VmRSS).
pub(crate) fn resident_kib(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// CPU time of a process so far, in seconds.
pub(crate) fn cpu_seconds(id: u32) -> Option<f64> {
    let cpu = cpu_of(id)?;
    Some((cpu.user + cpu.kernel) as f64 / ticks_per_second().ok()?)
}

fn cpu_of(id: u32) -> Option<Cpu> {
    cpu_of_stat(&fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default())
}

/// Whether it is there and has not ended.
pub(crate) fn is_running(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Runs this program once more with these arguments, on the core of the load, so that its own threads run as what it measures
/// does. Its exit code is that of the other.
pub(crate) fn again(arguments: &[String]) -> Outcome {
    let failed = |error: std::io::Error| Failed::new(format!("this program could not be started again: {error}"));
    let mut command = before_others(&std::env::current_exe().map_err(failed)?, LOAD_CORE);
    let mut child = command.args(arguments).stdin(Stdio::null()).env(AGAIN, "1").spawn().map_err(failed)?;
    prefer(child.id());
    match child.wait().map_err(failed)? {
        status if status.success() => Ok(()),
        // It has said why.
        status => Err(Failed { message: String::new(), code: status.code().map_or(1, |code| code as u8) }),
    }
}

/// Whether this is the program that [`again`] started.
pub(crate) fn is_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

const AGAIN: &str = "WITGATE_XTASK_AGAIN";

/// In a session of its own, with a high priority, ended with the thread that starts it.
fn before_others(program: &Path, core: usize) -> Command {
    let mut command = Command::new("setpriv");
    // Each replaces itself by what follows: the id is the program's own in the end.
    command.args(["--pdeathsig", "KILL", "setsid", "nice", "-n", "-10", "taskset", "-c", &core.to_string()]);
    command.arg(program);
    command
}

/// Puts it before whatever else runs on this machine, as far as one may (and not so far that the kernel's own threads
/// starve): without root neither this nor `nice` has an effect.
/// Where the kernel groups processes by session (sched(7), autogroup), the group's niceness is what counts, and a session
/// of its own makes all that are started here equal: else a proxy with a busier thread beside it gets a larger share.
fn prefer(id: u32) {
    let file = format!("/proc/{id}/autogroup");
    let limit = Instant::now() + Duration::from_millis(100);
    // Not before it has its own session: that of this process is everybody's.
    while Instant::now() < limit {
        if is_session_leader(id) {
            let _ = fs::write(file, "-10");
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Whether the session's id, the 6th field of /proc/PID/stat, is the process's own.
fn is_session_leader(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let session = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3));
    session.is_some_and(|session| session == id.to_string())
}

/// CPU time in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cpu {
    user: u64,
    kernel: u64,
}

/// What a process and everything else take of the proxy's core, from here on.
pub(crate) struct Usage<'p> {
    process: &'p Process,
    cpu: Cpu,
    core: u64,
    since: Instant,
}

/// The answer, in seconds of CPU time and shares of the core.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) user: f64,
    pub(crate) kernel: f64,
    pub(crate) busy: f64,
    pub(crate) others: f64,
}

impl<'p> Usage<'p> {
    pub(crate) fn of(process: &'p Process) -> Result<Usage<'p>, Failed> {
        Ok(Usage { process, cpu: process.cpu_ticks()?, core: core_busy_ticks(PROXY_CORE), since: Instant::now() })
    }

    pub(crate) fn until_now(&self) -> Result<Used, Failed> {
        let (cpu, core, wall) = (self.process.cpu_ticks()?, core_busy_ticks(PROXY_CORE), self.since.elapsed());
        let second = ticks_per_second()?;
        let seconds = |before: u64, after: u64| after.saturating_sub(before) as f64 / second;
        let (user, kernel) = (seconds(self.cpu.user, cpu.user), seconds(self.cpu.kernel, cpu.kernel));
        let busy = (user + kernel) / wall.as_secs_f64();
        let others = (seconds(self.core, core) / wall.as_secs_f64() - busy).max(0.0);
        Ok(Used { user, kernel, busy, others })
    }
}

/// utime and stime of /proc/PID/stat (proc(5)): the 14th and 15th field, counted from behind the name, which may hold
/// anything.
fn cpu_of_stat(stat: &str) -> Option<Cpu> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse().ok());
    Some(Cpu { user: fields.next()??, kernel: fields.next()?? })
}

/// Clock ticks that a core has been busy so far, whoever used it.
fn core_busy_ticks(core: usize) -> u64 {
    busy_of_stat(&fs::read_to_string("/proc/stat").unwrap_or_default(), core).unwrap_or(0)
}

/// user, nice, system, irq, softirq and steal of one line of /proc/stat; not idle and iowait.
fn busy_of_stat(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let fields = stat.lines().find_map(|line| line.split_once(' ').filter(|(first, _)| *first == name))?.1;
    let fields: Vec<u64> = fields.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    Some([0, 1, 2, 5, 6, 7].iter().filter_map(|at| fields.get(*at)).sum())
}

/// Clock ticks a second, which /proc counts in.
fn ticks_per_second() -> Result<f64, Failed> {
    let printed = run::output(Command::new("getconf").arg("CLK_TCK"))?;
    printed.trim().parse().map_err(|_| Failed::new(format!("getconf CLK_TCK: {printed}")))
}

/// Moves this process to the core of the load, with the threads it will have.
pub(crate) fn pin_self() -> Result<(), Failed> {
    let (core, me) = (LOAD_CORE.to_string(), std::process::id().to_string());
    run::output(Command::new("taskset").args(["-acp", &core, &me])).map(drop)
}

/// Files that may be open at once, connections too, here and in all that is started from here.
const FILES: u64 = 16_384;

/// Raises the limit where it is lower. A proxy with two thousand clients needs more than the usual 1,024.
pub(crate) fn allow_many_files() -> Result<(), Failed> {
    let limit = run::output(Command::new("sh").args(["-c", "ulimit -Sn"]))?;
    let enough = limit.trim().parse().map_or(limit.trim() == "unlimited", |files: u64| files >= FILES);
    if enough {
        return Ok(());
    }
    let me = std::process::id().to_string();
    run::output(Command::new("prlimit").args(["--pid", &me, &format!("--nofile={FILES}:")])).map(drop)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, Failed> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    bound.map(|address| address.port()).map_err(|error| Failed::new(format!("no free port: {error}")))
}

/// A folder that is removed at the end, whatever the end is: a small shell waits for the end of its standard input.
pub(crate) struct Scratch {
    dir: PathBuf,
    janitor: Child,
}

/// A line says that all is well; its absence, that others are just being killed.
const JANITOR: &str = r#"trap "" INT TERM HUP; read -r _ || sleep 1; rm -rf -- "$1""#;

impl Scratch {
    pub(crate) fn new() -> Result<Scratch, Failed> {
        let dir = std::env::temp_dir().join(format!("witgate-lab-{}", std::process::id()));
        let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", dir.display()));
        fs::create_dir(&dir).map_err(failed)?;
        let mut sh = Command::new("sh");
        sh.args(["-c", JANITOR, "sh"]).arg(&dir).current_dir("/");
        let janitor = sh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match janitor {
            Ok(janitor) => Ok(Scratch { dir, janitor }),
            Err(error) => {
                let _ = fs::remove_dir(&dir);
                Err(failed(error))
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.janitor.stdin.take() {
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.janitor.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process() {
        let check = |stat: &str, expected| assert_eq!(cpu_of_stat(stat), expected, "{stat}");
        let times = Some(Cpu { user: 120, kernel: 34 });
        check("7 (witgate) S 1 7 7 0 -1 4194304 500 0 0 0 120 34 0 0 20 0 4", times);
        check("7 (a) b) c) S 1 7 7 0 -1 4194304 500 0 0 0 120 34 0 0 20 0 4", times);
        check("7 (witgate) S 1 7", None);
        check("", None);
    }

    #[test]
    fn times_of_a_core() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 1000 8 16 32 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n";
        let check = |core, expected| assert_eq!(busy_of_stat(stat, core), expected, "core {core}");
        check(0, Some(63));
        check(1, Some(6));
        check(2, None);
    }

    #[test]
    fn the_folder_is_gone_in_the_end() {
        let scratch = Scratch::new().unwrap();
        let dir = scratch.dir().to_path_buf();
        fs::write(scratch.path("file"), "x").unwrap();
        assert!(dir.exists());
        drop(scratch);
        assert!(!dir.exists(), "{}", dir.display());
    }
}
