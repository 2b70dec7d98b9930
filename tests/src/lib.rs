//! End-to-end tests of vpp-maglev, and what they need: a simulator of VPP, a way to run one suite on it and on the
//! real thing, and a laboratory for the whole programs.

pub mod bench;
pub mod container;
pub mod dataplane;
pub mod demo;
pub mod docs;
pub mod lab;
pub mod packets;
pub mod programs;
pub mod sim;
pub mod vppsim;
