//! The tasks that decide and do, and how they hear each other: the driver, its links, and whoever writes down overrides.

use std::path::PathBuf;
use std::sync::Arc;

use maglev_core::config::Config;
use maglev_core::overrides::Overrides;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::driver::{Driver, DriverChannels, INPUT_BACKLOG};
use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::overrides::{Disk, OverrideStore, Persister};
use crate::service_manager::Pulse;
use crate::{prober, vpp};

/// What the tasks begin with.
pub struct TaskConfig {
    /// What is in force.
    pub config: Arc<Config>,
    /// Those of the last run, which are on disk.
    pub overrides: Arc<Overrides>,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// VPP's stats socket; empty does without.
    pub stats: PathBuf,
    /// To the service manager.
    pub pulse: Pulse,
}

/// What the tasks meet outside.
pub struct Environment<C, P, V, D> {
    /// What tells the time.
    pub clock: C,
    /// How probers are reached.
    pub prober: P,
    /// How VPP is reached; `None` when none is to be programmed.
    pub vpp: Option<V>,
    /// Where overrides are kept; `None` is nowhere.
    pub store: Option<OverrideStore<D>>,
}

/// Starts the tasks in `tasks`. They end after `stop`, the overrides written down.
pub fn start<C: Clock, P: prober::ConnectProber, V: vpp::ConnectVpp, D: Disk>(
    begin: TaskConfig,
    outside: Environment<C, P, V, D>,
    tasks: &mut JoinSet<()>,
    stop: CancellationToken,
) -> Handle {
    let TaskConfig { config, overrides, metrics, stats, pulse } = begin;
    let Environment { clock, prober: way, vpp, store } = outside;
    let (handle, requests) = Handle::new();
    let (inputs, heard) = mpsc::channel(INPUT_BACKLOG);
    let (to_prober, prober_commands) = mpsc::unbounded_channel();
    let (netns, probe_in) = watch::channel(config.netns.clone());
    let to_vpp = vpp.map(|api| {
        let (to_vpp, commands) = mpsc::unbounded_channel();
        let (handle, inputs, metrics) = (handle.clone(), inputs.clone(), Arc::clone(&metrics));
        tasks.spawn(vpp::VppLink { api, stats, handle, inputs, commands, metrics }.run());
        to_vpp
    });
    let link = prober::ProberLink {
        way,
        netns: probe_in,
        inputs,
        commands: prober_commands,
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(link.run());
    let (keep, wanted) = watch::channel((0, overrides));
    tasks.spawn(Persister { store, wanted, handle: handle.clone(), metrics: Arc::clone(&metrics) }.run());
    let channels =
        DriverChannels { inputs: heard, requests, prober: to_prober, netns, vpp: to_vpp, keep, pulse };
    let driver = Driver::new(config, handle.clone(), metrics, channels, clock);
    tasks.spawn(driver.run(stop));
    handle
}
