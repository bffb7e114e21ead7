#![no_main]

#[path = "../targets/cookies.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    target::check(bytes);
});
