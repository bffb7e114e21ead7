//! What is made once: certificates to take turns with, and plugins that behave and that do not.

use std::fs;
use std::io;
use std::path::Path;

use witgate_tests::tls::Authority;

use crate::fixtures::{Fixture, LOOP, TRAP};

/// The year in which the first certificate ends; each of the others a year later.
const FIRST_YEAR: i32 = 2100;
const CERTIFICATES: i32 = 8;

pub(crate) fn all(dir: &Path) -> io::Result<()> {
    let authority = Authority::new("soak");
    fs::write(dir.join("authority.pem"), authority.pem())?;
    for number in 0..CERTIFICATES {
        let pair = authority.issue_until(FIRST_YEAR + number, "soak", &["localhost"]);
        pair.write(dir, &format!("pair-{number}"));
    }
    let router = || Fixture::new(&["router"]);
    let plugins = [
        ("honest-0", router()),
        ("honest-1", router().marker(1)),
        ("trap", router().live("route", TRAP)),
        ("loop", router().live("route", LOOP)),
        ("refused", router().always("route", TRAP)),
    ];
    for (name, plugin) in plugins {
        fs::write(dir.join(format!("{name}.wasm")), plugin.build())?;
    }
    Ok(())
}
