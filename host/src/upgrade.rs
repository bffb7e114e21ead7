//! Another process in this one's place, as an upgrade of the binary needs it: started, lent all that listens and the lock of
//! the state, waited for, and only then left alone with it. Whatever goes wrong before that, this process serves on.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, TryLockError, Weak},
    time::{Duration, Instant},
};

use crate::{
    admin::SocketFile,
    control::{Control, LendError, Lent},
    drain::{Drain, Phase},
    inherited::channel::{self, MOST_FILES, Message, Owner, PROMPT, VARIABLE},
};

/// How often it is looked whether this process is to end meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// How long a successor that is not wanted any more may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is handed over. One a proxy.
pub struct Upgrade {
    control: Weak<Control>,
    admin: OwnedFd,
    /// As it is configured.
    admin_listen: String,
    admin_file: Weak<SocketFile>,
    /// Held while one is under way.
    running: Mutex<()>,
}

/// Why this process goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// One at a time.
    #[error("another upgrade is under way")]
    Running,
    /// It has nothing to hand over any more.
    #[error("this process is draining")]
    Draining,
    /// The program cannot be started.
    #[error("{program} cannot be started: {source}")]
    Spawn {
        /// Its path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// What it needs cannot be lent to it.
    #[error("{0}")]
    Lend(#[from] LendError),
    /// The channel to it.
    #[error("the new process cannot be told anything: {0}")]
    Channel(io::Error),
    /// It said why.
    #[error("the new process cannot serve: {0}")]
    Failed(String),
    /// It did not.
    #[error("the new process has ended before it served ({0}); why, it has said above")]
    Ended(ExitStatus),
    /// It neither is ready nor fails.
    #[error("the new process was not ready within {} (runtime.upgrade_timeout)", humantime::format_duration(*.0))]
    Late(Duration),
}

/// A process that serves in this one's place.
pub struct Successor {
    /// Its number.
    pub pid: u32,
    control: Arc<Control>,
    sockets: Vec<usize>,
    admin_file: Weak<SocketFile>,
}

impl Successor {
    /// Leaves everything to it: this process accepts nothing more, and ends once what is in flight has.
    pub fn take_leave(self) {
        if let Some(file) = self.admin_file.upgrade() {
            file.disown();
        }
        self.control.drain.hand_over(self.sockets);
    }
}

impl Upgrade {
    /// Of this proxy.
    pub(crate) fn new(control: &Arc<Control>, admin: OwnedFd, listen: String, file: Weak<SocketFile>) -> Self {
        Self {
            control: Arc::downgrade(control),
            admin,
            admin_listen: listen,
            admin_file: file,
            running: Mutex::new(()),
        }
    }

    /// Starts `program` as the successor, and waits until it serves. Blocks for as long as that takes. While it does, changes
    /// by the admin API are refused.
    ///
    /// # Errors
    /// There is no successor, and this process serves on as if nothing had been.
    pub fn run(&self, program: Command) -> Result<Successor, UpgradeError> {
        let _running = match self.running.try_lock() {
            Ok(running) => running,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(UpgradeError::Running),
        };
        let control = self.control.upgrade().ok_or(UpgradeError::Draining)?;
        if control.drain.phase() > Phase::Serve {
            return Err(UpgradeError::Draining);
        }
        control.freeze();
        self.replace(&control, program).inspect_err(|_| control.thaw())
    }

    fn replace(&self, control: &Arc<Control>, mut program: Command) -> Result<Successor, UpgradeError> {
        let timeout = control.live.load().config.runtime.upgrade_timeout;
        let (lent, lock) = (control.lend_sockets()?, control.lend_lock().map_err(LendError::Duplicate)?);
        let (here, there) = channel::pair().map_err(UpgradeError::Channel)?;
        program.stdin(Stdio::from(there)).env(VARIABLE, "1");
        let name = program.get_program().to_string_lossy().into_owned();
        let child = program.spawn().map_err(|source| UpgradeError::Spawn { program: name, source })?;
        // It holds the other end, without which the end of that process would not be seen.
        drop(program);
        let mut starting = Starting { child, here, drain: control.drain.clone() };
        let taken = starting.get_ready(timeout, |here| self.lend(here, &lent, lock.as_fd())).and_then(|taken| {
            starting.tell(&Message::Go)?;
            starting.expect_serving()?;
            Ok(taken)
        });
        match taken {
            Ok(taken) => {
                // By the listener's place among those that were lent; the admin API's comes after them.
                let sockets = taken.iter().filter_map(|id| lent.get(*id)).map(|lent| lent.socket).collect();
                let (pid, admin_file) = (starting.child.id(), Weak::clone(&self.admin_file));
                Ok(Successor { pid, control: Arc::clone(control), sockets, admin_file })
            }
            Err(error) => {
                starting.end();
                Err(error)
            }
        }
    }

    /// Tells a successor what there is.
    fn lend(&self, here: &OwnedFd, lent: &[Lent], lock: BorrowedFd<'_>) -> io::Result<()> {
        for (id, Lent { name, listen, files, .. }) in lent.iter().enumerate() {
            for files in files.chunks(MOST_FILES) {
                let (owner, listen) = (Owner::Listener(name.clone()), listen.clone());
                let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                channel::send(here, &Message::Sockets { id, owner, listen, removes: false }, &files)?;
            }
        }
        let removes = self.admin_file.upgrade().is_some_and(|file| file.is_own());
        let (listen, owner) = (self.admin_listen.clone(), Owner::Admin);
        channel::send(here, &Message::Sockets { id: lent.len(), owner, listen, removes }, &[self.admin.as_fd()])?;
        channel::send(here, &Message::Lock, &[lock])?;
        channel::send(here, &Message::End, &[])
    }
}

/// A successor that does not serve yet.
struct Starting {
    child: Child,
    here: OwnedFd,
    drain: Drain,
}

impl Starting {
    /// Which sockets it will serve.
    fn get_ready(
        &mut self,
        timeout: Duration,
        lend: impl FnOnce(&OwnedFd) -> io::Result<()>,
    ) -> Result<Vec<usize>, UpgradeError> {
        let deadline = Instant::now() + timeout;
        // One that is no Witgate does not take what it is told; that it ends says more.
        let lent = lend(&self.here);
        match self.hear(deadline, timeout)? {
            Message::Ready { taken } => lent.map(|()| taken).map_err(UpgradeError::Channel),
            other => Err(misunderstood(&other)),
        }
    }

    fn expect_serving(&mut self) -> Result<(), UpgradeError> {
        match self.hear(Instant::now() + PROMPT, PROMPT)? {
            Message::Serving => Ok(()),
            other => Err(misunderstood(&other)),
        }
    }

    fn tell(&self, message: &Message) -> Result<(), UpgradeError> {
        channel::send(&self.here, message, &[]).map_err(UpgradeError::Channel)
    }

    /// What it says next, unless it fails or this process is to end.
    fn hear(&mut self, deadline: Instant, timeout: Duration) -> Result<Message, UpgradeError> {
        loop {
            if self.drain.phase() > Phase::Serve {
                return Err(UpgradeError::Draining);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match channel::receive(&self.here, left.min(LOOK)) {
                Ok(Some((Message::Failed { why }, _))) if !why.is_empty() => return Err(UpgradeError::Failed(why)),
                Ok(Some((Message::Failed { .. }, _))) => return Err(self.ended()),
                Ok(Some((message, _))) => return Ok(message),
                Ok(None) if left.is_zero() => return Err(UpgradeError::Late(timeout)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.ended()),
                Err(error) => return Err(UpgradeError::Channel(error)),
            }
        }
    }

    fn ended(&mut self) -> UpgradeError {
        match self.end() {
            Some(status) => UpgradeError::Ended(status),
            None => UpgradeError::Failed("it has left without a word".to_owned()),
        }
    }

    /// Has it end, if it has not. It is given a moment for its last words, as it sees that nobody listens.
    fn end(&mut self) -> Option<ExitStatus> {
        let end = Instant::now() + FAREWELL;
        // The channel ends with this process' side of it.
        let _ = rustix::net::shutdown(&self.here, rustix::net::Shutdown::Both);
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => std::thread::sleep(LOOK / 10),
                Err(_) => break,
            }
        }
        // It may have ended at this moment.
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

fn misunderstood(message: &Message) -> UpgradeError {
    UpgradeError::Failed(format!("it says what is not understood: {message:?}"))
}
