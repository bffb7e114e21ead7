//! `kill -9` at random moments of uploads, activations, rollbacks and starts, again and again in one state directory:
//! what was acknowledged is live afterwards, or what was being made live; it works, and nothing piles up.
//!
//! `WITGATE_CRASH_ROUNDS` says how often; otherwise it is 100 times, which takes some 12 s, and on a machine that needs
//! more than 40 s for them as many as it gets done by then, 30 at the least. `WITGATE_CRASH_SEED` repeats the choices of
//! a run that failed; which instruction a kill meets stays the machine's to choose.

use std::{
    collections::BTreeMap,
    env,
    hint::spin_loop,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use witgate_tests::{
    client::{Client, Response},
    origin::Origin,
};

use crate::process::{Room, STATUSES, Serving, admin_request, answering};

/// After that long, the rounds that were done are enough.
const PATIENCE: Duration = Duration::from_secs(40);
const LEAST_ROUNDS: u64 = 30;
/// Versions that the store keeps of a plugin, and artefacts that the cache keeps.
const KEPT: usize = 20;
const CACHED: usize = 64;

/// SplitMix64.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// What the operator knows: what was acknowledged, and what was asked for and not answered yet.
#[derive(Clone, Default, Debug)]
struct Ledger {
    /// Acknowledged versions, and the marker of their bytes.
    versions: BTreeMap<u64, u32>,
    live: Option<u64>,
    previous: Option<u64>,
    /// The marker of the bytes that are being uploaded.
    uploading: Option<u32>,
    /// What would be live if the change that is under way were acknowledged, as the status that is answered.
    becoming: Option<u16>,
    markers: u32,
}

fn status_of(marker: u32) -> u16 {
    STATUSES[marker as usize % STATUSES.len()]
}

impl Ledger {
    fn status(&self, version: Option<u64>) -> u16 {
        version.and_then(|version| self.versions.get(&version)).map_or(200, |marker| status_of(*marker))
    }

    fn make_live(&mut self, version: u64) {
        if self.live != Some(version) {
            self.previous = self.live.replace(version);
        }
    }
}

/// Asks for one change after the other until the connection breaks, and says which steps it has come to.
struct Operator {
    client: Client,
    token: String,
    ledger: Ledger,
    random: Random,
    steps: Arc<AtomicU64>,
}

impl Operator {
    fn start(serving: &Serving, ledger: &Ledger, random: &mut Random) -> (JoinHandle<Ledger>, Arc<AtomicU64>) {
        let steps = Arc::new(AtomicU64::new(0));
        let mut operator = Self {
            client: Client::connect(serving.admin()),
            token: serving.token.clone(),
            ledger: ledger.clone(),
            random: Random(random.next()),
            steps: Arc::clone(&steps),
        };
        let working = thread::spawn(move || {
            // Ends with the process at the other side.
            while operator.change().is_ok() {}
            operator.ledger
        });
        (working, steps)
    }

    fn step(&self) {
        self.steps.fetch_add(1, SeqCst);
    }

    fn change(&mut self) -> io::Result<()> {
        match self.random.below(10) {
            0..4 => self.upload(true),
            4 => self.upload(false),
            5 => self.upload_again(),
            6 => self.rollback(),
            _ => self.activate(),
        }
    }

    fn upload(&mut self, activate: bool) -> io::Result<()> {
        let marker = self.ledger.markers;
        self.ledger.markers += 1;
        self.ledger.uploading = Some(marker);
        self.ledger.becoming = activate.then(|| status_of(marker));
        let response = self.ask("PUT", &format!("?activate={activate}"), &answering(status_of(marker), marker))?;
        assert_eq!(response.status, 201, "{response:?}");
        let version = response.json()["version"].as_u64().expect("a version");
        assert_eq!(self.ledger.versions.insert(version, marker), None, "a version's number is never used twice");
        self.ledger.uploading = None;
        if activate {
            self.ledger.make_live(version);
        }
        self.done()
    }

    fn upload_again(&mut self) -> io::Result<()> {
        // One of the newest: older ones the store may have let go.
        let n = self.random.below(5) as usize;
        let Some((&version, &marker)) = self.ledger.versions.iter().rev().nth(n) else { return Ok(()) };
        self.ledger.becoming = Some(status_of(marker));
        let response = self.ask("PUT", "?activate=true", &answering(status_of(marker), marker))?;
        assert_eq!((response.status, response.json()["version"].as_u64()), (200, Some(version)), "{response:?}");
        self.ledger.make_live(version);
        self.done()
    }

    fn activate(&mut self) -> io::Result<()> {
        let n = self.random.below(5) as usize;
        let Some((&version, &marker)) = self.ledger.versions.iter().rev().nth(n) else { return Ok(()) };
        self.ledger.becoming = Some(status_of(marker));
        let response = self.ask("POST", "/activate", format!("{{\"version\": {version}}}").as_bytes())?;
        assert_eq!(response.status, 200, "{response:?}");
        self.ledger.make_live(version);
        self.done()
    }

    fn rollback(&mut self) -> io::Result<()> {
        let Some(previous) = self.ledger.previous else { return Ok(()) };
        self.ledger.becoming = Some(self.ledger.status(Some(previous)));
        let response = self.ask("POST", "/rollback", b"")?;
        assert_eq!((response.status, response.json()["active"].as_u64()), (200, Some(previous)), "{response:?}");
        self.ledger.make_live(previous);
        self.done()
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last line of what may fail")]
    fn done(&mut self) -> io::Result<()> {
        self.ledger.becoming = None;
        Ok(())
    }

    fn ask(&mut self, method: &str, call: &str, body: &[u8]) -> io::Result<Response> {
        let request = admin_request(&self.token, method, &format!("/v1/plugins/flip{call}"), body);
        for part in request.chunks(request.len().div_ceil(3)) {
            self.step();
            self.client.send(part)?;
        }
        self.step();
        let response = self.client.response(false)?;
        self.step();
        Ok(response)
    }
}

/// Steps of one change, as [`Operator::ask`] makes them.
const STEPS: u64 = 5;

/// Waits until `reached`, and says how many turns that took.
fn turns_until(mut reached: impl FnMut() -> bool) -> u64 {
    let mut turns = 0;
    while !reached() {
        turns += 1;
        spin_loop();
    }
    turns
}

fn spin(turns: u64) {
    let mut left = turns;
    turns_until(|| {
        left = left.saturating_sub(1);
        left == 0
    });
}

/// Starts it, and says how many turns that took.
fn start(room: &Room) -> (Serving, u64) {
    let serves = AtomicBool::new(false);
    thread::scope(|scope| {
        let child = room.spawn();
        let starting = scope.spawn(|| {
            let serving = room.outcome(child);
            serves.store(true, SeqCst);
            serving
        });
        let turns = turns_until(|| serves.load(SeqCst));
        let serving = starting.join().unwrap_or_else(|_| panic!("it does not start"));
        (serving.unwrap_or_else(|status| panic!("it does not serve: {status}\n{}", room.log())), turns)
    })
}

/// What must hold after every restart; the ledger is brought up to date with what was found.
fn verify(room: &Room, serving: &Serving, ledger: &mut Ledger) {
    let context = |ledger: &Ledger| format!("{ledger:?}\n{:?}\n{}", room.state_files(), room.log());
    let status = serving.status();
    let allowed = [Some(ledger.status(ledger.live)), ledger.becoming];
    assert!(allowed.contains(&Some(status)), "{status} is answered, allowed is {allowed:?}: {}", context(ledger));
    let shown = serving.call("GET", "/v1/plugins/flip", b"");
    if shown.status == 404 {
        assert!(ledger.versions.is_empty(), "the plugin is gone: {}", context(ledger));
        return;
    }
    let shown = shown.json();
    assert_eq!(shown["broken"], Value::Null, "{}", context(ledger));
    let listed = shown["versions"].as_array().expect("a list");
    let mut numbers: Vec<u64> = listed.iter().filter_map(|version| version["version"].as_u64()).collect();
    numbers.dedup();
    assert!(numbers.len() == listed.len() && listed.len() <= KEPT, "{shown}: {}", context(ledger));
    for version in ledger.versions.keys().rev().take(KEPT / 2) {
        assert!(numbers.contains(version), "version {version} is lost: {shown}: {}", context(ledger));
    }
    // What is there without having been acknowledged is the upload that was under way.
    let new: Vec<u64> = numbers.iter().copied().filter(|number| !ledger.versions.contains_key(number)).collect();
    match (new.as_slice(), ledger.uploading) {
        ([], _) => {}
        ([version], Some(marker)) => drop(ledger.versions.insert(*version, marker)),
        _ => panic!("versions {new:?} come from nowhere: {}", context(ledger)),
    }
    ledger.live = shown["active"].as_u64();
    ledger.previous = shown["previous"].as_u64();
    assert_eq!(status, ledger.status(ledger.live), "what is live is not what is answered: {}", context(ledger));
    (ledger.uploading, ledger.becoming) = (None, None);
    let files = room.state_files();
    let count = |end: &str| files.iter().filter(|file| file.ends_with(end)).count();
    assert_eq!((count(".tmp"), count(".wasm")), (0, listed.len()), "leftovers: {}", context(ledger));
    assert!(count(".cwasm") <= CACHED, "the cache grows: {}", context(ledger));
    assert!(files.len() <= KEPT + CACHED + 8, "something grows: {}", context(ledger));
}

#[test]
fn a_process_that_is_killed_at_any_moment_comes_back_with_what_was_acknowledged() {
    let _alone = crate::alone();
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let asked = number("WITGATE_CRASH_ROUNDS");
    let mut rounds = asked.unwrap_or(100);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
    let seed = number("WITGATE_CRASH_SEED").unwrap_or(now);
    eprintln!("WITGATE_CRASH_SEED={seed} WITGATE_CRASH_ROUNDS={rounds}");
    let mut random = Random(seed);
    let origin = Origin::named("origin");
    let room = Room::proxying(&origin, "");
    let mut ledger = Ledger::default();
    let (mut change_turns, mut start_turns) = (1, 1);
    let (mut changes, mut in_between) = (0, 0);
    let began = Instant::now();
    for round in 0..rounds {
        if asked.is_none() && round >= LEAST_ROUNDS && began.elapsed() > PATIENCE {
            rounds = round;
            break;
        }
        room.forget();
        let (serving, turns) = start(&room);
        start_turns = start_turns.max(turns);
        verify(&room, &serving, &mut ledger);
        let (operator, steps) = Operator::start(&serving, &ledger, &mut random);
        if round == 0 {
            // How long a change takes, in turns of the loop that waits for the moment of the kill.
            change_turns = turns_until(|| steps.load(SeqCst) >= 8 * STEPS) / 8;
        }
        let target = steps.load(SeqCst) + random.below(3 * STEPS);
        turns_until(|| steps.load(SeqCst) >= target);
        spin(random.below(change_turns));
        serving.kill();
        ledger = operator.join().unwrap_or_else(|_| panic!("round {round}: {}", room.log()));
        changes += steps.load(SeqCst) / STEPS;
        in_between += u64::from(ledger.uploading.is_some() || ledger.becoming.is_some());
        if round % 4 == 3 {
            // While it starts, that is, while it mends.
            let mut child = room.spawn();
            spin(random.below(start_turns));
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }
    eprintln!("{changes} changes; {in_between} of {rounds} kills met one; {} versions", ledger.versions.len());
    assert!(in_between * 4 > rounds, "too few kills ({in_between} of {rounds}) met a change");
    let serving = room.start();
    verify(&room, &serving, &mut ledger);
    serving.end();
}
