//! Compiled artefacts: kept, found, and never loaded when they are not what this proxy wrote.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::fixtures::Fixture;
use witgate_policy::{CacheOptions, Engine, EngineOptions, Plugin, Settings, Stage};

fn engine(dir: &Path, key: [u8; 32]) -> Arc<Engine> {
    let cache = Some(CacheOptions { dir: dir.join("cache"), key });
    Engine::new(EngineOptions { max_instances: 8, cache, ..EngineOptions::default() }).expect("an engine")
}

/// Loads with a fresh engine, as after a restart; whether it was compiled.
fn load(dir: &Path, module: &[u8]) -> bool {
    load_with([7; 32], dir, module)
}

fn load_with(key: [u8; 32], dir: &Path, module: &[u8]) -> bool {
    let (engine, stages) = (engine(dir, key), std::cell::RefCell::new(Vec::new()));
    let code = engine.load(module, &|stage| stages.borrow_mut().push(stage)).expect("loads");
    let compiled = stages.borrow().contains(&Stage::Compile);
    assert_eq!(code.from_cache, !compiled);
    Plugin::admit(&engine, code, Settings::default(), &|_| ()).expect("admitted");
    compiled
}

fn artefact(dir: &Path) -> PathBuf {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("cache")).expect("a cache").map(|e| e.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn a_second_start_compiles_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = Fixture::new(&["splitter"]).build();
    assert!(load(dir.path(), &module));
    assert!(!load(dir.path(), &module));
    let mode = fs::metadata(artefact(dir.path())).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_was_tampered_with_is_compiled_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let (module, other) = (Fixture::new(&["splitter"]).build(), Fixture::new(&["router"]).build());
    assert!(load(dir.path(), &module));
    let path = artefact(dir.path());
    let honest = fs::read(&path).expect("readable");
    for (what, at) in
        [("magic", 0), ("tag", 10), ("first byte", 40), ("middle", honest.len() / 2), ("end", honest.len() - 1)]
    {
        let mut bytes = honest.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).expect("writable");
        assert!(load(dir.path(), &module), "{what} was changed");
        assert!(!load(dir.path(), &module), "it was replaced after {what} was changed");
    }
    for (what, bytes) in
        [("cut short", &honest[..honest.len() - 9]), ("empty", &honest[..0]), ("only a head", &honest[..40])]
    {
        fs::write(&path, bytes).expect("writable");
        assert!(load(dir.path(), &module), "{what}");
    }
    // An authentic artefact under another module's name.
    fs::remove_file(&path).expect("removable");
    assert!(load(dir.path(), &other));
    let of_other = artefact(dir.path());
    fs::rename(&of_other, &path).expect("renamable");
    assert!(load(dir.path(), &module), "another module's artefact");
    assert!(load_with([8; 32], dir.path(), &module), "another key");
}

#[test]
fn unfinished_artefacts_of_killed_processes_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = Fixture::new(&["splitter"]).build();
    assert!(load(dir.path(), &module));
    let kept = artefact(dir.path());
    fs::write(kept.with_extension("1234.tmp"), b"half").expect("writable");
    assert!(!load(dir.path(), &module), "the finished one is used");
    assert_eq!(artefact(dir.path()), kept, "and is alone");
}

#[test]
fn an_artefact_that_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = Fixture::new(&["splitter"]).build();
    assert!(load(dir.path(), &module));
    let path = artefact(dir.path());
    fs::remove_file(&path).expect("removable");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    assert!(load(dir.path(), &module), "compiled");
    assert!(!load(dir.path(), &module), "and kept in its place");
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_time() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("cache"), b"a file where the directory should be").expect("writable");
    let module = Fixture::new(&["splitter"]).build();
    assert!(load(dir.path(), &module));
    assert!(load(dir.path(), &module));
}
