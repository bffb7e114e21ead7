//! h2load: how it is called, and what it says. It prints no percentiles; its log of every request has them.

use std::path::Path;

use super::{Load, milliseconds};
use crate::lab::stats::percentile;

const CONNECTIONS: u64 = 8;
/// On each connection.
const STREAMS: u64 = 16;

pub(super) fn arguments(seconds: u32, samples: &Path) -> Vec<String> {
    let mut arguments = vec!["-t1".to_string(), format!("-c{CONNECTIONS}"), format!("-m{STREAMS}")];
    arguments.extend([format!("-D{seconds}"), format!("--log-file={}", samples.display())]);
    arguments
}

/// `samples` are lines of a start, a status and a duration in µs, with tabs between.
pub(super) fn parse(printed: &str, samples: &[u8]) -> Option<Load> {
    let mut load = Load::default();
    let mut cleartext = false;
    for line in printed.lines() {
        let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
        match words.as_slice() {
            ["Application", "protocol:", "h2c"] => cleartext = true,
            ["finished", "in", duration, ..] => load.seconds = milliseconds(duration)? / 1e3,
            ["requests:", .., failed, "failed", _, "errored", timeout, "timeout"] => {
                // Requests in flight when the time is up count as failed.
                let cut_off = CONNECTIONS * STREAMS;
                load.failures += failed.parse::<u64>().ok()?.saturating_sub(cut_off) + timeout.parse::<u64>().ok()?;
            }
            ["status", "codes:", well, "2xx", moved, "3xx", client, "4xx", server, "5xx"] => {
                load.requests = well.parse::<u64>().ok()? + moved.parse::<u64>().ok()?;
                load.failures += client.parse::<u64>().ok()? + server.parse::<u64>().ok()?;
            }
            _ => {}
        }
    }
    let durations: Vec<f64> = durations(samples).collect();
    load.p50 = percentile(durations.iter().copied(), 0.5);
    load.p99 = percentile(durations.iter().copied(), 0.99);
    (cleartext && load.requests > 0 && load.seconds > 0.0 && !durations.is_empty()).then_some(load)
}

/// In milliseconds.
fn durations(samples: &[u8]) -> impl Iterator<Item = f64> {
    let last = |line: &[u8]| {
        let word = line.rsplit(|byte| *byte == b'\t').next()?;
        Some(std::str::from_utf8(word).ok()?.parse::<f64>().ok()? / 1e3)
    };
    samples.split(|byte| *byte == b'\n').filter_map(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
starting benchmark...
Application protocol: h2c

finished in 4.00s, 54642.25 req/s, 8.13MB/s
requests: 218569 total, 218697 started, 218569 done, 218569 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 218569 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 32.52MB (34099764) total, 1.04MB (1092845) headers (space savings 96.49%), 26.68MB (27976832) data
                     min         max         mean         sd        +/- sd
time for request:      231us      9.87ms      2.33ms       540us    74.79%
";

    #[test]
    fn what_h2load_says() {
        let samples: String = (1..=100).map(|n| format!("17000000{n}\t200\t{}\n", n * 10)).collect();
        let well = Load { requests: 218_569, seconds: 4.0, p50: 0.5, p99: 0.99, failures: 0 };
        let check = |printed: &str, expected: Option<Load>| {
            assert_eq!(parse(printed, samples.as_bytes()), expected, "{printed}");
        };
        check(PRINTED, Some(well.clone()));
        check(&PRINTED.replace("0 failed, 0 errored", "128 failed, 128 errored"), Some(well.clone()));
        let broken = PRINTED.replace("0 failed, 0 errored, 0 timeout", "138 failed, 130 errored, 1 timeout");
        check(&broken.replace("0 4xx, 0 5xx", "4 4xx, 5 5xx"), Some(Load { failures: 20, ..well }));
        check(&PRINTED.replace("h2c", "http/1.1"), None);
        check(&PRINTED.replace("218569 2xx", "0 2xx"), None);
        check("", None);
        assert_eq!(parse(PRINTED, b""), None);
    }
}
