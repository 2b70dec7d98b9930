//! End-to-end tests of vpp-maglev, and what they need: a simulator of VPP, and a way to run one suite on it and on the
//! real thing.

pub mod dataplane;
pub mod vppsim;
