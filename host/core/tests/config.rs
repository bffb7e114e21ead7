//! The configuration from outside: what a good file means, what is said about a bad one, and that no text is too bad.

#[path = "config/access_log.rs"]
mod access_log;
#[path = "config/admin.rs"]
mod admin;
#[path = "config/rules.rs"]
mod rules;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use witgate_core::config::{
    Action, AdminListen, Affinity, Algorithm, Balance, Circuit, Cluster, Config, Diagnostics, FailurePercentage,
    HeaderRules, HostPattern, Isolation, Key, Mirror, OnError, Parsed, PathMatch, Probe, RateLimit, Retry, RetryBudget,
    RetryOn, Rewrite, ScoreMode, Severity, SlowStart, SuccessRate, ValueMatch, parse,
};

const FULL: &str = include_str!("config/full.toml");
const LISTENER: &str = "[[listener]]\nname = \"web\"\nlisten = \"0.0.0.0:8080\"\n";

fn read(text: &str) -> Result<Parsed, Diagnostics> {
    parse(text, "witgate.toml", Path::new("/etc/witgate"))
}

fn good(text: &str) -> Config {
    match read(text) {
        Ok(parsed) => parsed.config,
        Err(errors) => panic!("refused:\n{errors}\n--- of:\n{text}"),
    }
}

fn bad(text: &str) -> Diagnostics {
    match read(text) {
        Ok(parsed) => panic!("accepted as {:#?}\n--- of:\n{text}", parsed.config),
        Err(errors) => errors,
    }
}

/// What each diagnostic says, in one line: `line:column key: message | expected | help`.
fn summary(diagnostics: &Diagnostics) -> Vec<String> {
    let line = |d: &witgate_core::config::Diagnostic| {
        let notes = [&d.expected, &d.help].map(|note| note.as_deref().unwrap_or("-").to_owned());
        format!("{}:{} {}: {} | {} | {}", d.line, d.column, d.key, d.message, notes[0], notes[1])
    };
    diagnostics.iter().map(line).collect()
}

/// The text must give exactly these diagnostics; `…` at the end of one stands for whatever follows.
fn check(text: &str, expected: &[&str]) {
    let found = summary(&bad(text));
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| match expected.strip_suffix('…') {
            Some(start) => found.starts_with(start),
            None => found == expected,
        });
    assert!(same, "text:\n{text}\nexpected:\n{expected:#?}\nfound:\n{found:#?}");
}

/// [`check`] for lines that belong after a listener; line numbers count from the first of them.
fn check_after_listener(text: &str, expected: &[&str]) {
    let shifted: Vec<String> = expected
        .iter()
        .map(|line| {
            let (number, rest) = line.split_once(':').expect("line:column");
            format!("{}:{rest}", number.parse::<usize>().expect("a line number") + LISTENER.lines().count())
        })
        .collect();
    check(&format!("{LISTENER}{text}"), &shifted.iter().map(String::as_str).collect::<Vec<_>>());
}

/// [`check_after_listener`] for keys of a route to cluster `c`, of which they are the third line and after.
fn check_route(text: &str, expected: &[&str]) {
    let cluster = "\n[[cluster]]\nname = \"c\"\nendpoints = []\n";
    check_after_listener(&format!("[[route]]\nname = \"r\"\n{text}{cluster}"), expected);
}

/// [`check_after_listener`] for keys of a cluster, of which they are the third line and after.
fn check_cluster(text: &str, expected: &[&str]) {
    check_after_listener(&format!("[[cluster]]\nname = \"c\"\n{text}"), expected);
}

mod accepted {
    use super::*;

    #[test]
    fn the_smallest_file_has_every_default() {
        let config = good(LISTENER);
        assert_eq!(config.admin.listen, AdminListen::Tcp("127.0.0.1:9901".parse().unwrap()));
        assert_eq!(config.admin.token_file, PathBuf::from("/etc/witgate/admin.token"));
        assert_eq!(config.runtime.state_dir, PathBuf::from("/etc/witgate/state"));
        assert_eq!(config.runtime.drain_timeout, Duration::from_secs(30));
        assert_eq!(config.runtime.upgrade_timeout, Duration::from_secs(60));
        assert_eq!(config.plugin_bounds.memory_ceiling, 256 << 20);
        assert_eq!(config.access_log, None);
        let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
        assert_eq!((listener.name.as_str(), listener.listen.port()), ("web", 8080));
        assert_eq!((listener.limits.connections, listener.limits.header_bytes), (10_000, 64 << 10));
        assert_eq!((listener.limits.body, listener.limits.requests_per_connection), (None, None));

        let config = good(&format!(
            "{LISTENER}[[route]]\nname='r'\ncluster='c'\n[[cluster]]\nname='c'\nendpoints=[{{address='a:1'}}]\n[[plugin]]\nname='p'\n"
        ));
        assert_eq!(config.routes[0].timeout, Some(Duration::from_secs(15)));
        assert!(config.routes[0].listeners.is_none());
        assert_eq!(config.clusters[0].endpoints[0].weight, 1);
        assert_eq!(config.clusters[0].connect_timeout, Duration::from_secs(5));
        assert!(matches!(config.clusters[0].balance, Balance::Native(Algorithm::LeastRequest)));
        let Cluster { health: None, outlier: None, slow_start: None, panic_percent: 50, .. } = config.clusters[0]
        else {
            panic!("{:?}", config.clusters[0])
        };
        assert_eq!((config.plugins[0].budget.memory, config.plugins[0].on_error), (16 << 20, OnError::Fallback));
    }

    #[test]
    fn a_full_file_means_what_it_says() {
        let parsed = read(FULL).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(parsed.warnings.is_empty(), "{}", parsed.warnings);
        let config = parsed.config;
        assert_eq!(config.admin.listen, AdminListen::Unix("/etc/witgate/run/witgate.sock".into()));
        assert_eq!(config.runtime.state_dir, PathBuf::from("/var/lib/witgate"));
        assert_eq!(config.runtime.drain_timeout, Duration::ZERO);
        assert_eq!(config.runtime.upgrade_timeout, Duration::from_secs(300));
        let limits = &config.listeners[0].limits;
        assert_eq!(
            (limits.connections, limits.body, limits.requests_per_connection),
            (1000, Some(10 << 20), Some(100))
        );
        assert_eq!(config.listeners[0].trusted_proxies.len(), 2);
        assert_eq!(config.listeners[1].limits.requests_per_connection, None);

        let route = &config.routes[0];
        let hosts = ["api.example.com", "[::1]"].map(|host| HostPattern::Exact(host.to_owned()));
        let wildcard = HostPattern::Suffix(".api.example.com".to_owned());
        assert_eq!(route.hosts, [hosts[0].clone(), wildcard, hosts[1].clone()]);
        assert!(matches!(&route.path, PathMatch::Prefix(path) if path == "/api/"));
        assert!(matches!(&route.headers[1], (name, ValueMatch::Regex(_)) if name == "x-user"), "{:?}", route.headers);
        assert!(matches!(&route.cookies[0], (name, ValueMatch::Present(false)) if name == "uid"));
        assert!(matches!(&route.query[0], (name, ValueMatch::Exact(value)) if name == "the key" && value == "é"));
        let Action::Split(split) = &route.action else { panic!("{:?}", route.action) };
        assert_eq!((split.choices.len(), split.choices[1].weight, split.by.len()), (2, 5, 4));
        assert_eq!(split.by[3], Key::ClientAddress);
        assert_eq!(route.plugins.affinity.as_deref(), Some("uploaded-only"));
        let expected = Duration::from_secs(3600);
        assert!(
            matches!(&config.routes[1].affinity, Some(Affinity::Cookie { ttl: Some(ttl), .. }) if *ttl == expected)
        );
        assert_eq!(config.routes[1].timeout, None);
        let on = RetryOn { connect_failure: true, server_error: true, ..RetryOn::default() };
        let seconds = Duration::from_secs;
        let retry = Retry { attempts: 2, on, per_try_timeout: Some(seconds(1)), backoff: seconds(0), hedge: true };
        let mirror = Mirror { cluster: "api-canary".to_owned(), percent: 0.5 };
        assert_eq!((&config.routes[1].mirror, &config.routes[0].mirror), (&Some(mirror), &None));
        let upgrades = [0, 1].map(|route: usize| config.routes[route].upgrade.join(" "));
        assert_eq!(upgrades, ["websocket", "websocket x-proto/1.0"]);
        assert_eq!((config.routes[1].retry, config.routes[0].retry), (Some(retry), None));
        assert_eq!(config.clusters[0].retry_budget, RetryBudget { percent: 50, min: 3 });
        let header = |name: &str| name.parse::<HeaderName>().unwrap();
        let by = vec![
            Key::Cookie("uid".to_owned()),
            Key::Header(header("x-user")),
            Key::Query("u".to_owned()),
            Key::ClientAddress,
        ];
        assert_eq!(config.routes[1].rate_limit, Some(RateLimit { rate: 5, per: seconds(60), burst: 2, by }));
        let limit = RateLimit { rate: 100, per: seconds(1), burst: 100, by: Vec::new() };
        assert_eq!((config.routes[2].rate_limit.clone(), config.routes[0].rate_limit.clone()), (Some(limit), None));
        let value = |text: &'static str| HeaderValue::from_static(text);
        let host = Some(value("inner.example:81"));
        assert_eq!(config.routes[1].rewrite, Some(Rewrite { path_prefix: Some("/inner/".to_owned()), host }));
        let host = Some(value("[::1]"));
        assert_eq!(config.routes[2].rewrite, Some(Rewrite { path_prefix: None, host }));
        let rules = HeaderRules {
            remove: vec![header("x-c"), header("x-request-id")],
            set: vec![(header("x-a"), value("1")), (header("x-forwarded-proto"), value("https"))],
            add: vec![(header("x-b"), value("2"))],
        };
        assert_eq!(config.routes[1].request_headers, rules);
        let rules = HeaderRules {
            remove: vec![header("x-witgate-error")],
            set: vec![(header("server"), value("wg"))],
            add: vec![(header("x-b"), value(""))],
        };
        assert_eq!(config.routes[1].response_headers, rules);
        assert!(config.routes[0].request_headers.is_empty() && config.routes[0].response_headers.is_empty());
        let circuit =
            Circuit { max_connections: Some(100), max_pending: 1024, max_requests: None, max_retries: Some(0) };
        assert_eq!(config.clusters[0].circuit, circuit);
        assert!(matches!(&config.routes[4].action, Action::Redirect { status, .. } if status.as_u16() == 308));

        let addresses: Vec<_> = config.clusters[0].endpoints.iter().map(|e| e.address.as_str()).collect();
        assert_eq!(addresses, ["10.0.3.11:8080", "origin.internal:80", "[::1]:443"]);
        let Balance::Plugin { mode: ScoreMode::Weigh { interval, stale_after }, fallback, .. } =
            &config.clusters[1].balance
        else {
            panic!("{:?}", config.clusters[1].balance)
        };
        assert_eq!((interval.as_millis(), stale_after.as_millis(), *fallback), (50, 500, Algorithm::Maglev));
        let mode = &config.clusters[2].balance;
        assert!(matches!(mode, Balance::Plugin { mode: ScoreMode::Pick { choices: 4 }, .. }), "{mode:?}");

        let health = config.clusters[0].health.as_deref().unwrap();
        let Probe::Http(probe) = &health.probe else { panic!("{health:?}") };
        assert_eq!((probe.method.as_str(), &*probe.path, probe.host.as_deref()), ("HEAD", "/ok?full", Some("api:80")));
        assert_eq!((&probe.expect[..], probe.expect_body.as_deref()), (&[200..=299, 401..=401][..], Some("fine")));
        let seconds = Duration::from_secs;
        assert_eq!((health.interval, health.fast_interval, health.down_interval), (seconds(5), seconds(1), seconds(5)));
        assert_eq!((health.timeout, health.rise, health.fall, health.jitter_percent), (seconds(1), 2, 1, 0));
        let outlier = config.clusters[0].outlier.as_deref().unwrap();
        assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway, outlier.consecutive_local), (0, 3, 5));
        assert_eq!(
            (outlier.base_ejection, outlier.max_ejection, outlier.max_ejection_percent),
            (seconds(400), seconds(400), 34)
        );
        assert_eq!(outlier.success_rate, Some(SuccessRate { stdev_factor: 2.0, min_hosts: 5, min_requests: 100 }));
        assert_eq!(
            outlier.failure_percentage,
            Some(FailurePercentage { threshold: 50, min_hosts: 5, min_requests: 50 })
        );
        let slow = SlowStart { window: seconds(60), aggression: 1.5, min_weight_percent: 10 };
        assert_eq!((config.clusters[0].slow_start, config.clusters[0].panic_percent), (Some(slow), 0));
        let tcp = Probe::Tcp { send: Some("PING\r\n".to_owned()), expect: Some("+PONG".to_owned()) };
        assert_eq!(config.clusters[2].health.as_deref().unwrap().probe, tcp);

        let plugin = &config.plugins[0];
        assert_eq!(plugin.path.as_deref(), Some(Path::new("/etc/witgate/plugins/canary.wasm")));
        assert_eq!((plugin.isolation, plugin.on_error), (Isolation::Request, OnError::Reject));
        assert_eq!(plugin.quarantine.max_back_off, Duration::from_secs(300));
        assert_eq!(
            serde_json::Value::Object(plugin.config.clone()),
            serde_json::json!({
                "percent": 5, "ratio": 0.5, "on": true, "since": "1979-05-27T07:32:00Z",
                "deep": { "list": [1, "two", [3]] }
            })
        );
    }

    #[test]
    fn windows_line_ends_and_a_byte_order_mark_are_fine() {
        good(&format!("\u{feff}{}", FULL.replace('\n', "\r\n")));
    }

    #[test]
    fn a_low_ceiling_lowers_the_default_budget() {
        let config = good(&format!("{LISTENER}[plugins]\nmemory_ceiling='8MiB'\n[[plugin]]\nname='p'\n"));
        assert_eq!(config.plugins[0].budget.memory, 8 << 20);
    }

    #[test]
    fn a_plugin_that_is_not_in_the_file_is_a_warning_only_where_it_looks_like_a_slip() {
        let file = |used: &str| {
            format!(
                "{LISTENER}[[route]]\nname='r'\ncluster='c'\nplugins={{router='{used}'}}\n[[cluster]]\nname='c'\n\
                 endpoints=[]\n[[plugin]]\nname='canary'\n"
            )
        };
        assert!(read(&file("geo")).unwrap().warnings.is_empty());
        let warnings = read(&file("canray")).unwrap().warnings;
        let expected = "7:17 route[0].plugins.router: no [[plugin]] has the name \"canray\": it must arrive by upload \
                        | - | did you mean `canary`?";
        assert_eq!(summary(&warnings), [expected]);
        assert_eq!(warnings.iter().next().unwrap().severity, Severity::Warning);
        assert!(warnings.to_string().ends_with("\n1 warning"), "{warnings}");
    }

    #[test]
    fn a_percentage_that_ejects_nothing_is_a_warning() {
        let warnings = |count: usize, percent: u32| {
            let endpoints: Vec<String> = (1..=count).map(|n| format!("{{address='10.0.0.{n}:80'}}")).collect();
            let text = format!(
                "{LISTENER}[[cluster]]\nname='c'\nendpoints=[{}]\noutlier={{max_ejection_percent={percent}}}\n",
                endpoints.join(",")
            );
            summary(&read(&text).unwrap_or_else(|errors| panic!("{errors}")).warnings)
        };
        let expected = "7:9 cluster[0].outlier: nothing is ever ejected: 10 % of 3 endpoints is less than one | `max_ejection_percent` of at least 34 | -";
        let got = warnings(3, 10);
        assert!(
            got.len() == 1
                && got[0].split_once(' ').map(|(_, rest)| rest) == expected.split_once(' ').map(|(_, rest)| rest),
            "{got:?}"
        );
        for (count, percent) in [(3, 34), (10, 10), (0, 10)] {
            assert!(warnings(count, percent).is_empty(), "{percent} % of {count}");
        }
    }

    #[test]
    fn a_splitter_without_a_split_is_a_warning() {
        let text = format!("{LISTENER}[[route]]\nname='r'\nrespond={{status=200}}\nplugins={{splitter='s'}}\n");
        let warnings = read(&text).unwrap().warnings;
        assert_eq!(warnings.count(), 1, "{warnings}");
    }
}

mod refused {
    use super::*;

    #[test]
    fn a_diagnostic_prints_like_a_compilers() {
        let text = "[[listener]]\nname = \"web\"\n\tlisten = \"8080\" # é\n\n[[cluster]]\nname = \"api\"\n\
                    endpoints = [{ address = \"a:1\", wieght = 2 }]\nprotocol = \"h3\"\n";
        let expected = r#"error: bad `listen`: "8080" is not an IP address and port
 --> witgate.toml:3:11 (listener[0].listen, listener "web")
  |
3 |  listen = "8080" # é
  |           ^^^^^^
  = expected: an IP address and port, such as "0.0.0.0:8080"; port 0 picks a free one
  = help: did you mean "0.0.0.0:8080"?

error: unknown key "wieght"
 --> witgate.toml:7:33 (cluster[0].endpoints[0].wieght, cluster "api")
  |
7 | endpoints = [{ address = "a:1", wieght = 2 }]
  |                                 ^^^^^^
  = expected: `address`, `weight`, `zone` or `priority`
  = help: did you mean `weight`?

error: bad `protocol`: "h3" is none of the accepted words
 --> witgate.toml:8:12 (cluster[0].protocol, cluster "api")
  |
8 | protocol = "h3"
  |            ^^^^
  = expected: "http1", "http2" or "auto"

3 errors"#;
        let errors = bad(text);
        assert_eq!(errors.to_string(), expected, "\n{errors}");
        assert_eq!(errors, bad(text), "diagnostics compare");
    }

    #[test]
    fn diagnostics_serialise() {
        let json = serde_json::to_value(bad("[[listener]]\nname = \"web\"\nlisten = 1\n")).unwrap();
        let expected = serde_json::json!([{
            "severity": "error", "file": "witgate.toml", "line": 3, "column": 10, "key": "listener[0].listen",
            "within": "listener \"web\"", "message": "`listen` must be a string, not an integer",
            "expected": "an IP address and port, such as \"0.0.0.0:8080\"; port 0 picks a free one",
            "help": "did you mean \"0.0.0.0:1\"?",
        }]);
        assert_eq!(json, expected);
    }

    #[test]
    fn whole_file() {
        let nothing = "there is no listener, so there is nothing to serve | at least one [[listener]] | -";
        check("listener = []", &[&format!("1:1 : {nothing}")]);
        check("", &["1:1 : there is no listener, so there is nothing to serve | at least one [[listener]] | -"]);
        check(
            "[listener]\nname='a'\n",
            &["1:1 listener: `listener` must be an array, not a table | [[listener]], in double brackets | -"],
        );
        check_after_listener(
            "[[listeners]]\n[[upstream]]\n",
            &[
                "1:3 listeners: unknown key \"listeners\" | `admin`, `runtime`, `plugins`, `access_log`, `traces`, `listener`, `route`, `cluster` or `plugin` | did you mean `listener`?",
                "2:3 upstream: unknown key \"upstream\" | `admin`, …",
            ],
        );
    }

    #[test]
    fn globals() {
        check_after_listener(
            "[admin]\nlisten='localhost:1'\ntoken_file=''\n[runtime]\nworkers=-1\nstate_dir=1\ndrain_timeout=30\n\
             [plugins]\nmax_upload='64MB'\nmemory_ceiling='1'\ngate='warn'\n",
            &[
                "2:8 admin.listen: bad `listen`: \"localhost:1\" is not an IP address and port | an IP address and port, such as \"127.0.0.1:9901\", or \"unix:PATH\" | did you mean \"127.0.0.1:1\"?",
                "3:12 admin.token_file: \"\" is not a path |…",
                "5:9 runtime.workers: bad `workers`: -1 is out of range | an integer from 0 to 1024 | -",
                "6:11 runtime.state_dir: `state_dir` must be a string, not an integer |…",
                "7:15 runtime.drain_timeout: `drain_timeout` must be a string, not an integer | a duration from \"0s\" to \"8760h\", such as \"250ms\", \"2s\" or \"5m\" | did you mean \"30s\"?",
                "9:12 plugins.max_upload: bad `max_upload`: \"MB\" is not a unit of size | a size from \"1KiB\" to \"1GiB\", such as \"64KiB\" or \"16MiB\" | did you mean \"64MiB\"?",
                "10:16 plugins.memory_ceiling: bad `memory_ceiling`: \"1\" has no unit |…",
                "11:1 plugins.gate: `gate` is not supported by this version of Witgate | - |…",
            ],
        );
        let long = format!("[admin]\nlisten='unix:{}'\n", "x".repeat(120));
        check_after_listener(&long, &["2:8 admin.listen: this is not the path of a Unix socket |…"]);
    }

    #[test]
    fn tcp() {
        check(
            "[[listener]]\nname='a'\nlisten='[::]:0'\ncluster='c'\nsni=[]\n[[listener]]\nname='t'\nlisten='[::]:0'\n\
             protocol='tcp'\ncluster='d'\nsni=[{hosts=[],cluster='c'},{hosts=['*']}]\nlimits={headers=1,idle_timeout='1s'}\n\
             [[route]]\nname='r'\nlisteners=['t']\ncluster='c'\n[[cluster]]\nname='c'\nendpoints=[]\nproxy_protocol='v2'\n",
            &[
                "4:9 listener[0].cluster: `cluster` belongs to `protocol = \"tcp\"` |…",
                "5:5 listener[0].sni: `sni` belongs to `protocol = \"tcp\"` |…",
                "10:9 listener[1].cluster: there is no cluster \"d\" |…",
                "11:13 listener[1].sni[0].hosts: no connection is for none |…",
                "11:29 listener[1].sni[1]: `cluster` is missing |…",
                "11:37 listener[1].sni[1].hosts[0]: bad element of `hosts`: \"*\" is not a host |…",
                "12:9 listener[1].limits.headers: unknown key \"headers\" |…",
                "15:12 route[0].listeners[0]: the listener \"t\" serves no requests |…",
                "20:16 cluster[0].proxy_protocol: a header names one client, and the requests of all clients of route \"r\" share connections |…",
            ],
        );
    }

    #[test]
    fn tls() {
        check_after_listener(
            "tls={certificates=[],client_auth='optional',min_version='1.1'}\n[[cluster]]\nname='c'\nendpoints=[]\n\
             tls={cert='a.pem',sni='a b',ca='ca.pem',verify=false}\n",
            &[
                "1:19 listener[0].tls.certificates: there is none, so that nobody could be answered |…",
                "1:34 listener[0].tls.client_auth: nobody's certificate could be verified: there is no `client_ca` |…",
                "1:57 listener[0].tls.min_version: bad `min_version`: \"1.1\" is none of the accepted words |…",
                "5:11 cluster[0].tls.cert: `cert` is of no use without `key` | `key` beside it | -",
                "5:23 cluster[0].tls.sni: bad `sni`: \"a b\" is not a host name: \"a b\" is not a label |…",
                "5:48 cluster[0].tls.verify: `ca` says whom to trust, and this that nothing is verified |…",
            ],
        );
    }

    #[test]
    fn listeners() {
        check(
            "[[listener]]\nlisten='0.0.0.0:1'\n[[listener]]\nname='b'\n[[listener]]\nname='b'\nlisten='0.0.0.0:1'\n\
             protocol='tcp'\ntls={}\n[[listener]]\nname='d'\nlisten='127.0.0.1:9901'\nprotocol='htpt'\ntrusted_proxies=['10.0.0.0/33']\n",
            &[
                "1:1 listener[0]: `name` is missing | `name` = \"…\" | -",
                "3:1 listener[1]: `listen` is missing | `listen` = an IP address and port, such as \"0.0.0.0:8080\" | -",
                "5:1 listener[2]: `cluster` is missing | `cluster` = the name of a [[cluster]] | -",
                "6:6 listener[2].name: another listener has the name \"b\" | - | the first is on line 4",
                "7:8 listener[2].listen: another listener listens on 0.0.0.0:1 | - | the first is on line 2",
                "9:5 listener[2].tls: `certificates` is missing |…",
                "12:8 listener[3].listen: the admin API listens on 127.0.0.1:9901 | - | that is its default: set `admin.listen` to move it",
                "13:10 listener[3].protocol: bad `protocol`: \"htpt\" is none of the accepted words | \"http\" or \"tcp\" | did you mean \"http\"?",
                "14:18 listener[3].trusted_proxies[0]: bad element of `trusted_proxies`: \"10.0.0.0/33\" is not an IP network |…",
            ],
        );
        check(
            "[[listener]]\nname='a'\nlisten='[::]:0'\nproxy_protocol='accept'\n[[listener]]\nname='b/c'\nlisten='[::]:0'\n[listener.limits]\n\
             connections=0\nheader_bytes='4KiB'\nheaders=1001\nheader_timeout='0s'\nbody='0B'\nrequests=1\n",
            &[
                "4:16 listener[0].proxy_protocol: it is accepted from nobody: there are no `trusted_proxies` |…",
                "6:6 listener[1].name: bad `name`: \"b/c\" has '/' in it |…",
                "9:13 listener[1].limits.connections: bad `connections`: 0 is out of range |…",
                "10:14 listener[1].limits.header_bytes: the HTTP/1 parser needs a buffer of 8KiB or more |…",
                "11:9 listener[1].limits.headers: bad `headers`: 1001 is out of range |…",
                "12:16 listener[1].limits.header_timeout: bad `header_timeout`: \"0s\" is out of range |…",
                "13:6 listener[1].limits.body: bad `body`: \"0B\" is out of range |…",
                "14:1 listener[1].limits.requests: unknown key \"requests\" |…",
            ],
        );
    }

    #[test]
    fn what_a_route_matches() {
        check_route(
            "hosts=['a.com:80','*','a.*.com','-x','http://a','*.1.2.3.4','bücher.de']\npath='x'\npath_prefix='/a?b'\n\
             path_regex='('\nmethods=['get','G T']\nheaders={'a b'='1',b=1,c={},d={regex='[',present=true}}\n\
             cookies={''='x'}\nquery=1\ncluster='c'\n",
            &[
                "3:8 route[0].hosts[0]: bad element of `hosts`: \"a.com:80\" has a port, and hosts have none | a host without a port; `*.` may be its first label | did you mean \"a.com\"?",
                "3:19 route[0].hosts[1]: bad element of `hosts`: \"*\" is not a host | a host without a port; `*.` may be its first label | leave `hosts` out to match every host",
                "3:23 route[0].hosts[2]: bad element of `hosts`: \"a.*.com\" has `*` elsewhere than as its whole first label |…",
                "3:33 route[0].hosts[3]: bad element of `hosts`: \"-x\" is not a host name: \"-x\" is not a label |…",
                "3:38 route[0].hosts[4]: bad element of `hosts`: \"http://a\" is a URL or path, not a host |…",
                "3:49 route[0].hosts[5]: bad element of `hosts`: \"1.2.3.4\" is neither an IPv4 address nor a host name |…",
                "3:61 route[0].hosts[6]: bad element of `hosts`: \"bücher.de\" is not ASCII |…",
                "4:6 route[0].path: bad `path`: \"x\" does not start with '/' | a path, such as \"/exact\" | did you mean \"/x\"?",
                "5:13 route[0].path_prefix: `path_prefix` stands beside `path` | at most one of `path`, `path_prefix` or `path_regex` | the first is on line 7",
                "5:13 route[0].path_prefix: bad `path_prefix`: \"/a?b\" has '?' in it, which no path has |…",
                "6:12 route[0].path_regex: `path_regex` stands beside `path` |…",
                "6:12 route[0].path_regex: bad `path_regex`: unclosed group | a regular expression, such as \"^/v[0-9]+/\" | -",
                "7:10 route[0].methods[0]: bad element of `methods`: \"get\" is not a method, which are case-sensitive | a method, such as \"GET\" | did you mean \"GET\"?",
                "7:16 route[0].methods[1]: bad element of `methods`: \"G T\" is not a method |…",
                "8:10 route[0].headers.\"a b\": bad key: \"a b\" is not a header name | the name of a header | -",
                "8:22 route[0].headers.b: `b` must be a table, not an integer | \"exact value\", { regex = \"…\" } or { present = true } | -",
                "8:26 route[0].headers.c: neither `regex` nor `present` |…",
                "8:31 route[0].headers.d: `regex` stands beside `present` |…",
                "8:38 route[0].headers.d.regex: bad `regex`: unclosed character class |…",
                "9:10 route[0].cookies.\"\": bad key: \"\" is not a cookie name |…",
                "10:7 route[0].query: `query` must be a table, not an integer |…",
            ],
        );
    }

    #[test]
    fn what_regular_expressions_take() {
        check_route(
            "path_regex='\\w{1000}'\nquery={a={regex='x'}}\ncluster='c'\n",
            &[
                "3:12 route[0].path_regex: bad `path_regex`: it takes more than 10 MiB compiled | a regular expression, such as \"^/v[0-9]+/\" | repetitions such as {1,500} and classes such as \\w and \\d multiply; [A-Za-z0-9_] is smaller",
            ],
        );
        let many: String = (0..80).map(|n| format!("h{n}={{regex='\\w{{100}}'}}\n")).collect();
        let text = format!("cluster='c'\n[route.headers]\n{many}");
        check_route(
            &text,
            &[
                "13:11 route[0].headers.h8.regex: bad `regex`: with it, the file's regular expressions take more than 64 MiB compiled | a regular expression | repetitions such as {1,500} and classes such as \\w and \\d multiply; [A-Za-z0-9_] is smaller",
            ],
        );
    }

    #[test]
    fn what_a_route_does() {
        check_route(
            "",
            &["1:1 route[0]: this route does nothing | exactly one of `cluster`, `split`, `respond` or `redirect` | -"],
        );
        check_route(
            "cluster='c'\nrespond={status=600}\nredirect={status=200,location=\"a\\nb\"}\nsplit_by=['client']\n",
            &[
                "4:9 route[0].respond: `respond` stands beside `cluster` | exactly one of `cluster`, `split`, `respond` or `redirect` | the first is on line 6",
                "4:17 route[0].respond.status: bad `status`: 600 is out of range | an integer from 200 to 599 | -",
                "5:10 route[0].redirect: `redirect` stands beside `cluster` |…",
                "5:18 route[0].redirect.status: 200 is not a status of a redirect | 301, 302, 303, 307 or 308 | -",
                "5:31 route[0].redirect.location: bad `location`: \"a\\nb\" has the control character '\\n' in it |…",
                "6:10 route[0].split_by: `split_by` without `split` | `split` beside it | -",
                "6:11 route[0].split_by[0]: bad element of `split_by`: \"client\" is none of the accepted words | { cookie = \"…\" }, { header = \"…\" }, { query = \"…\" } or \"client-address\" | -",
            ],
        );
        check_route(
            "split=[{cluster='c',weight=0},{cluster='C',weight=0}]\nsplit_by=[{cookie='a',header='b'},{}]\nlisteners=['wbe']\n",
            &[
                "3:7 route[0].split: no choice of this split has a weight above 0 |…",
                "3:40 route[0].split[1].cluster: there is no cluster \"C\" | the name of a [[cluster]] | did you mean `c`?",
                "4:11 route[0].split_by[0]: a key is one thing |…",
                "4:35 route[0].split_by[1]: a key is one thing |…",
                "5:12 route[0].listeners[0]: there is no listener \"wbe\" | the name of a [[listener]] | did you mean `web`?",
            ],
        );
        check_route("split=[]\n", &["3:7 route[0].split: no choice of this split has a weight above 0 |…"]);
        check_route(
            "respond={status=204,body='x'}\nlisteners=[]\naffinity={cookie={name='a;b',ttl='1ms'},by=[]}\n\
             plugins={router='Geo',scorer='x'}\ntimeout='1 s'\nretry={attempts=11,on=['resets'],backoff=1}\nmirror={percent=101}\nrewrite={}\n",
            &[
                "3:26 route[0].respond.body: a response with status 204 has no body |…",
                "4:11 route[0].listeners: a route without listeners is never taken |…",
                "5:10 route[0].affinity: `by` stands beside `cookie` |…",
                "5:24 route[0].affinity.cookie.name: bad `name`: \"a;b\" is not a cookie name |…",
                "5:34 route[0].affinity.cookie.ttl: bad `ttl`: \"1ms\" is out of range |…",
                "5:44 route[0].affinity.by: the list is empty |…",
                "6:17 route[0].plugins.router: bad `router`: \"Geo\" is not a plugin name |…",
                "6:23 route[0].plugins.scorer: unknown key \"scorer\" | `splitter`, `router` or `affinity` | -",
                "7:9 route[0].timeout: bad `timeout`: \" s\" is not a unit of time | a duration from \"0s\" to \"8760h\", such as \"250ms\", \"2s\" or \"5m\" | did you mean \"1s\"?",
                "8:17 route[0].retry.attempts: bad `attempts`: 11 is out of range | an integer from 0 to 10 | -",
                "8:24 route[0].retry.on[0]: bad element of `on`: \"resets\" is none of the accepted words | \"connect-failure\", \"refused-stream\", \"reset\", \"5xx\" or \"gateway-error\" | did you mean \"reset\"?",
                "8:42 route[0].retry.backoff: `backoff` must be a string, not an integer |…",
                "9:8 route[0].mirror: `cluster` is missing |…",
                "9:17 route[0].mirror.percent: bad `percent`: 101 is out of range | a number from 0 to 100 | -",
                "10:9 route[0].rewrite: neither `path_prefix` nor `host` |…",
            ],
        );
    }

    #[test]
    fn upgrades() {
        let never = "is never passed on: requests behind it would not be looked at |…";
        check_route(
            "cluster='c'\nupgrade=['h2c','HTTP/2.0','web socket','a/','',7]\n",
            &[
                &format!("4:10 route[0].upgrade[0]: bad element of `upgrade`: \"h2c\" {never}"),
                &format!("4:16 route[0].upgrade[1]: bad element of `upgrade`: \"HTTP/2.0\" {never}"),
                "4:27 route[0].upgrade[2]: bad element of `upgrade`: \"web socket\" is not a protocol's name |…",
                "4:40 route[0].upgrade[3]: bad element of `upgrade`: \"a/\" is not a protocol's name |…",
                "4:45 route[0].upgrade[4]: bad element of `upgrade`: \"\" is not a protocol's name |…",
                "4:48 route[0].upgrade[5]: an element of `upgrade` must be a string, not an integer |…",
            ],
        );
        check_route(
            "cluster='c'\nupgrade='websocket'\n",
            &[
                "4:9 route[0].upgrade: `upgrade` must be an array, not a string | names of protocols, such as [\"websocket\"]; [] forbids all |…",
            ],
        );
    }

    #[test]
    fn hedging_without_a_time() {
        check_route(
            "cluster='c'\nretry={hedge=true}\n",
            &[
                "4:14 route[0].retry.hedge: no try is ever joined by another: `hedge` without `per_try_timeout` | `per_try_timeout` beside it | -",
            ],
        );
    }

    #[test]
    fn clusters() {
        check_cluster("", &["1:1 cluster[0]: `endpoints` is missing |…"]);
        check_cluster(
            "endpoints=[{address='a'},{address='a:0'},{address='http://a:1'},{address='A:1'},{address='a:1',weight=65536},\
             {address='::1'},{address='1.2.3:1'},{address='a_b:70000'},{priority=128},7]\n",
            &[
                "3:21 cluster[0].endpoints[0].address: bad `address`: \"a\" has no port | HOST:PORT, where HOST is an IP address (IPv6 in brackets) or a DNS name | did you mean \"a:80\"?",
                "3:35 cluster[0].endpoints[1].address: bad `address`: \"a:0\" has port 0, to which nothing can connect |…",
                "3:51 cluster[0].endpoints[2].address: bad `address`: \"http://a:1\" is a URL |…",
                "3:90 cluster[0].endpoints[4].address: another endpoint has the address \"a:1\" | - | the first is on line 6",
                "3:103 cluster[0].endpoints[4].weight: bad `weight`: 65536 is out of range | an integer from 0 to 65535 | -",
                "3:119 cluster[0].endpoints[5].address: bad `address`: \"::1\" has no port | HOST:PORT, where HOST is an IP address (IPv6 in brackets) or a DNS name | did you mean \"[::1]:80\"?",
                "3:135 cluster[0].endpoints[6].address: bad `address`: \"1.2.3\" is neither an IPv4 address nor a host name |…",
                "3:155 cluster[0].endpoints[7].address: bad `address`: \"70000\" is not a port from 1 to 65535 |…",
                "3:168 cluster[0].endpoints[8]: `address` is missing |…",
                "3:178 cluster[0].endpoints[8].priority: bad `priority`: 128 is out of range | an integer from 0 to 127 | -",
                "3:183 cluster[0].endpoints[9]: an element of `endpoints` must be a table, not an integer |…",
            ],
        );
        check_cluster(
            "endpoints=[]\nbalance='least-requests'\nconnect_timeout='0s'\npool={idle=-1,max_requests=0}\nprotocol='h3'\n",
            &[
                "4:9 cluster[0].balance: bad `balance`: \"least-requests\" is none of the accepted words | \"round-robin\", \"least-request\", \"peak-ewma\", \"random\", \"ring-hash\", \"maglev\" or { plugin = \"…\" } | did you mean \"least-request\"?",
                "5:17 cluster[0].connect_timeout: bad `connect_timeout`: \"0s\" is out of range |…",
                "6:12 cluster[0].pool.idle: bad `idle`: -1 is out of range |…",
                "6:28 cluster[0].pool.max_requests: bad `max_requests`: 0 is out of range | an integer from 1 to 1000000 | -",
                "7:10 cluster[0].protocol: bad `protocol`: \"h3\" is none of the accepted words | \"http1\", \"http2\" or \"auto\" | -",
            ],
        );
        check_cluster(
            "endpoints=[]\nzone_failover=['b']\noverprovisioning=0.5\nhash_balance_factor=100\n",
            &[
                "4:15 cluster[0].zone_failover: it comes after `zone`, and there is none |…",
                "5:18 cluster[0].overprovisioning: bad `overprovisioning`: 0.5 is out of range |…",
                "6:21 cluster[0].hash_balance_factor: bad `hash_balance_factor`: 100 is out of range |…",
            ],
        );
        for (balance, expected) in [
            ("1", "4:9 cluster[0].balance: `balance` must be a table, not an integer | \"round-robin\", …"),
            (
                "'leastconn'",
                "4:9 cluster[0].balance: bad `balance`: \"leastconn\" is none of the accepted words | \"round-robin\", \"least-request\", \"peak-ewma\", \"random\", \"ring-hash\", \"maglev\" or { plugin = \"…\" } | did you mean \"least-request\"?",
            ),
            (
                "'latency'",
                "4:9 cluster[0].balance: bad `balance`: \"latency\" is none of the accepted words | \"round-robin\", \"least-request\", \"peak-ewma\", \"random\", \"ring-hash\", \"maglev\" or { plugin = \"…\" } | did you mean { plugin = \"latency\" }?",
            ),
            (
                "{plugin='p',interval='2us'}",
                "4:30 cluster[0].balance.interval: bad `interval`: \"2us\" is out of range | a duration from \"10ms\" to \"1m\", such as \"250ms\" or \"2s\" | -",
            ),
            ("{}", "4:9 cluster[0].balance: `plugin` is missing |…"),
            ("{plugin='p',choices=3}", "4:29 cluster[0].balance.choices: `choices` belongs to `mode = \"pick\"` |…"),
            (
                "{plugin='p',mode='pick',choices=9}",
                "4:41 cluster[0].balance.choices: bad `choices`: 9 is out of range |…",
            ),
            ("{plugin='p',interval='2s'}", "4:9 cluster[0].balance: every table of scores would be stale…"),
            ("{plugin='p',fallback='p'}", "4:30 cluster[0].balance.fallback: bad `fallback`: \"p\" is none…"),
        ] {
            check_cluster(&format!("endpoints=[]\nbalance={balance}\n"), &[expected]);
        }
    }

    #[test]
    fn health() {
        let clustered = |keys: &str| format!("endpoints=[{{address='a:1'}}]\n{keys}\n");
        for (keys, expected) in [
            (
                "health={}",
                "4:8 cluster[0].health: nothing is asked of the endpoints | exactly one of `http` = { path = \"/healthz\" }, `tcp` = {} and `grpc` = {} | -",
            ),
            ("health={http={},tcp={}}", "4:8 cluster[0].health: `http` stands beside `tcp` |…"),
            ("health={grpc={},tcp={}}", "4:8 cluster[0].health: `tcp` stands beside `grpc` |…"),
            (
                "health={grpc={authority='a b'}}",
                "4:25 cluster[0].health.grpc.authority: bad `authority`: \"a b\" is not a host |…",
            ),
            (
                "health={http={path='x'}}",
                "4:20 cluster[0].health.http.path: bad `path`: \"x\" does not start with '/' |…",
            ),
            (
                "health={http={path='/a?b c'}}",
                "4:20 cluster[0].health.http.path: bad `path`: \"/a?b c\" has ' ' in it, which no query has |…",
            ),
            (
                "health={http={expect=[]}}",
                "4:22 cluster[0].health.http.expect: no status is expected, so every check fails |…",
            ),
            (
                "health={http={expect=['299-200']}}",
                "4:23 cluster[0].health.http.expect[0]: bad element of `expect`: \"299-200\" is not a range of statuses from 100 to 599 |…",
            ),
            (
                "health={http={drain=['503','299-300']}}",
                "4:28 cluster[0].health.http.drain[1]: bad element of `drain`: 299 is a status of a healthy endpoint | a status, or two with a hyphen between them | -",
            ),
            ("health={http={host='a/b'}}", "4:20 cluster[0].health.http.host: bad `host`: \"a/b\" is not a host |…"),
            ("health={tcp={expect=''}}", "4:21 cluster[0].health.tcp.expect: bad `expect`: it is 0 bytes long |…"),
            (
                "health={tcp={},rise=0}",
                "4:21 cluster[0].health.rise: bad `rise`: 0 is out of range | an integer from 1 to 1000 | -",
            ),
            ("outlier={latency={}}", "4:18 cluster[0].outlier.latency: `p99` is missing |…"),
            ("outlier={latency={p99='1us'}}", "4:23 cluster[0].outlier.latency.p99: bad `p99`: …"),
            (
                "outlier={max_ejection='1s'}",
                "4:23 cluster[0].outlier.max_ejection: bad `max_ejection`: \"1s\" is out of range | a duration from \"30s\" to \"8760h\", such as \"5m\" | -",
            ),
            (
                "outlier={success_rate={stdev_factor='2'}}",
                "4:37 cluster[0].outlier.success_rate.stdev_factor: `stdev_factor` must be a number, not a string | a number from 0.1 to 100 | -",
            ),
            ("slow_start={}", "4:12 cluster[0].slow_start: `window` is missing |…"),
            (
                "slow_start={window='30s',aggression=11}",
                "4:37 cluster[0].slow_start.aggression: bad `aggression`: 11 is out of range | a number from 0.1 to 10 | -",
            ),
            ("panic_percent=101", "4:15 cluster[0].panic_percent: bad `panic_percent`: 101 is out of range |…"),
        ] {
            check_cluster(&clustered(keys), &[expected]);
        }
    }

    #[test]
    fn plugins() {
        check_after_listener(
            "[[plugin]]\nname='../x'\n[[plugin]]\nname='p'\npath=''\nconfig={a=inf,b=[nan],c=99999999999999999999}\n\
             budget={time='0s',memory='512MiB'}\non_error='fail'\nisolation='none'\nquarantine={failures=0,back_off='2m'}\n[[plugin]]\nname='p'\nconfig=1\n",
            &[
                "2:6 plugin[0].name: bad `name`: \"../x\" is not a plugin name |…",
                "5:6 plugin[1].path: \"\" is not a path |…",
                "6:11 plugin[1].config.a: bad `a`: inf is not a finite number |…",
                "6:18 plugin[1].config.b[0]: bad element of `b`: nan is not a finite number |…",
                "6:25 plugin[1].config.c: bad `c`: 99999999999999999999 is out of range |…",
                "7:14 plugin[1].budget.time: bad `time`: \"0s\" is out of range | a duration from \"1ms\" to \"10s\", such as…",
                "7:26 plugin[1].budget.memory: 512MiB is more than `plugins.memory_ceiling` allows | at most 256MiB | -",
                "8:10 plugin[1].on_error: bad `on_error`: \"fail\" is none of the accepted words | \"fallback\" or \"reject\" | -",
                "9:11 plugin[1].isolation: bad `isolation`: …",
                "10:12 plugin[1].quarantine: `max_back_off` is shorter than `back_off` |…",
                "10:22 plugin[1].quarantine.failures: bad `failures`: 0 is out of range |…",
                "12:6 plugin[2].name: another plugin has the name \"p\" | - | the first is on line 7",
                "13:8 plugin[2].config: `config` must be a table, not an integer | any table | -",
            ],
        );
    }

    #[test]
    fn syntax() {
        // What is merely missing is not reported beside syntax errors, and other mistakes are.
        check(
            "[[listener]]\nname = web\nlisten = \n[[route]\nname='a'\n[[cluster]]\nname='c'\nname='d'\nconnect_timeout='x'\n",
            &[
                "2:8 : this is not a value | \"text\" in quotes, …",
                "3:10 : there is no value | \"text\" in quotes, …",
                "4:9 : unclosed array table | `]` | -",
                "8:1 : duplicate key | - | -",
                "9:17 cluster[0].connect_timeout: bad `connect_timeout`: \"x\" is not a duration |…",
            ],
        );
        // One open bracket does not make an error of each line after it.
        check(
            &format!(
                "{LISTENER}[[cluster]]\nname='c'\nendpoints = [ {{ address='a:1' }}\nbalance='x'\n[[plugin]]\nname='p'\n"
            ),
            &["6:13 : this `[` is never closed | a matching `]` | -"],
        );
        check("a = 'é\u{7}\\x", &["1:…"]);
    }

    #[test]
    fn long_lines_and_long_lists_are_cut() {
        let endpoints: Vec<String> = (0..2_000).map(|i| format!("{{ address = 'é{i}' }}")).collect();
        let errors = bad(&format!("{LISTENER}[[cluster]]\nname='c'\nendpoints=[{}]\n", endpoints.join(", ")));
        assert_eq!((errors.iter().count(), errors.count()), (1_000, 2_000));
        let text = errors.to_string();
        assert!(text.ends_with("\n… and 1000 more\n2000 errors"), "{}", &text[text.len() - 300..]);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest < 200, "{widest}");
    }
}

mod never_panics {
    use super::*;

    /// Parses, and prints what is wrong: neither may panic.
    fn survive(text: &str) {
        let errors = read(text).map(|parsed| parsed.warnings).unwrap_or_else(|errors| errors);
        assert!(errors.to_string().contains(char::is_numeric));
        for diagnostic in &errors {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&diagnostic.line), "{diagnostic:?} of {lines} lines:\n{text}");
        }
    }

    /// A generator of its own, so that a failure comes again: SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n as u64) as usize
        }
    }

    #[test]
    fn on_truncations() {
        for end in (0..=FULL.len()).filter(|end| FULL.is_char_boundary(*end)) {
            survive(&FULL[..end]);
            if end % 7 == 0 {
                survive(&FULL[end..]);
            }
        }
    }

    #[test]
    fn on_mutations() {
        const PIECES: [&str; 24] = [
            "[",
            "]",
            "{",
            "}",
            "[[",
            "]]",
            "=",
            ".",
            ",",
            "\"",
            "'",
            "'''",
            "\"\"\"",
            "\n",
            "\r",
            "\\",
            "#",
            "\u{0}",
            "é",
            "\u{feff}",
            "𐍈",
            "-1e999",
            "0x",
            "1979-05-27",
        ];
        let mut random = Random(2024);
        for _ in 0..4_000 {
            let mut bytes = FULL.as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(5) {
                    0 => bytes[at] = random.below(256) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
                    3 => drop(bytes.drain(at..(at + random.below(60)).min(bytes.len()))),
                    _ => {
                        let from = random.below(bytes.len());
                        let piece = bytes[from..(from + random.below(60)).min(bytes.len())].to_vec();
                        drop(bytes.splice(at..at, piece));
                    }
                }
            }
            survive(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn on_words_of_the_file_in_any_order() {
        let words: Vec<&str> = FULL.split_inclusive([' ', '\n']).collect();
        let mut random = Random(7);
        for _ in 0..500 {
            let text: String = (0..random.below(120)).map(|_| words[random.below(words.len())]).collect();
            survive(&text);
        }
    }

    #[test]
    fn on_deep_and_wide_text() {
        for n in [100, 10_000] {
            survive(&format!("{}=1", vec!["a"; n].join(".")));
            survive(&format!("[{}]", vec!["a"; n].join(".")));
            survive(&format!("a = {}", "[".repeat(n)));
            survive(&format!("a = {}", "{a=".repeat(n)));
            survive(&"[[listener]]\n".repeat(n));
            survive(&"é".repeat(n));
        }
    }
}
