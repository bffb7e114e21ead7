//! Changes, off the control thread: each runs on a blocking thread, is seen through even where the client goes away,
//! and is written down with who asked for it. Never more at once than there are permits.

use std::{fmt::Debug, sync::Arc};

use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    audit::{self, Asked, Caller, Came},
    reply::ApiError,
};
use crate::control::{Control, ControlError, EndpointChange, Reloaded, Uploaded};

/// Who changes what.
pub(super) struct Change {
    pub(super) caller: Caller,
    pub(super) asked: Asked,
    /// `upload`, `activate`, `rollback` and `remove` of a plugin; `endpoints` of a cluster, `endpoint`; `config`, `drain`.
    pub(super) what: &'static str,
    /// Its name.
    pub(super) of: String,
}

/// What a change is done with.
pub(super) trait Done: Debug + Send + 'static {
    /// Of the answer.
    fn status(&self) -> StatusCode {
        StatusCode::OK
    }

    /// What the log says of it beside that.
    fn told(&self) -> String {
        format!("{self:?}")
    }

    /// Of a plugin, where it is about one.
    fn version(&self) -> Option<u32> {
        None
    }
}

impl Done for () {}
impl Done for usize {}
impl Done for EndpointChange {}

/// Without the lines of the file that warnings show.
impl Done for Reloaded {
    fn told(&self) -> String {
        let plugins: Vec<&str> = self.plugins.iter().map(|(plugin, _)| plugin.as_str()).collect();
        format!("warnings: {}, plugins that stay what they were: {plugins:?}", self.warnings.count())
    }
}

/// A version.
impl Done for u32 {
    fn version(&self) -> Option<u32> {
        Some(*self)
    }
}

impl Done for Uploaded {
    fn status(&self) -> StatusCode {
        if self.existed { StatusCode::OK } else { StatusCode::CREATED }
    }

    fn version(&self) -> Option<u32> {
        Some(self.version)
    }
}

impl Change {
    /// Does it. `permit` is given back when the work has ended.
    pub(super) async fn run<T: Done>(
        self,
        control: &Arc<Control>,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&Control, &str) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let control = Arc::clone(control);
        let work = move || {
            let outcome = work(&control, &self.of).map_err(ApiError::from);
            self.audit(&control, &outcome);
            drop(permit);
            outcome
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an admin change broke off");
            Err(ApiError::internal("the change broke off; the log says more"))
        })
    }

    fn audit<T: Done>(&self, control: &Control, outcome: &Result<T, ApiError>) {
        match outcome {
            Ok(done) => self.done(control, done.status(), done.version(), done.told()),
            Err(error) => audit::not_changed(&self.caller, &self.asked, (self.what, &self.of), error),
        }
    }

    /// Writes down that it is done.
    pub(super) fn done(&self, control: &Control, status: StatusCode, version: Option<u32>, done: String) {
        let came = Came { status, version, generation: control.live.load().serial, done };
        audit::changed(&self.caller, &self.asked, (self.what, &self.of), &came);
    }
}
