//! The ticker, from inside: nothing outside shows whether it sleeps, and it goes to sleep a second after the last call.

use std::sync::mpsc;

use wasmtime::{Instance, Module, Store, Trap};

use super::*;

/// A call that never returns by itself.
const LOOP: &str = r#"(module (func (export "run") (loop (br 0))))"#;
/// What a test waits for on a machine that is busy with others. One that passes never waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Arms a deadline and loops; what came of it.
fn call(engine: &Engine) -> Option<Trap> {
    let module = Module::new(&engine.wasm, wat::parse_str(LOOP).expect("text")).expect("a module");
    let mut store = Store::new(&engine.wasm, ());
    let instance = Instance::new(&mut store, &module, &[]).expect("an instance");
    let run = instance.get_typed_func::<(), ()>(&mut store, "run").expect("a function");
    let budget = Duration::from_millis(2);
    store.set_epoch_deadline(1);
    engine.ticker.cover(Instant::now(), budget);
    run.call(&mut store, ()).err().and_then(|error| error.downcast_ref().copied())
}

#[test]
fn a_deadline_that_is_armed_while_the_ticker_sleeps_is_kept() {
    // Anew each time: an engine's ticker goes to sleep at once where nothing was armed yet. It does so at the very
    // moment that the call begins in some of them, which is the race that matters.
    for round in 0..50 {
        let engine = Engine::new(EngineOptions { max_instances: 2, ..EngineOptions::default() }).expect("an engine");
        let started = Instant::now();
        while !engine.ticker.asleep.load(Ordering::SeqCst) {
            assert!(started.elapsed() < PATIENCE, "round {round}: the ticker does not sleep");
            thread::yield_now();
        }
        let (done, ended) = mpsc::channel();
        let calling = Arc::clone(&engine);
        thread::spawn(move || done.send(call(&calling)));
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(Some(Trap::Interrupt)), "round {round}");
    }
}
