//! Forwarding of packets, on the real VPP in `VPP_BIN`.

#![cfg(test)]

mod encapsulation;
mod flows;
mod shares;
