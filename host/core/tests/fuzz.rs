//! The targets of `fuzz/`, a little while each.

#[path = "../../../fuzz/targets/config.rs"]
mod config;
#[path = "../../../fuzz/targets/cookies.rs"]
mod cookies;
#[path = "../../../fuzz/driver.rs"]
mod driver;
#[path = "../../../fuzz/targets/matching.rs"]
mod matching;

#[test]
fn a_configuration_is_taken_or_told_what_is_wrong_with_it() {
    driver::run("config", config::check);
}

#[test]
fn a_cookie_is_what_a_simple_reader_finds() {
    driver::run("cookies", cookies::check);
}

#[test]
fn a_route_is_what_a_simple_reader_finds() {
    driver::run("matching", matching::check);
}
