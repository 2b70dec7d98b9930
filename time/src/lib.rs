//! Time that every program of vpp-maglev reads and writes in one way: [`TextDuration`], the notation of durations, and
//! [`TokenBucket`], the rate limiter.
//!
//! Neither reads a clock. The caller passes the time, so tests and the simulation control it. The crate is `no_std`, so
//! the pure core can depend on it.
//!
//! ```
//! use core::time::Duration;
//! use maglev_time::{TextDuration, TokenBucket};
//!
//! let TextDuration(pause) = TextDuration::parse("1m30s")?;
//! assert_eq!(pause, Duration::from_secs(90));
//!
//! // One line a second, two at once.
//! let mut lines = TokenBucket::new(1, Duration::from_secs(2), Duration::ZERO);
//! assert!(lines.take_at(Duration::ZERO) && lines.take_at(Duration::ZERO));
//! assert!(!lines.take_at(Duration::ZERO));
//! assert!(lines.take_at(pause));
//! # Ok::<(), String>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod text_duration;
mod token_bucket;

pub use text_duration::TextDuration;
pub use token_bucket::TokenBucket;
