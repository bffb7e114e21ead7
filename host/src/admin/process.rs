//! What the system knows of this process, from /proc. Where there is none, the metrics are absent.

use std::fs;

/// Ticks a second in /proc, whatever the kernel's own: part of Linux' interface to programs (`USER_HZ`).
const TICKS: f64 = 100.0;

/// One look at the process.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    /// Seconds since 1970.
    pub(super) started: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(&file("/proc/self/status"), &file("/proc/self/stat"), &file("/proc/stat"));
        process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64);
        process.max_fds = file("/proc/self/limits")
            .lines()
            .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
        process
    }

    fn parse(status: &str, stat: &str, system: &str) -> Self {
        let line = |text: &str, key: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        };
        // The second field, the program's name in parentheses, may hold anything, so that counting starts behind it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        // proc(5) counts from 1; the first field behind the name is number 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted = line(system, "btime ");
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let started = booted.zip(field(22)).map(|(booted, ticks)| booted as f64 + ticks / TICKS);
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
            resident_bytes: line(status, "VmRSS:").map(|kib| kib << 10),
            virtual_bytes: line(status, "VmSize:").map(|kib| kib << 10),
            threads: line(status, "Threads:"),
            started,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let status = "Name:\twitgate\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t5\n";
        let stat = "42 (wit) gate) S 1 42 42 0 -1 0 0 0 0 0 150 50 0 0 20 0 5 0 12345 0 0";
        let process = Process::parse(status, stat, "cpu 1 2\nbtime 1700000000\n");
        let want = Process {
            cpu_seconds: Some(2.0),
            resident_bytes: Some(1 << 20),
            virtual_bytes: Some(2 << 20),
            threads: Some(5),
            started: Some(1_700_000_123.45),
            ..Process::default()
        };
        assert_eq!(process, want);
        assert_eq!(Process::parse("", "", ""), Process::default());
    }
}
