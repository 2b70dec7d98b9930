//! A client for the binary API of VPP, for what a load balancer needs of it.
//!
//! [`Client`] speaks to one VPP over its unix socket. [`message`] holds the messages, which encode and decode in both
//! directions, so a simulator of VPP is built from the same structs. [`wire`] and [`frame`] are the layers below.
//!
//! The crate knows nothing of health, pools or plans. It knows which requests kill VPP, and never sends one.

mod call;
mod client;
mod connection;
mod error;
mod flight;
pub mod frame;
mod handshake;
pub mod message;
mod observer;
pub mod retval;
pub mod stats;
pub mod wire;

pub use client::{Client, Options};
pub use error::{Closed, Error, Violation};
pub use observer::{Observer, Outcome};
