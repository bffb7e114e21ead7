//! `witgate demo`, whose exit code says whether everything that it claims was true.

use std::process::{Command, Stdio};

#[test]
fn every_claim_of_the_demo_holds() {
    let _alone = crate::alone();
    let output = Command::new(env!("CARGO_BIN_EXE_witgate"))
        .args(["demo", "--users", "7000", "--plugins"])
        .arg(witgate_tests::root().join("target/plugins"))
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}\n{complained}");
    assert!(said.contains("0 failed"), "{said}");
}
