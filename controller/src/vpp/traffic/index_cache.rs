//! Cache of the indexes under which VPP counts. No message of its API returns the index of a VIP.
//!
//! Each query stops VPP's workers, so results are cached. An entry is invalidated when its VIP was recreated, by us
//! or externally. Only VIP routes are also refreshed, spread over the time in which all VIPs are verified.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use maglev_core::dataplane::{ActualState, VipKey};
use maglev_core::event::{Audit, AuditAction, Kind};
use maglev_vpp::message::{IpRouteLookupV2, Prefix, SOURCE_INTERFACE};
use maglev_vpp::{Error, VppClient};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::super::calls::{key, listing, name};

/// Maximum number of concurrent look-ups. A weight change queues behind no more than these.
const LOOK_UPS: usize = 8;

/// Change that invalidates cached indexes. The driver sends one for each such event, on a channel of its own.
#[derive(Clone, Copy, Debug)]
pub enum IndexChange {
    /// VIP that was added or removed.
    Recreated(VipKey),
    /// VIP that was changed externally, which may have affected its servers as well.
    Drifted(VipKey),
    /// An operator's sync verifies everything.
    SyncRequested,
}

impl IndexChange {
    /// Returns the change that follows from an event.
    #[must_use]
    pub const fn of(kind: &Kind) -> Option<Self> {
        match kind {
            Kind::Synced { vip, counts } if counts.vip_added + counts.vip_removed > 0 => {
                Some(Self::Recreated(*vip))
            }
            Kind::Drift { vip: Some(vip), .. } => Some(Self::Drifted(*vip)),
            Kind::Operator(Audit { action: AuditAction::Sync, .. }) => Some(Self::SyncRequested),
            _ => None,
        }
    }
}

/// Cached indexes. `None`: VPP has no index.
#[derive(Debug, Default)]
pub struct IndexCache {
    vips: BTreeMap<VipKey, Option<u32>>,
    routes: BTreeMap<Prefix, Option<RouteIndex>>,
    servers: BTreeMap<IpAddr, Option<u32>>,
    backoff: ListingBackoff,
    cursor: RefreshCursor,
}

/// Progress of the periodic route refresh.
#[derive(Clone, Copy, Debug, Default)]
struct RefreshCursor {
    /// Last refreshed route.
    at: Option<Prefix>,
    /// Accumulated route-nanoseconds not yet spent on a refresh.
    due: u128,
}

/// Longest pause before a listing is retried.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// Backoff of listings that VPP refused. Each attempt may block VPP for as long as a call, so the pause doubles.
#[derive(Clone, Copy, Debug, Default)]
struct ListingBackoff {
    failures: u32,
    until: Option<Instant>,
}

impl ListingBackoff {
    fn may_retry(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Records a failure; `first` is the first pause.
    fn fail(&mut self, now: Instant, first: Duration) {
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(MAX_PAUSE);
        self.failures += 1;
        self.until = Some(now + pause);
    }
}

/// Route of a VIP's prefix.
#[derive(Clone, Copy, Debug)]
struct RouteIndex {
    index: u32,
    /// True if the address is on one of VPP's own interfaces.
    is_local: bool,
}

impl IndexCache {
    /// Returns the index of a VIP in the per-VIP packet counters.
    pub fn vip(&self, vip: &VipKey) -> Option<u32> {
        self.vips.get(vip).copied().flatten()
    }

    /// Returns the index of the route of a VIP's prefix in the route counters.
    pub fn route(&self, vip: &VipKey) -> Option<u32> {
        Some(self.route_of(vip)?.index)
    }

    /// Returns the index of a server's route in the route counters.
    pub fn server(&self, server: &IpAddr) -> Option<u32> {
        self.servers.get(server).copied().flatten()
    }

    /// Returns the VIPs of VPP whose address is also on one of its interfaces.
    pub fn conflicting(&self, actual: &ActualState) -> BTreeSet<VipKey> {
        let is_local = |vip: &&VipKey| self.route_of(vip).is_some_and(|route| route.is_local);
        actual.vips.keys().filter(is_local).copied().collect()
    }

    /// Applies the pending changes. Returns true if there were any.
    pub fn apply_changes(&mut self, changes: &mut Receiver<IndexChange>, actual: &ActualState) -> bool {
        let mut changed = false;
        loop {
            match changes.try_recv() {
                Ok(change) => self.invalidate(change, actual),
                Err(TryRecvError::Lagged(_)) => {
                    *self = Self { backoff: self.backoff, cursor: self.cursor, ..Self::default() };
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return changed,
            }
            changed = true;
        }
    }

    /// Invalidates entries. Server routes need no invalidation when a VIP is recreated: they outlive the server until VPP
    /// has collected its last flows.
    fn invalidate(&mut self, change: IndexChange, actual: &ActualState) {
        let vip = match change {
            IndexChange::SyncRequested => return self.routes.clear(),
            IndexChange::Recreated(vip) => vip,
            IndexChange::Drifted(vip) => {
                for server in actual.vips.get(&vip).into_iter().flat_map(|found| found.servers.keys()) {
                    self.servers.remove(server);
                }
                vip
            }
        };
        self.vips.remove(&vip);
        self.routes.remove(&name(&vip).prefix);
    }

    /// Drops the routes due for a refresh, as an interface may have got their address: in each `period` a share, so
    /// that each is due once in `every`.
    pub fn expire(&mut self, period: Duration, every: Duration) {
        let every = every.as_nanos().max(1);
        let owed = period.as_nanos().saturating_mul(self.routes.len() as u128);
        self.cursor.due = self.cursor.due.saturating_add(owed);
        let turns = usize::try_from(self.cursor.due / every).unwrap_or(usize::MAX).min(self.routes.len());
        self.cursor.due %= every;
        for _ in 0..turns {
            let after = self.cursor.at.map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = self.routes.range((after, Bound::Unbounded)).chain(&self.routes);
            self.cursor.at = next.next().map(|(prefix, _)| *prefix);
            self.cursor.at.map(|prefix| self.routes.remove(&prefix));
        }
    }

    /// Looks up missing routes of VIPs, and refreshes those on VPP's own addresses, which an operator is expected to
    /// remove.
    ///
    /// # Errors
    /// VPP is lost.
    pub async fn resolve_routes(&mut self, client: &VppClient, actual: &ActualState) -> Result<(), Error> {
        let prefixes: BTreeSet<Prefix> = actual.vips.keys().map(|vip| name(vip).prefix).collect();
        let is_local = |route: &Option<RouteIndex>| route.is_some_and(|route| route.is_local);
        self.routes.retain(|prefix, route| prefixes.contains(prefix) && !is_local(route));
        let unknown = prefixes.into_iter().filter(|prefix| !self.routes.contains_key(prefix));
        let routes = look_up_routes(client, unknown.collect()).await?;
        self.routes.extend(routes);
        Ok(())
    }

    /// Looks up the missing indexes of VIPs and servers. If VPP refuses the listing, it is retried after `pause`,
    /// with backoff.
    ///
    /// # Errors
    /// VPP is lost.
    pub async fn resolve_counters(
        &mut self,
        client: &VppClient,
        actual: &ActualState,
        pause: Duration,
    ) -> Result<(), Error> {
        let servers: BTreeSet<&IpAddr> =
            actual.vips.values().flat_map(|found| found.servers.keys()).collect();
        self.vips.retain(|vip, _| actual.vips.contains_key(vip));
        self.servers.retain(|server, _| servers.contains(server));
        let unlisted = actual.vips.keys().any(|vip| !self.vips.contains_key(vip));
        if unlisted && self.backoff.may_retry(Instant::now()) {
            self.read_listing(client, actual, pause).await?;
        }
        let unknown = servers.into_iter().filter(|server| !self.servers.contains_key(server));
        let found = look_up_routes(client, unknown.copied().map(Prefix::host).collect()).await?;
        self.servers.extend(found.into_iter().map(|(p, route)| (p.address, route.map(|r| r.index))));
        Ok(())
    }

    /// Reads VPP's listing, which has the indexes of all VIPs and servers.
    async fn read_listing(
        &mut self,
        client: &VppClient,
        actual: &ActualState,
        pause: Duration,
    ) -> Result<(), Error> {
        let Some(listing) = listing(client, actual).await? else {
            if self.backoff.failures == 0 {
                warn!("cannot read the counter indexes of VIPs, retrying");
            } else {
                debug!("cannot read the counter indexes of VIPs");
            }
            self.backoff.fail(Instant::now(), pause);
            return Ok(());
        };
        self.backoff = ListingBackoff::default();
        // Mark each as known, with or without an index, so that it is not requested again.
        for vip in actual.vips.keys() {
            self.vips.entry(*vip).or_default();
        }
        for shown in listing {
            let vip = key(&shown.vip);
            if let Some(known) = self.vips.get_mut(&vip) {
                *known = Some(shown.index);
                self.servers.extend(shown.servers.iter().map(|server| (server.address, Some(server.index))));
            }
        }
        Ok(())
    }

    fn route_of(&self, vip: &VipKey) -> Option<RouteIndex> {
        self.routes.get(&name(vip).prefix).copied().flatten()
    }
}

async fn look_up_routes(
    client: &VppClient,
    prefixes: BTreeSet<Prefix>,
) -> Result<Vec<(Prefix, Option<RouteIndex>)>, Error> {
    let asked = stream::iter(prefixes).map(|prefix| async move {
        match client.request(&IpRouteLookupV2::exact(prefix)).await {
            Ok(reply) => {
                let is_local = reply.source == SOURCE_INTERFACE;
                Ok((prefix, Some(RouteIndex { index: reply.stats_index, is_local })))
            }
            Err(Error::Refused { .. }) => Ok((prefix, None)),
            Err(lost) => Err(lost),
        }
    });
    asked.buffered(LOOK_UPS).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the missing routes, and returns their prefixes.
    fn asked(cache: &mut IndexCache, prefixes: &[Prefix]) -> Vec<Prefix> {
        let missing: Vec<_> = prefixes.iter().filter(|p| !cache.routes.contains_key(p)).copied().collect();
        cache.routes.extend(missing.iter().map(|prefix| (*prefix, None)));
        missing
    }

    #[test]
    fn each_route_is_refreshed_once_per_round() {
        let prefixes: Vec<_> = (0..7).map(|n| Prefix::host([203, 0, 113, n].into())).collect();
        let mut cache = IndexCache::default();
        assert_eq!(asked(&mut cache, &prefixes).len(), 7);
        let mut rounds = (0..12).map(|_| {
            cache.expire(Duration::from_secs(5), Duration::from_secs(30));
            asked(&mut cache, &prefixes)
        });
        for _ in 0..2 {
            let round: Vec<_> = rounds.by_ref().take(6).collect();
            assert!(round.iter().all(|asked| asked.len() <= 2), "they are spread: {round:?}");
            assert_eq!(round.concat(), prefixes);
        }
    }

    #[test]
    fn short_interval_refreshes_each_route_once() {
        let prefixes: Vec<_> = (0..7).map(|n| Prefix::host([203, 0, 113, n].into())).collect();
        let mut cache = IndexCache::default();
        asked(&mut cache, &prefixes);
        cache.expire(Duration::from_secs(5), Duration::from_millis(1));
        assert_eq!(asked(&mut cache, &prefixes), prefixes);
    }

    #[test]
    fn refused_listing_backs_off() {
        let now = Instant::now();
        let (mut backoff, first) = (ListingBackoff::default(), Duration::from_secs(30));
        assert!(backoff.may_retry(now));
        for pause in [30, 60, 120, 240, 480, 960, 1920, 3600, 3600].map(Duration::from_secs) {
            backoff.fail(now, first);
            assert!(!backoff.may_retry(now + pause - Duration::from_nanos(1)), "{pause:?}");
            assert!(backoff.may_retry(now + pause), "{pause:?}");
        }
    }
}
