//! Faults of processes and of this host: daemons killed, stopped and starved, failing disks and clocks, floods of flaps, calls,
//! scrapes and signals. Each test states the condition after the fault and prints the recovery time.

#![cfg(test)]

mod clocks;
mod connection_floods;
mod cpu_starvation;
mod disk;
mod fixtures;
mod hostile_viewers;
mod kills;
mod links;
mod memory;
mod resource_exhaustion;
mod signals;
mod storm;
