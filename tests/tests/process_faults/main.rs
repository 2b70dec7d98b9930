//! What befalls processes and their host: daemons killed, stopped and starved, disks and clocks that fail, storms of
//! flaps, calls, scrapes and signals. Every test says what is right afterwards, and prints how long it took from the end
//! of the fault until it was so.

#![cfg(test)]

mod clocks;
mod connection_floods;
mod cpu_starvation;
mod disk;
mod fixtures;
mod kills;
mod links;
mod memory;
mod resource_exhaustion;
mod signals;
mod storm;
