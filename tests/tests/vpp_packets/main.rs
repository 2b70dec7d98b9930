//! What packets meet, on the real VPP that `VPP_BIN` names.

#![cfg(test)]

mod encapsulation;
mod flows;
mod shares;
