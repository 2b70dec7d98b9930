//! A process, which can crash between any two of its effects.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// An end of a link that closes when its process exits.
pub trait ClosableEnd: std::fmt::Debug + Send + Sync {
    /// Closes it. Written data still arrives.
    fn close(&self);
}

/// Number of effects without a planned crash.
const NEVER: u64 = u64::MAX;

/// A process. Each write to a pipe or to the disk is an effect. An exited process has none.
///
/// The effects before a crash decide its outcome. A process that crashes before each of its effects in turn has therefore
/// crashed at every distinguishable await point.
#[derive(Debug)]
pub struct SimProcess {
    dead: AtomicBool,
    /// Number of effects before the planned crash.
    effects_left: AtomicU64,
    pipes: Mutex<Vec<Weak<dyn ClosableEnd>>>,
    died: Notify,
}

impl SimProcess {
    /// Returns a running process.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            dead: AtomicBool::new(false),
            effects_left: AtomicU64::new(NEVER),
            pipes: Mutex::default(),
            died: Notify::new(),
        })
    }

    /// Returns true if the process may have one more effect.
    pub fn take_effect(&self) -> bool {
        if self.dead.load(Ordering::Relaxed) {
            return false;
        }
        match self.effects_left.load(Ordering::Relaxed) {
            0 => {
                self.kill();
                false
            }
            NEVER => true,
            left => {
                self.effects_left.store(left - 1, Ordering::Relaxed);
                true
            }
        }
    }

    /// Plans a crash after this number of effects.
    pub fn crash_after(&self, effects: u64) {
        self.effects_left.store(effects, Ordering::Relaxed);
    }

    /// Cancels the planned crash.
    pub fn cancel_crash(&self) {
        self.crash_after(NEVER);
    }

    /// Kills the process. The peers of its pipes see the end of file.
    pub fn kill(&self) {
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        for pipe in self.pipes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(pipe) = pipe.upgrade() {
                pipe.close();
            }
        }
        self.died.notify_waiters();
    }

    /// Waits for the exit.
    pub async fn exited(&self) {
        loop {
            // Several may wait, and the exit is announced once.
            let died = self.died.notified();
            if self.has_exited() {
                return;
            }
            died.await;
        }
    }

    /// Returns true after the exit.
    pub fn has_exited(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Closes this pipe when the process exits.
    pub fn close_on_exit(&self, pipe: Arc<dyn ClosableEnd>) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.push(Arc::downgrade(&pipe));
    }
}
