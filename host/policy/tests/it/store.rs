//! The plugin store: what it keeps, what it refuses, and what it makes of what a killed process or a bad disk left.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use witgate_policy::{Active, Store, StoreError};

fn open(dir: &Path) -> Store {
    Store::open(dir).unwrap_or_else(|e| panic!("{e}"))
}

fn active(store: &Store, name: &str) -> (Option<u32>, Option<u32>) {
    let Active { version, previous } = store.plugin(name).unwrap_or_else(|| panic!("no {name}")).active;
    (version, previous)
}

fn dir_of(dir: &Path, name: &str) -> PathBuf {
    dir.join("plugins").join(name)
}

fn wasm(store: &Store, dir: &Path, name: &str, version: u32) -> PathBuf {
    let plugin = store.plugin(name).expect("the plugin");
    let info = plugin.versions.iter().find(|v| v.version == version).expect("the version");
    dir_of(dir, name).join(format!("{}.wasm", info.sha256))
}

/// A store with versions 1 to 3 of "a", 3 active and 2 before it; closed again.
fn three(dir: &Path) {
    let store = open(dir);
    for (version, bytes) in [(1, "one"), (2, "two"), (3, "three")] {
        let put = store.put("a", bytes.as_bytes()).expect("stored");
        assert_eq!((put.version, put.existed), (version, false));
        store.activate("a", version).expect("activated");
    }
}

#[test]
fn versions_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let store = open(dir.path());
    assert!(store.notes().is_empty(), "{:?}", store.notes());
    assert_eq!(active(&store, "a"), (Some(3), Some(2)));
    assert_eq!(store.bytes("a", 1).expect("there"), b"one");
    let again = store.put("a", b"two").expect("stored");
    assert_eq!((again.version, again.existed), (2, true));
    let number = |name: &str, bytes: &str| store.number(name, &format!("{:x}", sha2::Sha256::digest(bytes)));
    assert_eq!((number("a", "two"), number("a", "four"), number("b", "two")), (2, 4, 1), "as `put` would say");
    assert_eq!(store.list().len(), 1);
    assert!(store.plugin("b").is_none());
}

#[test]
fn rollback_goes_back_and_comes_back() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let store = open(dir.path());
    assert_eq!(store.rollback("a").expect("rolled back"), 2);
    assert_eq!(active(&store, "a"), (Some(2), Some(3)));
    store.activate("a", 2).expect("already so");
    assert_eq!(active(&store, "a"), (Some(2), Some(3)), "to activate the active version changes nothing");
    assert_eq!(store.rollback("a").expect("rolled back"), 3);
    store.put("b", b"bytes").expect("stored");
    assert!(matches!(store.rollback("b"), Err(StoreError::NoPrevious(_))));
}

#[test]
fn what_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for name in ["", "../a", "a/b", "A", "-a", "_a", ".a", "a.b", "ä", "a b", "a\0", &"a".repeat(65)] {
        assert!(matches!(store.put(name, b"x"), Err(StoreError::Name(_))), "{name:?}");
    }
    for name in ["a", "0", "a-b_c9", &"a".repeat(64)] {
        store.put(name, b"x").unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let text = |result: Result<(), StoreError>| result.expect_err("refused").to_string();
    assert_eq!(text(store.activate("nope", 1)), "there is no plugin \"nope\"");
    assert_eq!(text(store.activate("a", 9)), "plugin \"a\" has no version 9; it has 1");
    store.activate("a", 1).expect("activated");
    assert!(text(store.remove_version("a", 1)).contains("is active; activate another first"));
    assert!(text(store.remove("nope")).contains("no plugin"));
}

#[test]
fn removal() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let store = open(dir.path());
    let two = wasm(&store, dir.path(), "a", 2);
    store.remove_version("a", 2).expect("removed");
    assert!(!two.exists());
    assert_eq!(active(&store, "a"), (Some(3), None));
    assert_eq!(store.put("a", b"two").expect("stored").version, 4, "a number is never used twice");
    store.remove("a").expect("removed");
    assert!(!dir_of(dir.path(), "a").exists());
    drop(store);
    assert!(open(dir.path()).list().is_empty());
}

#[test]
fn old_versions_make_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    for i in 0..30_u32 {
        store.put("a", &i.to_le_bytes()).expect("stored");
        if i == 2 || i == 4 {
            store.activate("a", i + 1).expect("activated");
        }
    }
    let versions: Vec<_> = store.plugin("a").expect("there").versions.iter().map(|v| v.version).collect();
    assert_eq!(versions.len(), 20, "{versions:?}");
    assert!([3, 5, 30].iter().all(|v| versions.contains(v)), "active, previous and newest stay: {versions:?}");
    assert_eq!(fs::read_dir(dir_of(dir.path(), "a")).expect("there").count(), 20 + 2);
}

#[test]
fn a_second_process_is_told_who_has_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let error = Store::open(dir.path()).expect_err("in use").to_string();
    let who = format!("in use by another witgate process (process {})", std::process::id());
    assert!(error.contains(&who), "{error}");
    drop(store);
    open(dir.path());
}

/// The directory goes from one process to the next without a moment in which a third one could have it.
#[test]
fn a_lock_that_is_lent_holds_until_both_have_let_go_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path());
    let put = first.put("a", b"one").expect("stored");
    let lock = dir.path().join("lock");
    fs::write(&lock, "1\n").expect("another process' number");
    let second = Store::open_lent(dir.path(), first.lend_lock().expect("a file")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(second.bytes("a", put.version).expect("it sees the same"), b"one");
    assert_eq!(fs::read_to_string(&lock).expect("there"), "1\n", "it has not signed yet");
    drop(first);
    second.sign().expect("signed");
    assert_eq!(fs::read_to_string(&lock).expect("there"), format!("{}\n", std::process::id()));
    Store::open(dir.path()).expect_err("the second has it");
    drop(second);
    open(dir.path());
}

#[test]
fn a_lock_of_another_directory_opens_nothing() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (first, lent) = (open(dir.path()), open(other.path()).lend_lock().expect("a file"));
    let error = Store::open_lent(dir.path(), lent).expect_err("in use").to_string();
    assert!(error.contains("in use by another witgate process"), "{error}");
    drop(first);
}

#[test]
fn the_file_last_taken_is_remembered() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    open(dir.path()).set_from_file("a", "abc").expect("noted");
    assert_eq!(open(dir.path()).plugin("a").expect("there").from_file.as_deref(), Some("abc"));
}

/// Damages a closed store of [`three`] and opens it: which versions are active then, and what it says.
#[track_caller]
fn mended(damage: impl FnOnce(&Path), expected: (Option<u32>, Option<u32>), says: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    damage(&dir_of(dir.path(), "a"));
    let store = open(dir.path());
    let notes = store.notes().join("\n");
    assert!(active(&store, "a") == expected && notes.contains(says), "{:?}, {notes}", active(&store, "a"));
    // Whatever was wrong is right now, and stays so.
    store.put("a", b"three").and_then(|put| store.activate("a", put.version)).expect("usable");
    drop(store);
    let store = open(dir.path());
    assert!(store.notes().is_empty(), "{:?}", store.notes());
    assert_eq!(store.bytes("a", active(&store, "a").0.expect("active")).expect("intact"), b"three");
    let left: Vec<_> =
        fs::read_dir(dir_of(dir.path(), "a")).expect("there").map(|e| e.expect("an entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

fn sha(bytes: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn what_a_killed_process_leaves() {
    mended(|dir| fs::write(dir.join("state.json.tmp"), b"{\"ver").expect("written"), (Some(3), Some(2)), "");
    mended(|dir| fs::write(dir.join(format!("{}.wasm.tmp", sha("x"))), b"x").expect("written"), (Some(3), Some(2)), "");
    mended(|dir| fs::write(dir.join(format!("{}.wasm", sha("x"))), b"x").expect("written"), (Some(3), Some(2)), "");
}

#[test]
fn what_a_bad_disk_leaves() {
    let of = |dir: &Path, bytes: &str| dir.join(format!("{}.wasm", sha(bytes)));
    mended(
        |dir| fs::write(of(dir, "three"), b"thr").expect("written"),
        (Some(2), None),
        "version 3 are lost or cut short",
    );
    mended(|dir| fs::write(of(dir, "three"), b"THREE").expect("written"), (Some(2), None), "version 2 is active again");
    mended(|dir| fs::remove_file(of(dir, "three")).expect("removed"), (Some(2), None), "version 2 is active again");
    mended(|dir| fs::remove_file(of(dir, "two")).expect("removed"), (Some(3), None), "version 2 are lost");
    let both = |dir: &Path| ["two", "three"].iter().for_each(|b| fs::remove_file(of(dir, b)).expect("removed"));
    mended(both, (None, None), "no version is active");
    let state = |dir: &Path| dir.join("state.json");
    // The state before the last change has 3 stored and 2 active.
    mended(
        |dir| fs::write(state(dir), b"").expect("written"),
        (Some(2), Some(1)),
        "the state before the last change is used",
    );
    mended(
        |dir| fs::write(state(dir), b"{\"versions\": 7}").expect("written"),
        (Some(2), Some(1)),
        "state.json is damaged",
    );
    mended(|dir| fs::remove_file(state(dir)).expect("removed"), (Some(2), Some(1)), "the state before");
    let every = |dir: &Path| {
        ["state.json", "state.json.before"].iter().for_each(|f| fs::write(dir.join(f), b"?").expect("written"))
    };
    mended(every, (None, None), "3 versions found, none active: activate one");
}

#[test]
fn a_state_that_is_no_file_is_never_waited_for() {
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    };
    let zero = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).expect("a link");
    let large = |path: &Path| fs::write(path, vec![b' '; 2 << 20]).expect("written");
    let dir = |path: &Path| {
        fs::create_dir(path).expect("made");
        fs::write(path.join("file"), b"").expect("written");
    };
    type Make = fn(&Path);
    let kinds: [(Make, &str); 4] =
        [(fifo, "no regular file"), (zero, "no regular file"), (dir, "no regular file"), (large, "larger than")];
    for (make, says) in kinds {
        let replaced = |files: &'static [&'static str]| {
            move |dir: &Path| {
                for file in files {
                    let _ = fs::remove_file(dir.join(file));
                    make(&dir.join(file));
                }
            }
        };
        mended(replaced(&["state.json"]), (Some(2), Some(1)), says);
        mended(replaced(&["state.json", "state.json.before"]), (None, None), "3 versions found, none active");
        mended(replaced(&["state.json.before", "state.json.damaged", "state.json.tmp"]), (Some(3), Some(2)), "");
        let three: &'static str = format!("{}.wasm", sha("three")).leak();
        mended(replaced(vec![three].leak()), (Some(2), None), "version 3 are lost or cut short");
    }
}

#[test]
fn a_state_that_is_lost_loses_no_version() {
    let both = |dir: &Path| {
        ["state.json", "state.json.before"].iter().for_each(|f| fs::remove_file(dir.join(f)).expect("removed"));
    };
    // A version that was stored last is not in the state before.
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    open(dir.path()).put("a", b"four").expect("stored");
    fs::write(dir_of(dir.path(), "a").join("state.json"), b"?").expect("written");
    let store = open(dir.path());
    assert_eq!((active(&store, "a"), store.bytes("a", 4).expect("kept")), ((Some(3), Some(2)), b"four".to_vec()));
    assert!(store.notes()[0].contains("the state before the last change is used"), "{:?}", store.notes());
    mended(both, (None, None), "state.json is lost (No such file or directory (os error 2)); 3 versions found");
}

#[test]
fn a_state_with_another_checksum_is_damaged() {
    let change = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let path = dir.join("state.json");
            let text = fs::read_to_string(&path).expect("readable");
            assert!(text.contains(from), "{text}");
            fs::write(&path, text.replace(from, to)).expect("written");
        }
    };
    for (from, to) in [
        ("\"active\": 3", "\"active\": 1"),
        ("\"last\": 3", "\"last\": 4294967295"),
        ("\"version\": 2", "\"version\": 9"),
        ("\"checksum\": \"", "\"checksum\": \"0"),
        ("\n}\n", "\n}"),
    ] {
        mended(change(from, to), (Some(2), Some(1)), "is damaged (its checksum is another); the state before");
    }
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let text = fs::read(dir_of(dir.path(), "a").join("state.json")).expect("readable");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON still, for whoever looks");
    assert_eq!((&json["state"]["active"], json["checksum"].as_str().map(str::len)), (&3.into(), Some(64)));
}

/// A state as it was written before there were checksums: versions 1 to 3 as of [`three`], 3 active and 2 before it.
fn of_the_first_form(dir: &Path, last: u32, versions: [u32; 3]) {
    let version = |(version, bytes): (u32, &str)| {
        format!(
            "{{\"version\": {version}, \"sha256\": \"{}\", \"size\": {}, \"stored_at\": 1}}",
            sha(bytes),
            bytes.len()
        )
    };
    let versions: Vec<_> = versions.into_iter().zip(["one", "two", "three"]).map(version).collect();
    let (versions, rest) = (versions.join(", "), "\"active\": 3, \"previous\": 2, \"from_file\": null");
    let text = format!("{{\"versions\": [{versions}], \"last\": {last}, {rest}}}");
    fs::write(dir.join("state.json"), text).expect("written");
}

#[test]
fn a_state_of_the_first_form_is_taken_and_rewritten() {
    mended(|dir| of_the_first_form(dir, 3, [1, 2, 3]), (Some(3), Some(2)), "");
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    of_the_first_form(&dir_of(dir.path(), "a"), 7, [1, 2, 3]);
    assert!(open(dir.path()).notes().is_empty());
    let text = fs::read_to_string(dir_of(dir.path(), "a").join("state.json")).expect("readable");
    assert!(text.contains("checksum") && text.contains("\"last\": 7"), "{text}");
    // What no store wrote is not taken from it.
    let strange = "its versions are none that this store wrote";
    mended(|dir| of_the_first_form(dir, 3, [1, 3, 3]), (Some(2), Some(1)), strange);
    mended(|dir| of_the_first_form(dir, 3, [0, 2, 3]), (Some(2), Some(1)), strange);
}

#[test]
fn a_last_number_that_cannot_be_is_mended() {
    for last in [0, 2, u32::MAX] {
        let dir = tempfile::tempdir().expect("a directory");
        three(dir.path());
        of_the_first_form(&dir_of(dir.path(), "a"), last, [1, 2, 3]);
        let store = open(dir.path());
        assert!(store.notes()[0].contains(&format!("cannot be {last}; it is taken to be 3")), "{:?}", store.notes());
        assert_eq!(active(&store, "a"), (Some(3), Some(2)));
        assert_eq!(store.put("a", b"four").expect("stored").version, 4, "after {last}");
    }
}

#[test]
fn one_that_cannot_be_mended_keeps_no_other_from_serving() {
    let root = tempfile::tempdir().expect("a directory");
    // Paths are at most 4,095 bytes: a damaged state in here has no room for the name under which it is kept.
    let mut dir = root.path().to_owned();
    let long = 4095 - "/plugins/a/state.json.before".len();
    while dir.as_os_str().len() < long {
        dir.push("d".repeat((long - dir.as_os_str().len() - 1).clamp(1, 200)));
    }
    let (a, b) = (dir_of(&dir, "a"), dir_of(&dir, "b"));
    [&a, &b].iter().for_each(|dir| fs::create_dir_all(dir).expect("made"));
    fs::write(a.join("state.json"), b"?").expect("written");
    fs::write(
        b.join("state.json"),
        br#"{"versions": [], "last": 7, "active": null, "previous": null, "from_file": null}"#,
    )
    .expect("written");
    let store = open(&dir);
    assert!(store.notes()[0].contains("plugin a: cannot be used"), "{:?}", store.notes());
    assert!(store.plugin("a").is_none() && store.number("b", "") == 8, "{:?}", store.list());
    let error = store.put("a", b"x").expect_err("refused").to_string();
    assert!(error.contains("its state could not be read at the start"), "{error}");
    assert_eq!(fs::read(a.join("state.json")).expect("readable"), b"?", "left as it was");
}

#[test]
fn an_upload_or_a_removal_that_had_not_ended_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let (half, removed) = (dir_of(dir.path(), "half"), dir_of(dir.path(), "b.removed"));
    fs::create_dir(&half).expect("made");
    fs::write(half.join(format!("{}.wasm.tmp", sha("x"))), b"x").expect("written");
    fs::create_dir(&removed).expect("made");
    fs::write(removed.join(format!("{}.wasm", sha("x"))), b"x").expect("written");
    let store = open(dir.path());
    assert!(!half.exists() && !removed.exists() && store.list().len() == 1);
    assert!(store.notes().len() == 2 && store.notes()[0].contains("had not ended"), "{:?}", store.notes());
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let stranger = dir.path().join("plugins").join("README");
    fs::write(&stranger, b"mine").expect("written");
    let store = open(dir.path());
    assert!(stranger.exists() && store.notes()[0].contains("left alone"), "{:?}", store.notes());
}

#[test]
fn damaged_bytes_are_never_handed_out_and_can_be_cured() {
    let dir = tempfile::tempdir().expect("a directory");
    three(dir.path());
    let store = open(dir.path());
    fs::write(wasm(&store, dir.path(), "a", 1), b"ONE").expect("written");
    assert!(matches!(store.bytes("a", 1), Err(StoreError::Damaged(_))));
    assert!(matches!(store.activate("a", 1), Err(StoreError::Damaged(_))));
    assert_eq!(active(&store, "a"), (Some(3), Some(2)));
    assert!(store.put("a", b"one").expect("stored").existed);
    store.activate("a", 1).expect("cured");
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, b"").expect("written");
    let error = Store::open(&file).expect_err("no directory").to_string();
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).expect("made");
    fs::write(taken.join("plugins"), b"").expect("written");
    let error = Store::open(&taken).expect_err("a file in the way").to_string();
    assert!(error.contains("plugins"), "{error}");
    // A plugin's directory that became a file: the upload fails, and nothing is changed.
    let store = open(dir.path());
    fs::write(dir_of(dir.path(), "a"), b"").expect("written");
    let error = store.put("a", b"x").expect_err("refused").to_string();
    assert!(error.contains("plugins/a") && store.plugin("a").is_none(), "{error}");
}
