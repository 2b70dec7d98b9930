//! A process: what it does to the world outside can end at any moment, between any two of its effects.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::pipe::Pipe;

/// No death is planned.
const NEVER: u64 = u64::MAX;

/// A process. Whatever it writes to a pipe or to the disk is an effect; one that is dead has none.
///
/// What a crash leaves behind is decided by which effects came before it. So a process that dies before each of its
/// effects in turn has died at every await point that anybody could tell from another.
#[derive(Debug)]
pub struct Process {
    dead: AtomicBool,
    /// How many more effects it has.
    fuse: AtomicU64,
    pipes: Mutex<Vec<Weak<Pipe>>>,
    died: Notify,
}

impl Process {
    /// One that lives.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            dead: AtomicBool::new(false),
            fuse: AtomicU64::new(NEVER),
            pipes: Mutex::default(),
            died: Notify::new(),
        })
    }

    /// Says whether the process may have one more effect.
    pub fn effect(&self) -> bool {
        if self.dead.load(Ordering::Relaxed) {
            return false;
        }
        match self.fuse.load(Ordering::Relaxed) {
            0 => {
                self.die();
                false
            }
            NEVER => true,
            left => {
                self.fuse.store(left - 1, Ordering::Relaxed);
                true
            }
        }
    }

    /// It is to die when it has had so many more effects.
    pub fn light(&self, effects: u64) {
        self.fuse.store(effects, Ordering::Relaxed);
    }

    /// Its death is not planned any more.
    pub fn spare(&self) {
        self.light(NEVER);
    }

    /// It has no effect any more, and the other ends of its pipes see that it is gone.
    pub fn die(&self) {
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
    pub async fn death(&self) {
        while !self.is_dead() {
            self.died.notified().await;
        }
    }

    /// Whether it is dead.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// It has an end of this pipe.
    pub fn holds(&self, pipe: &Arc<Pipe>) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.push(Arc::downgrade(pipe));
    }
}
