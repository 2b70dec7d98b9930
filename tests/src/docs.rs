//! Documents as tests read them: pages with fences, tables and links, and terminal sessions with the machine that runs them.
//! `docs/contributing.md` describes the conventions.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read or played ends the test that asked for it, there and then"
)]

pub mod documented_host;
pub mod manual;
pub mod masks;
pub mod page;
pub mod play;
pub mod servers;
pub mod terminal;
