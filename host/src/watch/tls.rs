//! Follows the files of certificates and keys: what is written there, and settled, is used.

use std::{path::PathBuf, sync::Arc};

use super::config::LOOK;
use crate::{
    control::Control,
    drain::Phase,
    files::{self, Stamp},
    tls,
};

/// Runs until the proxy stops.
pub async fn run(control: Arc<Control>) {
    let mut phase = control.drain.watch();
    // What was read at the start may have been written over since: the first look compares what is in them.
    let (mut taken, mut seen) = (None, None);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
        }
        let files = tls::files(&control.live.load().config);
        let now: Vec<(PathBuf, Stamp)> = files.into_iter().map(|file| (file.clone(), files::stamp(&file))).collect();
        if now.is_empty() {
            continue;
        }
        // Whoever writes them may not be done: they are taken once they have not changed for a while.
        let settled = seen.as_ref() == Some(&now);
        seen = Some(now);
        if settled && taken != seen {
            taken.clone_from(&seen);
            let by = Arc::clone(&control);
            if let Err(error) = tokio::task::spawn_blocking(move || by.renew_tls()).await {
                tracing::error!(%error, "reading certificates broke off");
            }
        }
    }
}
