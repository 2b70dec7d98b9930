//! The real binary, as a process: what it holds, how it starts, how it ends.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod privilege;
#[cfg(test)]
mod start;
