//! The documents as a test reads them: pages with their fences, tables and links; terminals in them; and the stage that these are
//! played on. `docs/contributing.md` says how they are written.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read or played ends the test that asked for it, there and then"
)]

pub mod manual;
pub mod masks;
pub mod page;
pub mod play;
pub mod servers;
pub mod documented_host;
pub mod terminal;
