//! wrk: how it is called, and what it says.

use super::{Load, milliseconds};

/// Connections that are kept busy.
const CONNECTIONS: usize = 64;

pub(super) fn arguments(seconds: u32) -> Vec<String> {
    let mut arguments: Vec<String> = ["-t1", "--latency", "--timeout", "5s"].map(str::to_string).to_vec();
    arguments.extend([format!("-c{CONNECTIONS}"), format!("-d{seconds}s")]);
    arguments
}

pub(super) fn parse(printed: &str) -> Option<Load> {
    let mut load = Load::default();
    let (mut latencies, mut closing) = (0, false);
    for line in printed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["50%", latency] => (load.p50, latencies) = (milliseconds(latency)?, latencies + 1),
            ["99%", latency] => (load.p99, latencies) = (milliseconds(latency)?, latencies + 1),
            [requests, "requests", "in", duration, ..] => {
                load.requests = requests.parse().ok()?;
                load.seconds = milliseconds(duration.trim_end_matches(','))? / 1e3;
                closing = true;
            }
            ["Socket", "errors:", kinds @ ..] => {
                load.failures +=
                    kinds.iter().filter_map(|kind| kind.trim_end_matches(',').parse::<u64>().ok()).sum::<u64>();
            }
            ["Non-2xx", "or", "3xx", "responses:", count] => load.failures += count.parse::<u64>().ok()?,
            _ => {}
        }
    }
    (latencies == 2 && closing && load.requests > 0 && load.seconds > 0.0).then_some(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Running 2s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.62ms  250.00us   9.79ms   91.33%
    Req/Sec    39.48k     1.52k   41.49k    85.00%
  Latency Distribution
     50%  871.00us
     75%    1.66ms
     90%    1.77ms
     99%    2.50ms
  78598 requests in 2.00s, 22.11MB read
Requests/sec:  39273.52
Transfer/sec:     11.05MB
";

    #[test]
    fn what_wrk_says() {
        let well = Load { requests: 78598, seconds: 2.0, p50: 0.871, p99: 2.5, failures: 0 };
        let check = |printed: &str, expected: Option<Load>| assert_eq!(parse(printed), expected, "{printed}");
        check(PRINTED, Some(well.clone()));
        let errors = "  Socket errors: connect 1, read 20, write 0, timeout 3\n  Non-2xx or 3xx responses: 100\n";
        check(&format!("{PRINTED}{errors}"), Some(Load { failures: 124, ..well }));
        check("unable to connect to 127.0.0.1:8080 Connection refused", None);
        check(&PRINTED.replace("78598 requests", "0 requests"), None);
        check("", None);
    }
}
