//! Client of VPP's binary API, for the messages that a load balancer needs.
//!
//! | layer | module | content |
//! |---|---|---|
//! | client | [`VppClient`] | requests and dumps over one unix socket, each with a timeout |
//! | messages | [`message`] | structs that encode and decode, so that a simulator of VPP shares them |
//! | frames | [`frame`] | a header with the length, then the message number and the body |
//! | values | [`wire`] | big-endian integers, addresses, strings |
//! | counters | [`stats`] | the stats segment, shared memory that VPP updates |
//! | command line | [`cli`] | a parser for the one listing that has no message |
//!
//! **Handshake.** The client sends `sockclnt_create` under a fixed number. VPP replies with a client index and the table of
//! its messages. Each name in the table ends in a CRC of the layout, such as `lb_flush_vip_1063f819`. A VPP without one of
//! [`message::REQUIRED_MESSAGES`] is refused, because a different CRC means a different layout.
//!
//! **Calls.** Each call has its own context, which VPP echoes. A request has one reply with a retval. A dump has any number of
//! details and no end marker, so the client sends a `control_ping` behind it and waits for the reply to the ping.
//!
//! ```text
//!  VppClient::request, dump
//!        │ encodes the frames, picks a context
//!        ▼
//!     channel ──► ConnectionTask ──► CallsInFlight ──────► API socket ──► VPP
//!                 (owns the socket)  pending by context                    │
//!                                        ▲                                 │
//!  caller ◄── oneshot ◄── ReplyReceiver ◄┘◄─ payloads ◄─ FrameSplitter ◄───┘
//! ```
//!
//! The crate has no notion of health, pools or plans. It refuses to send requests out of its bounds, which VPP does not check
//! ([`Error::Hazard`]).
//!
//! Draining all servers of a VIP:
//!
//! ```no_run
//! use maglev_vpp::message::{LbAsSetWeight, LbAsV2Dump, Prefix, Vip};
//! use maglev_vpp::{ClientOptions, Error, VppClient};
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
//! A message encoded into a frame, and decoded from two reads:
//!
//! ```
//! use maglev_vpp::frame::{self, FrameSplitter};
//! use maglev_vpp::message::{LbFlushVip, MessageHeader, Prefix, Vip};
//!
//! let header = MessageHeader { client_index: 7, context: 42 };
//! let flush = LbFlushVip { vip: Vip::all_ports(Prefix::host([203, 0, 113, 10].into())) };
//! let mut bytes = Vec::new();
//! frame::encode(&mut bytes, 103, header, &flush);
//!
//! let mut splitter = FrameSplitter::default();
//! splitter.read_buffer().extend(&bytes[..20]);
//! assert_eq!(splitter.next_payload(), Ok(None));
//! splitter.read_buffer().extend(&bytes[20..]);
//! let payload = splitter.next_payload()?.expect("the frame is complete");
//! assert_eq!(frame::id(payload)?, 103);
//! assert_eq!(frame::decode(payload)?, (header, flush));
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
pub use observer::{ApiObserver, CallOutcome, UNMATCHED};
