//! `[access_log]`.

use std::path::PathBuf;

use witgate_core::config::{LogFormat, LogPlace};

use super::{LISTENER, bad, check_after_listener, good};

#[test]
fn an_access_log_has_one_place_and_every_default() {
    let log = |text: &str| good(&format!("[access_log]\n{text}\n{LISTENER}")).access_log.expect("it is there");
    let json = log("path = 'access.log'");
    assert_eq!(json.to, LogPlace::File(PathBuf::from("/etc/witgate/access.log")));
    assert_eq!((json.format, json.sample, json.buffer), (LogFormat::Json, 1.0, 1 << 20));
    assert_eq!(log("path = 'stdout'").to, LogPlace::Stdout);
    assert_eq!(log("path = './stdout'").to, LogPlace::File(PathBuf::from("/etc/witgate/./stdout")));
    assert_eq!(log("syslog = 'unix:/dev/log'").to, LogPlace::Unix(PathBuf::from("/dev/log")));
    assert_eq!(log("syslog = 'udp://127.0.0.1:514'").to, LogPlace::Udp("127.0.0.1:514".parse().unwrap()));
}

#[test]
fn what_is_wrong_is_said_and_what_was_meant() {
    let fields = "\"json\", or text with fields in braces: `time`, `request_id`, `client`, …";
    check_after_listener(
        "[access_log]\npath='a'\nsyslog='unix:/dev/log'\nformat='{methdo}'\nsample=2\nbuffer='1KiB'\nlevel=1\n",
        &[
            "3:8 access_log.syslog: `path` and `syslog` are both there | one of the two | -",
            &format!("4:8 access_log.format: bad `format`: there is no field \"methdo\" | {fields}"),
            "5:8 access_log.sample: bad `sample`: 2 is out of range | a number from 0 to 1 | -",
            "6:8 access_log.buffer: bad `buffer`: \"1KiB\" is out of range | a size from \"64KiB\" to \"1GiB\", such as \"64KiB\" or \"16MiB\" | -",
            "7:1 access_log.level: unknown key \"level\" | `path`, `syslog`, `format`, `sample` or `buffer` | -",
        ],
    );
    check_after_listener(
        "[access_log]\n",
        &["1:1 access_log: there is neither `path` nor `syslog`, so lines go nowhere |…"],
    );
    check_after_listener(
        "[access_log]\nsyslog='tcp://127.0.0.1:1'\n",
        &[
            "2:8 access_log.syslog: bad `syslog`: \"tcp://127.0.0.1:1\" is neither | \"udp://IP:PORT\" or \"unix:PATH\", such as \"unix:/dev/log\" | -",
        ],
    );
    check_after_listener(
        "[access_log]\npath=1\n",
        &["2:6 access_log.path: `path` must be a string, not an integer |…"],
    );
    let bad = bad(&format!("{LISTENER}[access_log]\npath='a'\nformat='{{methdo}}'\n"));
    assert!(bad.to_string().contains("did you mean {method}?"), "{bad}");
}
