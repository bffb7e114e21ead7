//! The one background thread of an engine: makes instances in place of those that failed, and takes down what is no
//! longer used. Everything slow that a worker must never do is done here.

use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::plugin::Plugin;

/// Jobs that may wait. Beyond it a refill is not queued (the next call asks again) and garbage is dropped where it is.
const QUEUE: usize = 1024;

/// Anything whose destructor is slow.
pub(crate) trait Garbage: Send {}
impl<T: Send> Garbage for T {}

enum Job {
    Refill(Weak<Plugin>),
    Drop(Box<dyn Garbage>),
}

/// Hands jobs to the thread, which ends with its last handle.
pub(crate) struct Keeper(SyncSender<Job>);

impl Keeper {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (send, receive) = sync_channel(QUEUE);
        thread::Builder::new().name("witgate-keeper".into()).spawn(move || keep(&receive))?;
        Ok(Self(send))
    }

    /// Whether the job was taken.
    pub(crate) fn refill(&self, plugin: Weak<Plugin>) -> bool {
        self.0.try_send(Job::Refill(plugin)).is_ok()
    }

    /// Drops `garbage` on the thread, or here where the queue is full.
    pub(crate) fn discard(&self, garbage: Box<dyn Garbage>) {
        // A failed send hands the job back, and it is dropped with the error.
        let _ = self.0.try_send(Job::Drop(garbage));
    }
}

fn keep(jobs: &Receiver<Job>) {
    for job in jobs {
        match job {
            Job::Refill(plugin) => {
                if let Some(plugin) = plugin.upgrade() {
                    plugin.refill();
                }
            }
            Job::Drop(garbage) => drop(garbage),
        }
    }
}
