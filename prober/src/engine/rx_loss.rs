//! What may keep an answer from us that has come to this host.

use crate::clock::Nanos;

/// What a time-out says when the answer may have been among what was lost.
pub const OVERFLOWED: &str = "this host had no room for answers";
/// What it says when the answer may be among what is still to be read.
pub const UNREAD: &str = "more answers than this host has time for";

/// How well one kind of raw socket is heard.
#[derive(Debug, Default)]
pub struct RxLoss {
    /// When it was last noticed that the kernel had no room for answers.
    deafened: Nanos,
    /// This turn leaves some to be read in another.
    behind: bool,
}

impl RxLoss {
    /// A turn begins.
    pub const fn wake(&mut self) {
        self.behind = false;
    }

    /// Some were found to be lost.
    pub const fn deafen(&mut self, now: Nanos) {
        self.deafened = now;
    }

    /// Some are left.
    pub const fn leave(&mut self) {
        self.behind = true;
    }

    /// Why it is no verdict that a probe was not heard of which started then, if it is none.
    pub const fn excuse(&self, started: Nanos) -> Option<&'static str> {
        if self.behind {
            Some(UNREAD)
        } else if started <= self.deafened {
            Some(OVERFLOWED)
        } else {
            None
        }
    }
}
