//! A process: what it does to the world outside can end at any moment, between any two of its effects.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// An end of a link that closes when its process exits.
pub trait ClosableEnd: std::fmt::Debug + Send + Sync {
    /// Closes it: what was written still arrives.
    fn close(&self);
}

/// No death is planned.
const NEVER: u64 = u64::MAX;

/// A process. Whatever it writes to a pipe or to the disk is an effect; one that is dead has none.
///
/// What a crash leaves behind is decided by which effects came before it. So a process that dies before each of its
/// effects in turn has died at every await point that anybody could tell from another.
#[derive(Debug)]
pub struct SimProcess {
    dead: AtomicBool,
    /// How many more effects it has.
    effects_left: AtomicU64,
    pipes: Mutex<Vec<Weak<dyn ClosableEnd>>>,
    died: Notify,
}

impl SimProcess {
    /// One that lives.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            dead: AtomicBool::new(false),
            effects_left: AtomicU64::new(NEVER),
            pipes: Mutex::default(),
            died: Notify::new(),
        })
    }

    /// Says whether the process may have one more effect.
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

    /// It is to die when it has had so many more effects.
    pub fn crash_after(&self, effects: u64) {
        self.effects_left.store(effects, Ordering::Relaxed);
    }

    /// Its death is not planned any more.
    pub fn cancel_crash(&self) {
        self.crash_after(NEVER);
    }

    /// It has no effect any more, and the other ends of its pipes see that it is gone.
    pub fn kill(&self) {
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        for pipe in self.pipes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(pipe) = pipe.upgrade() {
                pipe.close();
            }
        }
        self.died.notify_one();
    }

    /// Waits for its death.
    pub async fn exited(&self) {
        while !self.has_exited() {
            self.died.notified().await;
        }
    }

    /// Whether it is dead.
    pub fn has_exited(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// It has an end of this pipe.
    pub fn close_on_exit(&self, pipe: Arc<dyn ClosableEnd>) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.push(Arc::downgrade(&pipe));
    }
}
