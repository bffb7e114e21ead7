//! Follows the configuration's file: what is written there, and settled, becomes live, and so it does when somebody asks.
//! Never says anything about a file that has not changed.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    control::{Control, ControlError, Reloaded},
    drain::Phase,
    files,
};

/// How often the file is looked at. Its name is looked up each time, so that links and file systems of every kind will do.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Runs until the proxy stops.
pub async fn run(control: Arc<Control>) {
    let Some(file) = control.source.file.clone() else { return };
    let mut phase = control.drain.watch();
    // What was read at the start may have been written over since: the first look compares the text.
    let (mut taken, mut seen) = (None, None);
    loop {
        let asked = tokio::select! {
            () = control.reload_wanted.notified() => true,
            () = tokio::time::sleep(LOOK) => false,
            _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
        };
        // What is written during an upgrade is the next process', or is taken once that has failed.
        while control.is_frozen() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = phase.wait_for(|p| *p >= Phase::Stop) => return,
            }
        }
        let now = files::stamp(&file);
        // Whoever writes it may not be done: it is taken once it has not changed for a while.
        let settled = seen.replace(now) == Some(now);
        if asked || (settled && taken != Some(now)) {
            taken = reload(&control, &file, asked).await.then_some(now);
        }
    }
}

/// False where it has to be looked at once more.
async fn reload(control: &Arc<Control>, file: &Path, asked: bool) -> bool {
    let by = Arc::clone(control);
    match tokio::task::spawn_blocking(move || by.reload_file(asked)).await {
        Ok(Ok(Some(Reloaded { warnings, .. }))) => {
            for warning in &warnings {
                let (file, line, key) = (&warning.file, warning.line, &warning.key);
                tracing::warn!(file, line, key, "{}", warning.message);
            }
        }
        Ok(Ok(None)) => {}
        Ok(Err(ControlError::Invalid(diagnostics))) => {
            let errors = diagnostics.count();
            tracing::error!(file = %file.display(), errors, "the configuration is refused, the live one stays\n{diagnostics}");
        }
        Ok(Err(ControlError::Upgrading)) => return false,
        Ok(Err(error)) => tracing::error!(%error, "the configuration is refused, the live one stays"),
        Err(error) => tracing::error!(%error, "a reload broke off"),
    }
    true
}
