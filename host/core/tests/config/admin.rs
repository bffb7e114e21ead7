//! `[admin]`.

use std::path::PathBuf;

use witgate_core::config::{Admin, ClientAuth};

use super::{LISTENER, check_after_listener, good, read};

fn admin(text: &str) -> Admin {
    good(&format!("[admin]\n{text}\n{LISTENER}")).admin
}

#[test]
fn what_is_not_said_is_closed() {
    let admin = admin("");
    assert_eq!((admin.mode, admin.read_token_file, admin.tls), (0o600, None, None));
    assert!(admin.hosts.is_empty());
}

#[test]
fn who_may_connect_and_by_which_names() {
    assert_eq!(admin("listen = 'unix:a.sock'\nmode = '0660'").mode, 0o660);
    assert_eq!(admin("hosts = ['Admin.Example.com', 'a.test.']").hosts, ["admin.example.com", "a.test"]);
    let read_token = admin("read_token_file = 'read.token'").read_token_file;
    assert_eq!(read_token, Some(PathBuf::from("/etc/witgate/read.token")));
    let tls = admin("tls = { cert = 'a.pem', key = 'a.key', client_ca = 'ca.pem' }").tls.expect("it is there");
    assert_eq!(tls.certificates[0].cert, PathBuf::from("/etc/witgate/a.pem"));
    assert_eq!((tls.client_auth, tls.client_ca), (ClientAuth::Require, Some("/etc/witgate/ca.pem".into())));
}

#[test]
fn a_socket_for_everybody_is_a_warning() {
    let text = format!("[admin]\nlisten = 'unix:a.sock'\nmode = '0666'\n{LISTENER}");
    let warnings = read(&text).unwrap_or_else(|errors| panic!("{errors}")).warnings.to_string();
    assert!(warnings.contains("admin.mode") && warnings.contains("every user of this machine"), "{warnings}");
}

#[test]
fn what_does_not_hold_together() {
    check_after_listener(
        "[admin]\nmode='0600'\nhosts=['a:1']\nread_token_file='admin.token'\ntls={cert='a',client_auth='optional'}\n",
        &[
            "2:6 admin.mode: there is no file that could have it: `listen` is a TCP address | `mode` beside `listen = \"unix:PATH\"` only | -",
            "3:8 admin.hosts[0]: bad element of `hosts`: \"a:1\" is not a host name: \"a:1\" is not a label | names without a port, such as [\"admin.example.com\"] | -",
            "4:17 admin.read_token_file: this is `token_file`, which opens everything | another file | -",
            "5:5 admin.tls: `key` is missing | `key` = \"…\" | -",
            "5:15 admin.tls.client_auth: unknown key \"client_auth\" | `cert`, `key` or `client_ca` |…",
        ],
    );
    check_after_listener(
        "[admin]\nlisten='unix:a'\nmode='660'\nhosts=[]\n",
        &[
            "3:6 admin.mode: bad `mode`: \"660\" is no mode of a file | three octal digits after a 0, such as \"0600\" or \"0660\" | -",
            "4:7 admin.hosts: nobody is asked for a name: `listen` is a Unix socket | `hosts` beside a TCP address only | -",
        ],
    );
    for (mode, part) in [("0060", "keeps the owner out"), ("0800", "no mode"), ("01600", "no mode"), ("", "no mode")] {
        let text = format!("[admin]\nlisten='unix:a'\nmode='{mode}'\n{LISTENER}");
        let error = read(&text).expect_err(mode).to_string();
        assert!(error.contains(part), "{error}");
    }
}
