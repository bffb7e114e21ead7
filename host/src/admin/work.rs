//! Changes, off the control thread: each runs on a blocking thread, is seen through even where the client goes away,
//! and is written down with who asked for it. Never more at once than there are permits.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::reply::ApiError;
use crate::control::{Control, ControlError};

/// Who changes what.
pub(super) struct Change {
    /// The other end of the connection.
    pub(super) peer: Arc<str>,
    /// `upload`, `activate`, `rollback` and `remove` of a plugin; `endpoints` of a cluster, `endpoint`.
    pub(super) what: &'static str,
    /// Its name.
    pub(super) of: String,
}

impl Change {
    /// Does it. `permit` is given back when the work has ended.
    pub(super) async fn run<T: std::fmt::Debug + Send + 'static>(
        self,
        control: &Arc<Control>,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&Control, &str) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let control = Arc::clone(control);
        let work = move || {
            let outcome = work(&control, &self.of);
            self.audit(&outcome);
            drop(permit);
            outcome
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome.map_err(ApiError::from),
            Err(error) => {
                tracing::error!(%error, "an admin change broke off");
                Err(ApiError::internal("the change broke off; the log says more"))
            }
        }
    }

    fn audit<T: std::fmt::Debug>(&self, outcome: &Result<T, ControlError>) {
        let (peer, change, of) = (&*self.peer, self.what, &*self.of);
        match outcome {
            Ok(done) => tracing::info!(target: "witgate::audit", peer, change, of, ?done, "changed"),
            Err(error) => tracing::warn!(target: "witgate::audit", peer, change, of, %error, "not changed"),
        }
    }
}
