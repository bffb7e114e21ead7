//! State directories as a killed process or a bad disk leaves them: the proxy starts, serves the best that is there,
//! says what was mended, and leaves nothing behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use witgate_tests::origin::Origin;

use crate::process::{Room, answering};

/// A room in which version 1 (250) was live before version 2 (251), which is; nothing runs there.
fn used(origin: &Origin) -> Room {
    let room = Room::proxying(origin, "");
    let serving = room.start();
    serving.upload("flip", &answering(250, 0));
    serving.upload("flip", &answering(251, 0));
    assert_eq!(serving.status(), 251);
    serving.end();
    room.forget();
    room
}

/// The stored file of a version, by what it answers.
fn wasm(room: &Room, status: u16) -> PathBuf {
    let bytes = answering(status, 0);
    let files = fs::read_dir(room.path("state/plugins/flip")).expect("the plugin's directory");
    let mut paths = files.map(|entry| entry.expect("an entry").path());
    paths.find(|path| fs::read(path).is_ok_and(|read| read == bytes)).expect("the version is stored")
}

fn cut(path: &Path) {
    let bytes = fs::read(path).expect("the file is there");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("the file is written");
}

fn artefacts(room: &Room) -> Vec<PathBuf> {
    let files = fs::read_dir(room.path("state/cache")).expect("the cache");
    files.map(|entry| entry.expect("an entry").path()).collect()
}

/// Damages, starts, and expects that status, words in the log (none: no word of mending), and no unfinished file. What
/// was mended once is not mended again.
#[track_caller]
fn check(what: &str, damage: impl FnOnce(&Room), status: u16, said: &[&str]) {
    let origin = Origin::named("origin");
    let room = used(&origin);
    damage(&room);
    let serving = room.start();
    assert_eq!(serving.status(), status, "{what}: {}", room.log());
    for part in said {
        assert!(room.log().contains(part), "{what}: {part:?} is not in {}", room.log());
    }
    if said.is_empty() {
        assert!(!room.log().contains("WARN") && !room.log().contains("ERROR"), "{what}: {}", room.log());
    }
    let leftovers: Vec<String> = room.state_files().into_iter().filter(|file| file.contains(".tmp")).collect();
    assert!(leftovers.is_empty(), "{what}: {leftovers:?}");
    // It works on, and the next start has nothing to mend.
    serving.upload("flip", &answering(252, 0));
    assert_eq!(serving.status(), 252, "{what}");
    serving.end();
    room.forget();
    let serving = room.start();
    assert_eq!(serving.status(), 252, "{what}: {}", room.log());
    assert!(!room.log().contains("mended"), "{what}, again: {}", room.log());
}

#[test]
fn nothing_to_mend_is_nothing_said() {
    check("nothing", |_| {}, 251, &[]);
}

#[test]
fn unfinished_writes_are_removed() {
    let unfinished = |room: &Room| {
        let dir = room.path("state/plugins/flip");
        fs::write(dir.join("state.json.tmp"), "{\"versions\": [").unwrap();
        fs::write(dir.join(format!("{}.wasm.tmp", "0".repeat(64))), "\0asm").unwrap();
        fs::write(dir.join(format!("{}.wasm", "1".repeat(64))), "bytes that no state names").unwrap();
        fs::write(room.path("state/cache/0123.4567.tmp"), "witgate1 and half of an artefact").unwrap();
    };
    check("unfinished writes", unfinished, 251, &[]);
    let upload = |room: &Room| {
        fs::create_dir(room.path("state/plugins/young")).unwrap();
        fs::write(room.path("state/plugins/young/0.wasm.tmp"), "\0asm").unwrap();
    };
    check("a first upload that was killed", upload, 251, &["plugin young", "had not ended"]);
}

#[test]
fn damaged_modules_give_way_to_the_version_before() {
    let flip = |room: &Room| {
        let path = wasm(room, 251);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    };
    check("the live module is cut", |room| cut(&wasm(room, 251)), 250, &["version 2", "version 1 is active again"]);
    check("a bit of the live module is flipped", flip, 250, &["version 2", "damaged", "version 1 is active again"]);
    let lost = |room: &Room| fs::remove_file(wasm(room, 251)).unwrap();
    check("the live module is lost", lost, 250, &["version 2", "lost", "version 1 is active again"]);
    check("the one before is cut", |room| cut(&wasm(room, 250)), 251, &["version 1", "cut short"]);
    let both = |room: &Room| [250, 251].into_iter().for_each(|status| cut(&wasm(room, status)));
    check("both are cut", both, 200, &["version 2", "no version is active"]);
}

#[test]
fn a_damaged_state_is_read_from_what_is_left() {
    let state = |room: &Room| room.path("state/plugins/flip/state.json");
    // The change before was the activation of version 2: before it, version 1 was live.
    check("the state is cut", |room| cut(&state(room)), 250, &["state.json is damaged", "before the last change"]);
    check("the state is empty", |room| fs::write(state(room), "").unwrap(), 250, &["state.json is damaged"]);
    let both = |room: &Room| {
        fs::write(state(room), "null").unwrap();
        fs::remove_file(room.path("state/plugins/flip/state.json.before")).unwrap();
    };
    check("no state is left", both, 200, &["2 versions found", "activate one"]);
}

#[test]
fn compiled_artefacts_are_compiled_anew_where_they_are_not_ours() {
    let tampered = |room: &Room| {
        for path in artefacts(room) {
            let mut bytes = fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    };
    check("a bit of each artefact is flipped", tampered, 251, &["damaged or was tampered with", "compiling anew"]);
    let cut_all = |room: &Room| artefacts(room).iter().for_each(|path| cut(path));
    check("each artefact is cut", cut_all, 251, &["compiling anew"]);
    let emptied = |room: &Room| artefacts(room).iter().for_each(|path| fs::write(path, "").unwrap());
    check("each artefact is empty", emptied, 251, &["compiling anew"]);
    let swapped = |room: &Room| {
        let [a, b, ..] = artefacts(room).try_into().map(|two: [PathBuf; 2]| two).unwrap();
        let aside = a.with_extension("aside");
        fs::rename(&a, &aside).unwrap();
        fs::rename(&b, &a).unwrap();
        fs::rename(&aside, &b).unwrap();
    };
    check("one version's artefact under another's name", swapped, 251, &["compiling anew"]);
    check("no cache", |room| fs::remove_dir_all(room.path("state/cache")).unwrap(), 251, &[]);
    let no_cache = |room: &Room| {
        fs::remove_dir_all(room.path("state/cache")).unwrap();
        fs::write(room.path("state/cache"), "a file").unwrap();
    };
    check("a file where the cache should be", no_cache, 251, &["artefact cannot be kept"]);
}

#[test]
fn keys_are_made_anew_where_they_are_lost() {
    check("no cookie key", |room| fs::remove_file(room.path("state/cookie.key")).unwrap(), 251, &[]);
    let no_key = |room: &Room| fs::remove_file(room.path("state/artifact.key")).unwrap();
    check("no artefact key", no_key, 251, &["compiling anew"]);
    // What a kill between making the file and writing it leaves. Nothing but compiled code hangs on it.
    let empty = |room: &Room| fs::write(room.path("state/artifact.key"), "").unwrap();
    check("an empty artefact key", empty, 251, &["artifact.key", "compiling anew"]);
    check("no token", |room| fs::remove_file(room.path("admin.token")).unwrap(), 251, &[]);
}

#[test]
fn what_is_not_the_stores_is_left_alone_and_said() {
    let origin = Origin::named("origin");
    let room = used(&origin);
    fs::write(room.path("state/plugins/README"), "mine").unwrap();
    fs::create_dir(room.path("state/plugins/No Plugin")).unwrap();
    fs::write(room.path("state/plugins/No Plugin/a"), "mine").unwrap();
    // A process that was killed leaves its number in the lock's file, and another may have that number now.
    fs::write(room.path("state/lock"), "1\n").unwrap();
    let serving = room.start();
    assert_eq!(serving.status(), 251);
    for name in ["README", "No Plugin"] {
        assert!(room.log().contains(name) && room.log().contains("left alone"), "{}", room.log());
    }
    assert_eq!(fs::read(room.path("state/plugins/README")).unwrap(), b"mine");
    assert_eq!(fs::read(room.path("state/plugins/No Plugin/a")).unwrap(), b"mine");
}
