//! What becomes of flows, and of VPP's tables, when something restarts, mostly on the real VPP that `VPP_BIN` names.

#![cfg(test)]

mod daemons;
mod hand_over;
mod vpp;
