//! `maglevd` and `maglevd-prober` as processes, with servers to probe, and the simulated VPP or the real one in `VPP_BIN`.

#![cfg(test)]

mod bad_input;
mod counters;
mod failover;
mod log;
mod maglevc;
mod operator;
mod output;
mod overrides;
mod privilege;
mod prober;
mod prometheus;
mod readings;
mod reload;
mod restart;
mod scale;
mod service_manager;
mod vpp;

use maglev_lab::fixtures::{BACKENDS, VIP, WebFixture, backend, frontend, web_vip};
