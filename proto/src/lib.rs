//! The gRPC API of maglevd, generated from `maglev/v1/maglev.proto`, the API's manual.
//!
//! [`v1`] has the messages, the client and the server of the service `Maglev`. [`DESCRIPTORS`] is the encoded description for
//! reflection.
//!
//! ```
//! use maglev_proto::v1::{OverrideMetadata, PauseBackendRequest};
//!
//! let metadata = OverrideMetadata { reason: "disk swap".into(), lifetime: None };
//! let request = PauseBackendRequest { name: "nginx0".into(), metadata: Some(metadata) };
//! assert_eq!(request.metadata.unwrap().reason, "disk swap");
//! ```

pub use prost_types::{Duration, Timestamp};

/// Version 1 of the API.
pub mod v1 {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("maglev.v1");
}

/// The API's encoded file descriptor set, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/maglev.bin"));
