//! Slow start on live traffic: the share that an endpoint gets while it warms up, beside the formula. What was sent when is
//! measured, so that neither the machine's speed nor its pauses count.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use witgate_core::config;
use witgate_tests::{
    client::Client,
    origin::Origin,
    proxy::{self, Running},
};

const WINDOW: Duration = Duration::from_secs(6);
/// So many parts of the window are judged each by itself, where they have enough requests.
const SEGMENTS: u32 = 6;
const MIN_WEIGHT: f64 = 0.1;
/// Of the share that the formula gives.
const TOLERANCE: f64 = 0.1;
/// Weights of those that were there, and of the one that comes.
const THERE: [u32; 2] = [2, 3];
const COMES: u32 = 5;

/// Where a cluster is balanced, who asks it, and how sure its shares are.
struct Case {
    balance: &'static str,
    aggression: f64,
    clients: usize,
    /// Of each client, after a response: others are to get some of the machine, too.
    pause: Duration,
    /// Requests that the formula gives the new endpoint in a segment that is judged: as many as it takes for chance to stay
    /// far within the tolerance, where there is chance in it.
    requests: f64,
}

/// A request, by the least and the greatest share that the new endpoint may have had when it was picked for.
struct Asked {
    age: Duration,
    least: f64,
    most: f64,
    new: bool,
}

/// Envoy's formula: the part of its weight that an endpoint has at this age.
fn warmth(age: Duration, aggression: f64) -> f64 {
    (age.as_secs_f64() / WINDOW.as_secs_f64()).powf(1.0 / aggression).clamp(MIN_WEIGHT, 1.0)
}

fn share(age: Duration, aggression: f64) -> f64 {
    let weight = f64::from(COMES) * warmth(age, aggression);
    weight / (weight + f64::from(THERE.iter().sum::<u32>()))
}

fn endpoints(origins: &[&Origin]) -> Vec<config::Endpoint> {
    let weights = THERE.into_iter().chain([COMES]);
    let one = |(origin, weight): (&&Origin, u32)| config::Endpoint {
        address: origin.address.to_string(),
        weight,
        zone: None,
        priority: 0,
    };
    origins.iter().zip(weights).map(one).collect()
}

fn replace(running: &Running, origins: &[&Origin]) {
    let control = running.proxy.as_ref().expect("it runs").control();
    control.replace_endpoints("c", endpoints(origins)).expect("there is such a cluster");
}

/// Asks until it is told to stop: when each request was sent, when its response was there, and whether it was the new
/// endpoint's.
fn ask(running: &Running, pause: Duration, stop: &AtomicBool) -> Vec<(Instant, Instant, bool)> {
    let mut client = Client::connect(running.web());
    let mut asked = Vec::new();
    while !stop.load(SeqCst) {
        let sent = Instant::now();
        let response = client.get("/", "");
        assert_eq!(response.status, 200, "{response:?}");
        asked.push((sent, Instant::now(), response.body == "new"));
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    asked
}

/// Lets the last of the origins come to the cluster, and returns what was asked while it warmed up.
fn warm_up(running: &Running, origins: &[&Origin; 3], case: &Case) -> Vec<Asked> {
    replace(running, &origins[..2]);
    let stop = AtomicBool::new(false);
    let (came, asked) = thread::scope(|scope| {
        let clients: Vec<_> = (0..case.clients).map(|_| scope.spawn(|| ask(running, case.pause, &stop))).collect();
        // It comes at some moment of the call.
        let before = Instant::now();
        replace(running, &origins[..]);
        let came = (before, Instant::now());
        thread::sleep(WINDOW);
        stop.store(true, SeqCst);
        let asked: Vec<_> = clients.into_iter().flat_map(|client| client.join().expect("all were answered")).collect();
        (came, asked)
    });
    let (earliest, latest) = came;
    let within = asked.into_iter().filter(|(sent, received, _)| *sent >= latest && *received <= earliest + WINDOW);
    within
        .map(|(sent, received, new)| Asked {
            age: sent - latest,
            least: share(sent - latest, case.aggression),
            most: share(received - earliest, case.aggression),
            new,
        })
        .collect()
}

#[track_caller]
fn check(case: &Case) {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("new")];
    let origins = [&origins[0], &origins[1], &origins[2]];
    let list = endpoints(&origins[..2]);
    let list: Vec<_> =
        list.iter().map(|e| format!("{{ address = \"{}\", weight = {} }}", e.address, e.weight)).collect();
    let running = proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nbalance = \"{}\"\nendpoints = [{}]\n\
         slow_start = {{ window = \"{}s\", aggression = {:?}, min_weight_percent = 10 }}\n",
        case.balance,
        list.join(", "),
        WINDOW.as_secs(),
        case.aggression,
    ));
    let mut asked: Vec<Asked> = Vec::new();
    // A slow machine takes longer to ask often enough, and nothing else.
    while asked.iter().map(|a| a.least).sum::<f64>() < 3.0 * case.requests {
        asked.extend(warm_up(&running, &origins, case));
    }
    asked.sort_by_key(|a| a.age);
    let mut segment: Vec<&Asked> = Vec::new();
    let (mut formula, mut judged) = (0.0, 0);
    for (n, one) in asked.iter().enumerate() {
        segment.push(one);
        formula += one.least;
        let long = one.age - segment[0].age >= WINDOW / SEGMENTS || n + 1 == asked.len();
        // What is left at the end may be too little to say anything.
        if long && formula >= case.requests {
            compare(case, &segment);
            judged += 1;
            formula = 0.0;
            segment.clear();
        }
    }
    assert!(judged > 1, "{judged} segments of {} requests", asked.len());
}

#[track_caller]
fn compare(case: &Case, segment: &[&Asked]) {
    let got = segment.iter().filter(|a| a.new).count() as f64;
    let (least, most) = segment.iter().fold((0.0, 0.0), |(least, most), a| (least + a.least, most + a.most));
    let (begin, end) = (segment[0].age, segment[segment.len() - 1].age);
    assert!(
        got >= least * (1.0 - TOLERANCE) && got <= most * (1.0 + TOLERANCE),
        "{}, {begin:?} to {end:?}: {got} of {} requests, by the formula {least:.1} to {most:.1}",
        case.balance,
        segment.len()
    );
}

#[test]
fn round_robin_gives_an_endpoint_its_share_while_it_warms_up() {
    check(&Case {
        balance: "round-robin",
        aggression: 1.0,
        clients: 4,
        pause: Duration::from_millis(1),
        requests: 200.0,
    });
}

#[test]
fn a_root_is_followed_as_well() {
    check(&Case {
        balance: "round-robin",
        aggression: 2.0,
        clients: 4,
        pause: Duration::from_millis(1),
        requests: 200.0,
    });
}

/// One client, since least-request follows the weights where nothing is in flight.
#[test]
fn least_request_gives_an_endpoint_its_share_while_it_warms_up() {
    check(&Case { balance: "least-request", aggression: 1.0, clients: 1, pause: Duration::ZERO, requests: 2000.0 });
}
