//! `[admin]`. Never invents a default: those are the model's.

use std::path::Path;

use super::{
    super::{
        model::{Admin, AdminListen},
        reader::{Table, Value},
        references::References,
        sink::Finding,
        value::{self, Bad},
    },
    MAX_LIST, MAX_UNIX_PATH, file_path, tls,
};

const HOSTS: &str = "names without a port, such as [\"admin.example.com\"]";

const TLS: &str = "{ cert = \"a.pem\", key = \"a.key\" }";

pub(super) fn admin<'a>(table: Option<Table<'a>>, base_dir: &Path, references: &mut References<'a>) -> Admin {
    let mut admin = Admin::default();
    admin.token_file = base_dir.join(&admin.token_file);
    let Some(table) = table else {
        return admin;
    };
    // None where it cannot be told.
    let mut is_unix = Some(false);
    if let Some(value) = table.take("listen") {
        let listen = listen(&value, base_dir);
        is_unix = listen.as_ref().map(|listen| matches!(listen, AdminListen::Unix(_)));
        admin.listen = listen.unwrap_or(admin.listen);
        references.admin = Some(value.spot);
    }
    if let Some(path) = table.take("token_file").and_then(|value| file_path(&value, base_dir)) {
        admin.token_file = path;
    }
    if let Some(value) = table.take("read_token_file") {
        admin.read_token_file = file_path(&value, base_dir);
        if admin.read_token_file.as_ref() == Some(&admin.token_file) {
            let finding = Finding::error(&value.spot, "this is `token_file`, which opens everything");
            value.report(finding.expected("another file"));
        }
    }
    let (mode, hosts) = (table.take("mode"), table.take("hosts"));
    if let (Some(value), Some(false)) = (&mode, is_unix) {
        let finding = Finding::error(&value.spot, "there is no file that could have it: `listen` is a TCP address");
        value.report(finding.expected("`mode` beside `listen = \"unix:PATH\"` only"));
    }
    if let (Some(value), Some(true)) = (&hosts, is_unix) {
        let finding = Finding::error(&value.spot, "nobody is asked for a name: `listen` is a Unix socket");
        value.report(finding.expected("`hosts` beside a TCP address only"));
    }
    if let Some(value) = &mode {
        admin.mode = file_mode(value).unwrap_or(admin.mode);
    }
    let hosts = hosts.and_then(|value| value.array(MAX_LIST, HOSTS)).unwrap_or_default();
    admin.hosts = hosts.iter().filter_map(host).collect();
    if let Some(table) = table.take("tls").and_then(|value| value.table(TLS)) {
        admin.tls = tls::admin(table, base_dir);
    }
    table.finish();
    admin
}

fn listen(value: &Value<'_>, base_dir: &Path) -> Option<AdminListen> {
    let expected = "an IP address and port, such as \"127.0.0.1:9901\", or \"unix:PATH\"";
    let Some(path) = value.string(expected)?.strip_prefix("unix:") else {
        return value.parse(expected, value::socket_address).map(AdminListen::Tcp);
    };
    let joined = base_dir.join(path);
    if path.is_empty() || path.contains('\0') || joined.as_os_str().len() > MAX_UNIX_PATH {
        let message = "this is not the path of a Unix socket";
        let expected =
            format!("\"unix:PATH\", PATH at most {MAX_UNIX_PATH} bytes with this file's directory before it");
        value.report(Finding::error(&value.spot, message).expected(expected));
        return None;
    }
    Some(AdminListen::Unix(joined))
}

/// Permission bits, as `chmod` has them.
fn file_mode(value: &Value<'_>) -> Option<u32> {
    let expected = "three octal digits after a 0, such as \"0600\" or \"0660\"";
    let mode = value.parse(expected, |text| {
        let bad = |what: &str| Bad::new(format!("{} {what}", value::quoted(text)));
        let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3);
        let mode = digits
            .filter(|digits| digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit)))
            .and_then(|digits| u32::from_str_radix(digits, 8).ok())
            .ok_or_else(|| bad("is no mode of a file"))?;
        if mode & 0o600 == 0o600 { Ok(mode) } else { Err(bad("keeps the owner out")) }
    })?;
    if mode & 0o002 != 0 {
        let message = "every user of this machine may connect; the token alone keeps them out";
        value.report(Finding::warning(&value.spot, message));
    }
    Some(mode)
}

fn host(value: &Value<'_>) -> Option<String> {
    value.parse(HOSTS, value::host_name).map(|name| name.trim_end_matches('.').to_owned())
}
