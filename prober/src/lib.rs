//! What `maglevd-prober` is made of. A library only so that its parts can be driven from outside: fuzzed, simulated and
//! measured.

pub mod args;
pub mod clock;
pub mod engine;
pub mod listen;
pub mod outbox;
pub mod privilege;
pub mod probe;
pub mod probe_id;
pub mod protocol;
pub mod random;
pub mod scheduler;
pub mod set;
pub mod verdict;
