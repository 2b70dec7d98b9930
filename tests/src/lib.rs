//! The parts of the end-to-end tests that are no test themselves: the runner of the documents, and the demo. The simulator of
//! VPP, the simulation of the whole system, the lab and the benchmarks are crates of their own, below this one.

pub mod demo;
pub mod docs;
