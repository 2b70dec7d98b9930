//! The gRPC API of maglevd, generated from `maglev/v1/maglev.proto`, which is its manual.

pub use prost_types::{Duration, Timestamp};

/// Version 1 of the API.
pub mod v1 {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("maglev.v1");
}

/// The API's file descriptor set, encoded: what gRPC reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/maglev.bin"));
