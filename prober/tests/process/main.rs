//! The real binary, as a process: what it holds, how it starts, how it ends.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod network;
#[cfg(test)]
mod privilege;
#[cfg(test)]
mod stall;
#[cfg(test)]
mod start;
