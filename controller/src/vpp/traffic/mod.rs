//! Traffic counters, read from VPP's stats segment every few seconds.
//!
//! Reading the segment costs VPP nothing. The indexes must be requested from VPP itself, as rarely as possible
//! ([`index_cache`]).

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maglev_core::dataplane::{ActualState, VipKey};
use maglev_core::state::Input;
use maglev_vpp::stats::{
    self, CombinedCounter, FIRST_PACKETS, NEXT_PACKETS, NO_SERVER_PACKETS, ROUTE_TO, ROUTE_VIA, STRAY_INDEX,
    SegmentSnapshot, StatsSegment, UNTRACKED_PACKETS,
};
use maglev_vpp::{Error, VppClient};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::STATS_TIMEOUT;
use crate::handle::StateReader;
use crate::published::{TrafficCounters, VipCounters, VipPackets};
use crate::retry::RetryState;

mod index_cache;
mod surroundings;

use index_cache::IndexCache;
pub use index_cache::IndexChange;
use surroundings::SurroundingsReader;

/// Interval of reads.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// Reader of the counters of one connected VPP.
pub struct TrafficReader {
    client: VppClient,
    stats: PathBuf,
    state: StateReader,
    counters: watch::Sender<Option<Arc<TrafficCounters>>>,
    changes: broadcast::Receiver<IndexChange>,
    inputs: mpsc::Sender<Vec<Input>>,
    segment: Option<StatsSegment>,
    retry: RetryState,
}

impl TrafficReader {
    /// Creates a reader. Without a stats socket it only detects address conflicts.
    pub const fn new(
        client: VppClient,
        stats: PathBuf,
        state: StateReader,
        counters: watch::Sender<Option<Arc<TrafficCounters>>>,
        changes: broadcast::Receiver<IndexChange>,
        inputs: mpsc::Sender<Vec<Input>>,
    ) -> Self {
        Self { client, stats, state, counters, changes, inputs, segment: None, retry: RetryState::new() }
    }

    /// Reads counters until VPP is lost. On return or drop, the published counters are cleared.
    ///
    /// # Errors
    /// VPP is lost.
    pub async fn run(mut self) -> Result<Infallible, Error> {
        let counters = self.counters.clone();
        let _clear = ClearOnDrop(&counters);
        let (mut index_cache, mut shadowed) = (IndexCache::default(), BTreeSet::new());
        let (mut surroundings, mut reported) = (SurroundingsReader::default(), BTreeMap::new());
        let mut ticks = interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Ok(snapshot) = self.state.snapshot().await else { return std::future::pending().await };
            let (actual, sync_interval) = (snapshot.state.actual(), snapshot.state.sync_interval());
            // A held snapshot makes the core copy each part that it changes.
            drop(snapshot);
            let Some(actual) = &actual else { continue };
            index_cache.apply_changes(&mut self.changes, actual);
            index_cache.expire(READ_INTERVAL, sync_interval);
            index_cache.resolve_routes(&self.client, actual).await?;
            let found = index_cache.conflicting(actual);
            if found != shadowed {
                shadowed.clone_from(&found);
                // The send fails only during shutdown.
                let _ = self.inputs.send(vec![Input::AddressConflicts(found)]).await;
            }
            if let Some(found) = surroundings.read(&self.client, actual).await?
                && found != reported
            {
                reported.clone_from(&found);
                let _ = self.inputs.send(vec![Input::Surroundings(found)]).await;
            }
            if self.stats.as_os_str().is_empty() {
                continue;
            }
            index_cache.resolve_counters(&self.client, actual, sync_interval).await?;
            let found = self.read(CounterIndexes::new(&index_cache, actual)).await;
            // An index of a VIP recreated meanwhile may now belong to another item.
            if !index_cache.apply_changes(&mut self.changes, actual) {
                counters.send_replace(found.map(Arc::new));
            }
        }
    }

    /// Reads the segment, which may block briefly. A failed segment is reopened next time.
    async fn read(&mut self, wanted: CounterIndexes) -> Option<TrafficCounters> {
        let (path, segment) = (self.stats.clone(), self.segment.take());
        let task = tokio::task::spawn_blocking(move || read(&path, segment, &wanted));
        match task.await {
            Ok(Ok((segment, counters))) => {
                self.segment = Some(segment);
                self.retry.reset();
                Some(counters)
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if self.retry.is_new_error(&error) {
                    warn!(error, "cannot read VPP's counters");
                } else {
                    debug!(error, "cannot read VPP's counters");
                }
                None
            }
            // The runtime is shutting down.
            Err(_) => None,
        }
    }
}

/// Guard that clears the published counters.
struct ClearOnDrop<'a>(&'a watch::Sender<Option<Arc<TrafficCounters>>>);

impl Drop for ClearOnDrop<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// Indexes to read.
struct CounterIndexes {
    vips: Vec<VipIndexes>,
    servers: Vec<(IpAddr, u32)>,
}

/// Indexes of a VIP, and its weight at the time.
struct VipIndexes {
    vip: VipKey,
    packets: Option<u32>,
    route: Option<u32>,
    weight: u32,
}

impl CounterIndexes {
    fn new(index_cache: &IndexCache, actual: &ActualState) -> Self {
        let servers: BTreeSet<IpAddr> =
            actual.vips.values().flat_map(|found| found.servers.keys()).copied().collect();
        Self {
            vips: actual
                .vips
                .iter()
                .map(|(vip, found)| VipIndexes {
                    vip: *vip,
                    packets: index_cache.vip(vip),
                    route: index_cache.route(vip),
                    weight: found.servers.values().map(|server| u32::from(server.weight)).sum(),
                })
                .collect(),
            servers: servers
                .into_iter()
                .filter_map(|server| Some((server, index_cache.server(&server)?)))
                .collect(),
        }
    }
}

fn read(
    path: &Path,
    segment: Option<StatsSegment>,
    wanted: &CounterIndexes,
) -> Result<(StatsSegment, TrafficCounters), stats::Error> {
    let mut segment = match segment {
        Some(segment) => segment,
        None => StatsSegment::open(path, STATS_TIMEOUT)?,
    };
    let at = SystemTime::now();
    let ((vips, strays), servers) = segment.read(|now| Ok((vips(now, wanted)?, servers(now, wanted)?)))?;
    Ok((segment, TrafficCounters { at, vips, servers, strays }))
}

/// Reads the counters of VIPs, and the number of strays.
fn vips(
    now: &SegmentSnapshot<'_>,
    wanted: &CounterIndexes,
) -> Result<(BTreeMap<VipKey, VipCounters>, Option<u64>), stats::Error> {
    let mut vip_indexes: BTreeSet<u32> = wanted.vips.iter().filter_map(|vip| vip.packets).collect();
    vip_indexes.insert(STRAY_INDEX);
    let routes: BTreeSet<u32> = wanted.vips.iter().filter_map(|vip| vip.route).collect();
    let kind = |name| now.simple(name, &vip_indexes);
    let (next, first) = (kind(NEXT_PACKETS)?, kind(FIRST_PACKETS)?);
    let (untracked, no_server) = (kind(UNTRACKED_PACKETS)?, kind(NO_SERVER_PACKETS)?);
    let routes = now.combined(ROUTE_TO, &routes)?.unwrap_or_default();
    let packets = |index: u32| {
        let of = |counts: &Option<BTreeMap<u32, u64>>| counts.as_ref()?.get(&index).copied();
        Some(VipPackets {
            next: of(&next)?,
            first: of(&first)?,
            untracked: of(&untracked)?,
            no_server: of(&no_server)?,
        })
    };
    let counters = wanted.vips.iter().map(|vip| {
        let route = vip.route.and_then(|route| routes.get(&route).copied());
        (vip.vip, VipCounters { packets: vip.packets.and_then(packets), route, weight: vip.weight })
    });
    let strays = packets(STRAY_INDEX).map(|packets| packets.no_server.saturating_add(packets.untracked));
    Ok((counters.collect(), strays))
}

fn servers(
    now: &SegmentSnapshot<'_>,
    wanted: &CounterIndexes,
) -> Result<BTreeMap<IpAddr, CombinedCounter>, stats::Error> {
    let server_indexes = wanted.servers.iter().map(|(_, index)| *index).collect();
    let routes = now.combined(ROUTE_VIA, &server_indexes)?.unwrap_or_default();
    let traffic = |(server, index): &(IpAddr, u32)| Some((*server, *routes.get(index)?));
    Ok(wanted.servers.iter().filter_map(traffic).collect())
}
