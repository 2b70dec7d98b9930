//! Link between `maglevd` and `maglevd-prober`: the codec of the messages in [`maglev_ipc`], and the unix socket of type
//! `SOCK_SEQPACKET` that carries them.
//!
//! One message is one packet of at most [`MAX_MESSAGE`](maglev_ipc::message::MAX_MESSAGE) bytes. The socket never blocks,
//! and reports the peer's credentials from the kernel (`SO_PEERCRED`). bincode is used in [`codec`] only.
//!
//! ```
//! use maglev_ipc::{ToProber, VERSION};
//! use maglev_ipc_link::codec;
//!
//! let hello = ToProber::Hello { version: VERSION, release: "1.0".into() };
//! let bytes = codec::encode(&hello)?;
//! assert_eq!(codec::decode::<ToProber>(&bytes)?, hello);
//! // A packet holds exactly one message.
//! assert!(codec::decode::<ToProber>(&bytes[1..]).is_err());
//! # Ok::<(), codec::Error>(())
//! ```

#![forbid(unsafe_code)]

mod batch;
pub mod codec;
mod socket;

pub use batch::batch_checks;
pub use socket::{ControllerSocket, Error, MessageSocket, PeerCredentials, ProberSocket};
