//! The tasks around the core: driver, links and persister, and the channels between them.

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

/// Parameters of the tasks.
pub struct TaskConfig {
    /// Configuration in force.
    pub config: Arc<Config>,
    /// Overrides of the last run, which are on disk.
    pub overrides: Arc<Overrides>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// VPP's stats socket; empty is off.
    pub stats: PathBuf,
    /// Notifier of the service manager.
    pub pulse: Pulse,
}

/// Access to the outside world, replaceable in simulations.
pub struct Environment<C, P, V, D> {
    /// Clock.
    pub clock: C,
    /// Connector of the prober.
    pub prober: P,
    /// Connector of VPP; `None` without VPP.
    pub vpp: Option<V>,
    /// Store of overrides; `None` does not persist.
    pub store: Option<OverrideStore<D>>,
}

/// Starts the tasks in `tasks`. After `stop` they persist the overrides and end.
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
