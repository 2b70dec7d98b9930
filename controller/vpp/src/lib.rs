//! A client for the binary API of VPP, for what a load balancer needs of it.
//!
//! [`Client`] speaks to one VPP over its unix socket. [`message`] holds the messages, which encode and decode in both
//! directions, so a simulator of VPP is built from the same structs. [`wire`] and [`frame`] are the layers below.
//!
//! The crate knows nothing of health, pools or plans. It knows which requests kill VPP, and never sends one.

pub mod frame;
pub mod message;
pub mod retval;
pub mod wire;
