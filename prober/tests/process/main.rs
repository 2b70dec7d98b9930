//! The real binary as a process: privilege, start and exit.

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
