//! A client for the binary API of VPP, for what a load balancer needs of it.
//!
//! [`Client`] speaks to one VPP over its unix socket. [`message`] holds the messages, which encode and decode in both
//! directions, so a simulator of VPP is built from the same structs. [`wire`] and [`frame`] are the layers below.
//!
//! ```no_run
//! use maglev_vpp::message::{LbAsSetWeight, LbAsV2Dump, Prefix, Vip};
//! use maglev_vpp::{Client, Error, Options};
//!
//! # async fn drain() -> Result<(), Error> {
//! let vpp = Client::connect("/run/vpp/api.sock", "example", Options::default()).await?;
//! let vip = Vip { prefix: Prefix::host([203, 0, 113, 10].into()), protocol: 6, port: 443 };
//! for server in vpp.dump(&LbAsV2Dump::of_vip(&vip)).await? {
//!     if server.vip == vip && server.in_use() {
//!         let address = server.address;
//!         vpp.request(&LbAsSetWeight { vip, address, weight: 0, is_flush: false }).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The crate knows nothing of health, pools or plans. It knows which requests kill VPP, and never sends one.

mod call;
pub mod cli;
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
