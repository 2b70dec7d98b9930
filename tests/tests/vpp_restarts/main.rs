//! What becomes of flows, and of VPP's tables, when something restarts, on the real VPP that `VPP_BIN` names.

#![cfg(test)]

mod daemons;
mod vpp;
