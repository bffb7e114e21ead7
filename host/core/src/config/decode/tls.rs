//! `tls` of a listener, of the admin API and of a cluster.

use std::path::{Path, PathBuf};

use super::{
    super::{
        model::{Certificate, ClientAuth, ClientTls, Identity, ServerTls, TlsVersion},
        reader::{Table, Value},
        sink::Finding,
        value,
    },
    MAX_LIST, file_path,
};

/// Handshakes at once where the file is silent: some seconds of one core's work.
const DEFAULT_MAX_HANDSHAKES: u32 = 1_000;

const CERTIFICATES: &str = "[{ cert = \"a.pem\", key = \"a.key\" }]";

/// A listener's.
pub(super) fn server(table: Table<'_>, base_dir: &Path) -> Option<ServerTls> {
    let found = table.require("certificates", CERTIFICATES);
    let certificates = found.as_ref().and_then(|value| value.array(MAX_LIST, CERTIFICATES)).map(|items| {
        let certificates: Vec<_> = items.iter().map(|item| certificate(item, base_dir)).collect();
        if let (true, Some(value)) = (certificates.is_empty(), &found) {
            value.report(
                Finding::error(&value.spot, "there is none, so that nobody could be answered").expected(CERTIFICATES),
            );
        }
        certificates
    });
    let client_ca = path(&table, "client_ca", base_dir);
    let client_auth = table.take("client_auth");
    if let (Some(value), None) = (&client_auth, &client_ca) {
        let finding = Finding::error(&value.spot, "nobody's certificate could be verified: there is no `client_ca`");
        value.report(finding.expected("`client_ca` beside it"));
    }
    let words = [("require", ClientAuth::Require), ("optional", ClientAuth::Optional)];
    let client_auth = client_auth.and_then(|value| value.word(&words)).unwrap_or_default();
    let versions = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
    let min_version = table.take("min_version").and_then(|value| value.word(&versions)).unwrap_or_default();
    let most = table.take("max_handshakes").and_then(|value| value.integer(1..=1_000_000_u32));
    let max_handshakes = most.unwrap_or(DEFAULT_MAX_HANDSHAKES);
    table.finish();
    let certificates = certificates?.into_iter().collect::<Option<Vec<_>>>()?;
    Some(ServerTls { certificates, client_ca, client_auth, min_version, max_handshakes })
}

/// The admin API's: one certificate, and where clients' can be verified, they must show one.
pub(super) fn admin(table: Table<'_>, base_dir: &Path) -> Option<ServerTls> {
    let required = |key| table.require(key, "\"…\"").and_then(|value| file_path(&value, base_dir));
    let (cert, key) = (required("cert"), required("key"));
    let client_ca = path(&table, "client_ca", base_dir);
    table.finish();
    Some(ServerTls {
        certificates: vec![Certificate { cert: cert?, key: key?, ocsp: None }],
        client_ca,
        client_auth: ClientAuth::Require,
        min_version: TlsVersion::default(),
        max_handshakes: DEFAULT_MAX_HANDSHAKES,
    })
}

fn certificate(value: &Value<'_>, base_dir: &Path) -> Option<Certificate> {
    let table = value.table("{ cert = \"a.pem\", key = \"a.key\" }")?;
    let required = |key| table.require(key, "\"…\"").and_then(|value| file_path(&value, base_dir));
    let (cert, key) = (required("cert"), required("key"));
    let ocsp = path(&table, "ocsp", base_dir);
    table.finish();
    Some(Certificate { cert: cert?, key: key?, ocsp })
}

/// A cluster's.
pub(super) fn client(table: Table<'_>, base_dir: &Path) -> ClientTls {
    let sni = table.take("sni").and_then(|value| value.parse("a DNS name or an IP address", value::host_name));
    let ca = path(&table, "ca", base_dir);
    let (cert, key) = (table.take("cert"), table.take("key"));
    for (one, there, other) in [("cert", &cert, (&key, "key")), ("key", &key, (&cert, "cert"))] {
        if let (Some(value), (None, missing)) = (there, other) {
            let finding = Finding::error(&value.spot, format!("`{one}` is of no use without `{missing}`"));
            value.report(finding.expected(format!("`{missing}` beside it")));
        }
    }
    let file = |value: Option<Value<'_>>| value.and_then(|value| file_path(&value, base_dir));
    let identity = file(cert).zip(file(key)).map(|(cert, key)| Identity { cert, key });
    let verify = table.take("verify");
    if let (Some(value), Some(_)) = (&verify, &ca)
        && value.boolean() == Some(false)
    {
        let finding = Finding::error(&value.spot, "`ca` says whom to trust, and this that nothing is verified");
        value.report(finding.expected("one of the two"));
    }
    let verify = verify.and_then(|value| value.boolean()).unwrap_or(true);
    table.finish();
    ClientTls { sni, ca, identity, verify }
}

fn path(table: &Table<'_>, key: &'static str, base_dir: &Path) -> Option<PathBuf> {
    table.take(key).and_then(|value| file_path(&value, base_dir))
}
