//! VppClient of VPP's binary API, for the messages that a load balancer needs.
//!
//! [`VppClient`] connects to one VPP over its unix socket. [`message`] holds the messages. They encode and decode in both
//! directions, so that a simulator of VPP uses the same structs. [`wire`] and [`frame`] are the layers below. [`stats`] reads
//! counters from shared memory, and [`cli`] parses the one command output that the API lacks.
//!
//! ```no_run
//! use maglev_vpp::message::{LbAsSetWeight, LbAsV2Dump, Prefix, Vip};
//! use maglev_vpp::{VppClient, Error, ClientOptions};
//!
//! # async fn drain() -> Result<(), Error> {
//! let vpp = VppClient::connect("/run/vpp/api.sock", "example", ClientOptions::default()).await?;
//! let vip = Vip { prefix: Prefix::host([203, 0, 113, 10].into()), protocol: 6, port: 443 };
//! for server in vpp.dump(&LbAsV2Dump::of_vip(&vip)).await? {
//!     if server.vip == vip && server.is_in_use() {
//!         let address = server.address;
//!         vpp.request(&LbAsSetWeight { vip, address, weight: 0, is_flush: false }).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The crate has no notion of health, pools or plans. It refuses to send the requests that are known to kill VPP
//! ([`Error::Hazard`]).
//!
//! ```text
//!  VppClient::request, dump ─► channel ─► ConnectionTask (task, owns the socket)
//!                                        ├─ InFlightCalls: matches replies to calls by context, expires them
//!                                        └─ FrameSplitter: bytes to payloads
//!  caller ◄───── oneshot ◄───────────────┘
//! ```

mod call;
pub mod cli;
mod client;
mod connection;
mod error;
pub mod frame;
mod handshake;
mod in_flight;
pub mod message;
mod observer;
pub mod retval;
pub mod stats;
pub mod wire;

pub use client::{ClientOptions, VppClient};
pub use error::{CloseReason, Error, ProtocolViolation};
pub use observer::{ApiObserver, CallOutcome};
