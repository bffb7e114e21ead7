//! When requests in flight must be over: one clock a worker that ticks while there are any, in place of a timer a
//! request. A deadline is noticed up to a tick late. It must never end anything itself, but the connection of a client
//! that has stopped reading, which nothing else would notice.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::{sync::Notify, time::MissedTickBehavior};

use super::conn::{Conn, Signal};

/// How late a deadline may be noticed. Timeouts are a hundred times longer, and a tick with a thousand requests in
/// flight takes some microseconds.
const TICK: Duration = Duration::from_millis(10);

/// How long the clock goes on when nothing is in flight, so that single requests do not start and stop it.
const LINGER: u32 = 100;

/// How long after its deadline a request counts as stuck: where the client reads, its end was noticed long before.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How long after its deadline a stuck request takes its connection with it, whatever else is in flight there: a client
/// may ignore that it was asked to begin nothing new.
const CUT_AFTER: Duration = Duration::from_secs(10);

/// The deadlines of one worker's requests.
#[derive(Debug, Default)]
pub struct Deadlines {
    entries: RefCell<Slab<Entry>>,
    asleep: Cell<bool>,
    /// Requests in flight, with a deadline or without.
    busy: Cell<u32>,
    /// How late the last ticks were: the one before, and the smaller of that and the last.
    late: Cell<(Duration, Duration)>,
    awake: Notify,
}

#[derive(Debug)]
struct Entry {
    due: Instant,
    /// None where it only wakes.
    conn: Option<Rc<Conn>>,
    waker: Option<Waker>,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Pending,
    Passed,
    Stuck,
    Cut,
}

/// A deadline that is kept while this lives.
#[derive(Debug)]
pub struct Deadline {
    deadlines: Rc<Deadlines>,
    key: usize,
}

impl Deadlines {
    /// Has an eye on a request of `conn` that must be over at `due`.
    pub fn keep(self: &Rc<Self>, due: Instant, conn: &Rc<Conn>) -> Deadline {
        self.insert(due, Some(Rc::clone(conn)))
    }

    /// Wakes at `due`, and does no more.
    pub fn wake_at(self: &Rc<Self>, due: Instant) -> Deadline {
        self.insert(due, None)
    }

    fn insert(self: &Rc<Self>, due: Instant, conn: Option<Rc<Conn>>) -> Deadline {
        let key = self.entries.borrow_mut().insert(Entry { due, conn, waker: None, state: State::Pending });
        self.wake_up();
        Deadline { deadlines: Rc::clone(self), key }
    }

    fn wake_up(&self) {
        if self.asleep.replace(false) {
            self.awake.notify_one();
        }
    }

    /// A request has begun: while there is one it is known how far the worker is behind.
    pub fn enter(&self) {
        self.busy.set(self.busy.get() + 1);
        self.wake_up();
    }

    /// It has ended.
    pub fn leave(&self) {
        self.busy.set(self.busy.get().saturating_sub(1));
    }

    /// The clock. Never returns.
    pub async fn run(self: Rc<Self>) {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0;
        loop {
            let is_idle = self.busy.get() == 0 && self.entries.borrow().is_empty();
            idle = if is_idle { idle + 1 } else { 0 };
            if idle > LINGER {
                self.asleep.set(true);
                self.late.take();
                self.awake.notified().await;
                idle = 0;
                every.reset();
            }
            let due = every.tick().await;
            let (now, (last, _)) = (tokio::time::Instant::now(), self.late.get());
            let late = now.saturating_duration_since(due);
            self.late.set((late, late.min(last)));
            self.tick(now.into_std());
        }
    }

    /// How far the worker is behind with its work: how long what is to be done now waits for its turn. Twice in a row, as a
    /// process that was stopped for a while is late once and not behind.
    pub fn behind(&self) -> Duration {
        self.late.get().1
    }

    fn tick(&self, now: Instant) {
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            match (&entry.state, now.checked_duration_since(entry.due)) {
                (State::Pending, Some(_)) => {
                    entry.state = State::Passed;
                    if let Some(waker) = entry.waker.take() {
                        waker.wake();
                    }
                }
                (State::Passed, Some(late)) if late > STUCK_AFTER => {
                    if let Some(conn) = &entry.conn {
                        entry.state = State::Stuck;
                        conn.stuck();
                    }
                }
                (State::Stuck, Some(late)) if late > CUT_AFTER => {
                    entry.state = State::Cut;
                    entry.conn.iter().for_each(|conn| conn.ask(Signal::Kill));
                }
                _ => {}
            }
        }
    }
}

impl Deadline {
    /// Whether it has passed; where not, whoever polls is woken when it has.
    pub fn poll_passed(&self, cx: &Context<'_>) -> bool {
        let mut entries = self.deadlines.entries.borrow_mut();
        let Some(entry) = entries.get_mut(self.key) else { return false };
        if entry.state != State::Pending {
            return true;
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let entry = self.deadlines.entries.borrow_mut().try_remove(self.key);
        if let Some(Entry { state: State::Stuck | State::Cut, conn: Some(conn), .. }) = entry {
            conn.unstuck();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn conn(requests: usize) -> Rc<Conn> {
        let conn = Conn::new(0, "192.0.2.1:1".parse().unwrap(), false, 0);
        for _ in 0..requests {
            conn.begin();
        }
        conn
    }

    #[test]
    fn a_deadline_passes_once_and_wakes_who_waits() {
        let (deadlines, start) = (Rc::new(Deadlines::default()), Instant::now());
        let deadline = deadlines.keep(start + TICK, &conn(1));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        assert!(!deadline.poll_passed(&cx));
        deadlines.tick(start);
        assert!(!deadline.poll_passed(&cx));
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        deadlines.tick(start + TICK);
        deadlines.tick(start + TICK * 2);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(deadline.poll_passed(&cx));
        drop(deadline);
        assert!(deadlines.entries.borrow().is_empty());
    }

    #[test]
    fn a_stuck_stream_stops_new_ones_and_the_last_one_closes() {
        let (deadlines, start) = (Rc::new(Deadlines::default()), Instant::now());
        let conn = conn(2);
        let first = deadlines.keep(start, &conn);
        let second = deadlines.keep(start + TICK, &conn);
        let late = start + STUCK_AFTER + TICK / 2;
        (0..2).for_each(|_| deadlines.tick(late));
        assert_eq!(conn.signal(), Signal::Finish);
        (0..2).for_each(|_| deadlines.tick(late + TICK));
        assert_eq!(conn.signal(), Signal::Kill);
        drop((first, second));
    }

    #[test]
    fn a_stuck_stream_closes_in_the_end_whatever_else_there_is() {
        let (deadlines, start) = (Rc::new(Deadlines::default()), Instant::now());
        let conn = conn(2);
        let stuck = deadlines.keep(start, &conn);
        (0..3).for_each(|_| deadlines.tick(start + CUT_AFTER));
        assert_eq!(conn.signal(), Signal::Finish);
        deadlines.tick(start + CUT_AFTER + TICK);
        assert_eq!(conn.signal(), Signal::Kill);
        drop(stuck);
    }

    #[test]
    fn a_stream_that_ends_after_all_counts_no_longer() {
        let (deadlines, start) = (Rc::new(Deadlines::default()), Instant::now());
        let conn = conn(3);
        for _ in 0..2 {
            let deadline = deadlines.keep(start, &conn);
            (0..2).for_each(|_| deadlines.tick(start + STUCK_AFTER * 2));
            drop(deadline);
            conn.end();
            assert_eq!(conn.signal(), Signal::Finish);
        }
    }
}
