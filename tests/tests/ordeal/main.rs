//! What befalls processes and their host: daemons killed, stopped and starved, disks and clocks that fail, storms of
//! flaps, calls, scrapes and signals. Every test says what is right afterwards, and prints how long it took from the end
//! of the fault until it was so.

#![cfg(test)]

mod clocks;
mod disk;
mod doors;
mod kills;
mod links;
mod memory;
mod scarcity;
mod signals;
mod stage;
mod starved;
mod storm;
