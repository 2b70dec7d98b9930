//! The tasks around the core: driver, links and persister, and the channels between them.

use std::path::PathBuf;
use std::sync::Arc;

use maglev_core::config::Config;
use maglev_core::overrides::Overrides;
use maglev_core::ownership::OwnedVips;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::driver::{Driver, DriverChannels, INPUT_BACKLOG};
use crate::handle::{Handle, HandleEnds};
use crate::metrics::Metrics;
use crate::overrides::{Disk, OverrideStore, Persister};
use crate::ownership::{OwnershipStore, OwnershipWriter};
use crate::service_manager::DriverStatus;
use crate::{prober, vpp};

/// Maximum number of index changes that VPP's link may lag behind before it clears its whole cache.
const INDEX_CHANGE_BACKLOG: usize = 4096;

/// Parameters of the tasks.
pub struct TaskConfig {
    /// Configuration in force.
    pub config: Arc<Config>,
    /// Overrides of the last run, which are on disk.
    pub overrides: Arc<Overrides>,
    /// VIPs of the last run.
    pub owned_vips: OwnedVips,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// VPP's stats socket; empty is off.
    pub stats: PathBuf,
    /// Notifier of the service manager.
    pub driver_status: DriverStatus,
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
    /// Store of the VIPs that are ours; `None` does not persist.
    pub ownership: Option<OwnershipStore<D>>,
}

/// Starts the tasks in `tasks`. After `stop` they persist the overrides and end.
pub fn start<C: Clock, P: prober::ConnectProber, V: vpp::ConnectVpp, D: Disk>(
    begin: TaskConfig,
    outside: Environment<C, P, V, D>,
    tasks: &mut JoinSet<()>,
    stop: CancellationToken,
) -> Handle {
    let TaskConfig { config, overrides, owned_vips, metrics, stats, driver_status } = begin;
    let Environment { clock, prober, vpp, store, ownership } = outside;
    let (handle, HandleEnds { requests, events, counters, persist_status, reading_budget }) = Handle::new();
    let (input_sender, inputs) = mpsc::channel(INPUT_BACKLOG);
    let (to_prober, prober_commands) = mpsc::unbounded_channel();
    let (netns_sender, netns) = watch::channel(config.netns.clone());
    let (index_changes, _) = broadcast::channel(INDEX_CHANGE_BACKLOG);
    let to_vpp = vpp.map(|api| {
        let (to_vpp, commands) = mpsc::unbounded_channel();
        let link = vpp::VppLink {
            api,
            stats,
            state: handle.state(),
            counters,
            index_changes: index_changes.clone(),
            inputs: input_sender.clone(),
            commands,
            metrics: Arc::clone(&metrics),
            reading_budget,
        };
        tasks.spawn(link.run());
        to_vpp
    });
    let link = prober::ProberLink {
        connector: prober,
        netns,
        inputs: input_sender,
        commands: prober_commands,
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(link.run());
    let (pending_write, pending) = watch::channel((0, overrides));
    let persister = Persister { store, pending, status: persist_status, metrics: Arc::clone(&metrics) };
    tasks.spawn(persister.run());
    let (owned_vips, pending) = watch::channel(owned_vips);
    if let Some(store) = ownership {
        tasks.spawn(OwnershipWriter { store, pending, metrics: Arc::clone(&metrics) }.run());
    }
    let channels = DriverChannels {
        inputs,
        requests,
        events,
        prober: to_prober,
        netns: netns_sender,
        vpp: to_vpp,
        index_changes,
        pending_write,
        owned_vips,
        driver_status,
    };
    tasks.spawn(Driver::new(config, metrics, channels, clock).run(stop));
    handle
}
