//! Shared parts of the end-to-end tests: the documentation runner and the demo. The VPP simulator, the system simulation, the
//! lab and the benchmarks are separate crates below this directory.

pub mod demo;
pub mod docs;
