//! VPP, as seen from the core: what it has, what is being done to it, and when to look again.
//!
//! At most one thing is under way per VIP. What changes meanwhile is looked at when it ends, so VPP sees the latest
//! state and not each step on the way there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{Alarm, Listed, Output, State, Turn};
use crate::config::ForeignVips;
use crate::dataplane::{Actual, ActualAs, ActualVip, Encap, LbConf, Run, Step, VipKey};
use crate::event::{Counts, Kind};
use crate::plan;
use crate::time::{Now, Wall};
use crate::view::VppInfo;

/// The pause after the first failure; it doubles with each one that follows, up to `sync-interval`.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// VPP, as seen from the core.
#[derive(Clone, Debug)]
pub(super) struct Sync {
    pub enabled: bool,
    pub info: Option<VppInfo>,
    pub since: Wall,
    /// What it was last seen to have, with what was done to it since. Outlives the connection.
    pub seen: Option<Actual>,
    /// Whether `seen` is of this connection.
    pub current: bool,
    pub failures: BTreeMap<VipKey, Failure>,
    /// VIPs that were ours until a reload, and go whatever becomes of foreign ones.
    pub retired: BTreeSet<VipKey>,
    /// VIPs whose address VPP has on an interface of its own, as of this connection.
    pub shadowed: BTreeSet<VipKey>,
    jobs: BTreeMap<VipKey, Job>,
    /// While VPP is being asked for its VIPs: those to which something was done since, so that the answer is stale.
    listing: Option<BTreeSet<VipKey>>,
    conf: ConfJob,
    /// The last VIP that was compared with what VPP has.
    cursor: Option<VipKey>,
    /// Tells one life of VPP from the next.
    life: Option<(u32, Option<Wall>)>,
    /// What src-ip-sticky is in VPP, which does not tell.
    sticky: BTreeMap<VipKey, bool>,
}

/// A VIP's last runs, all of which failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub error: String,
    times: u32,
}

/// What is under way for a VIP.
#[derive(Clone, Debug)]
enum Job {
    Running(Vec<Step>),
    Reading,
    /// For its alarm, after a failure.
    Waiting,
}

/// What is under way for VPP's global settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ConfJob {
    Idle { failures: u32 },
    Sent(LbConf, u32),
}

impl Sync {
    pub const fn new(enabled: bool, now: Now) -> Self {
        Self {
            enabled,
            info: None,
            since: now.wall,
            seen: None,
            current: false,
            failures: BTreeMap::new(),
            retired: BTreeSet::new(),
            shadowed: BTreeSet::new(),
            jobs: BTreeMap::new(),
            listing: None,
            conf: ConfJob::Idle { failures: 0 },
            cursor: None,
            life: None,
            sticky: BTreeMap::new(),
        }
    }

    /// What VPP was last seen to have, if that is of this connection.
    pub fn now(&self) -> Option<&Actual> {
        self.seen.as_ref().filter(|_| self.current)
    }

    /// Nothing is under way any more, and what VPP has is to be read before anything is.
    pub fn forget_jobs(&mut self) {
        self.current = false;
        self.jobs.clear();
        self.failures.clear();
        self.listing = None;
        self.conf = ConfJob::Idle { failures: 0 };
    }

    fn found(&self, vip: &VipKey) -> Option<&ActualVip> {
        self.now()?.vips.get(vip)
    }

    fn begin(&mut self, vip: VipKey, job: Job) {
        self.jobs.insert(vip, job);
        if let Some(touched) = &mut self.listing {
            touched.insert(vip);
        }
    }

    /// Whether no VIP that VPP has keeps it from creating this one.
    fn may_create(&self, vip: &VipKey, encap: Encap) -> bool {
        let neighbours = |key: &&VipKey| key.same_prefix(vip);
        let Some(actual) = self.now() else { return false };
        let first = VipKey { protocol: 0, port: 0, prefix_len: 0, ..*vip };
        let of_address = actual.vips.range(first..).take_while(|(key, _)| key.address == vip.address);
        !of_address
            .filter(|(key, _)| neighbours(key))
            .any(|(key, found)| plan::forbids((key, found.encap), (vip, encap)))
    }
}

/// Between one failure and the next try.
fn backoff(failures: u32, longest: Duration) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest)
}

impl State {
    pub(super) fn vpp_up(&mut self, info: VppInfo, turn: &mut Turn) {
        let life = Some((info.pid, info.boot));
        if self.sync.life != life {
            // Another VPP has no flows of ours to flush.
            self.frontends.iter_mut().for_each(|f| f.flush_due.clear());
            self.sync.sticky.clear();
            self.sync.life = life;
        }
        self.sync.info = Some(info);
        self.sync.since = turn.now.wall;
        self.sync.current = false;
        turn.event(Kind::Vpp { connected: true });
        turn.out.push(Output::ReadAll);
    }

    pub(super) fn vpp_down(&mut self, turn: &mut Turn) {
        if self.sync.info.take().is_none() {
            return;
        }
        self.sync.since = turn.now.wall;
        self.sync.forget_jobs();
        self.sync.shadowed.clear();
        turn.event(Kind::Vpp { connected: false });
    }

    pub(super) fn all_read(&mut self, mut actual: Actual, turn: &mut Turn) {
        for (vip, found) in &mut actual.vips {
            found.src_ip_sticky = Some(self.sticky_belief(vip));
        }
        self.sync.seen = Some(actual);
        self.sync.current = true;
        self.sync_all(turn);
        self.schedule_drift_check(turn);
    }

    /// Brings VPP's settings and every VIP to what they should be.
    pub(super) fn sync_all(&mut self, turn: &mut Turn) {
        self.sync_conf(turn);
        let ours = self.vips.keys().copied();
        let there = self.sync.now().into_iter().flat_map(|actual| actual.vips.keys().copied());
        let vips: BTreeSet<_> = ours.chain(there).collect();
        for vip in vips {
            self.sync_vip(vip, turn);
        }
    }

    /// Starts the steps that bring a VIP to what it should be, unless something is under way for it already.
    pub(super) fn sync_vip(&mut self, vip: VipKey, turn: &mut Turn) {
        if !self.sync.current || self.sync.jobs.contains_key(&vip) {
            return;
        }
        let steps = self.steps(vip, turn.now);
        if steps.is_empty() {
            self.sync.failures.remove(&vip);
            return;
        }
        self.sync.begin(vip, Job::Running(steps.clone()));
        turn.out.push(Output::Run(Run { vip, steps }));
    }

    fn steps(&self, vip: VipKey, now: Now) -> Vec<Step> {
        let found = self.sync.found(&vip);
        let Some(index) = self.vips.get(&vip) else {
            let goes = self.config.lb.foreign_vips == ForeignVips::Remove || self.sync.retired.contains(&vip);
            return if goes { plan::plan(None, found, false) } else { Vec::new() };
        };
        let wanted = self.desired(&self.frontends[*index], found, now.mono);
        let may_create = self.sync.may_create(&vip, wanted.encap);
        plan::plan(Some(&wanted), found, may_create)
    }

    pub(super) fn ran(&mut self, vip: VipKey, done: usize, error: Option<String>, turn: &mut Turn) {
        let Some(Job::Running(steps)) = self.sync.jobs.remove(&vip) else { return };
        let done = done.min(steps.len());
        let (made, left) = steps.split_at(done);
        self.note_made(vip, made);
        if !made.is_empty() {
            turn.event(Kind::Synced { vip, counts: Counts::of(made) });
        }
        if let (Some(error), Some(step)) = (error, left.first()) {
            self.failed(vip, *step, error, turn);
        } else {
            self.sync.failures.remove(&vip);
            self.sync_vip(vip, turn);
        }
        if made.contains(&Step::RemoveVip) {
            self.sync_neighbours(vip, turn);
        }
    }

    /// Writes down what VPP has done.
    fn note_made(&mut self, vip: VipKey, made: &[Step]) {
        let Some(actual) = &mut self.sync.seen else { return };
        let mut found = actual.vips.remove(&vip);
        let frontend = self.vips.get(&vip).copied();
        for step in made {
            plan::apply(step, &mut found);
            match step {
                Step::CreateVip { src_ip_sticky, .. } => _ = self.sync.sticky.insert(vip, *src_ip_sticky),
                Step::RemoveVip => {
                    self.sync.sticky.remove(&vip);
                    self.sync.retired.remove(&vip);
                }
                Step::AddAs { server, .. }
                | Step::RemoveAs { server }
                | Step::SetWeight { server, flush: true, .. } => {
                    if let Some(frontend) = frontend {
                        self.frontends[frontend].flush_due.remove(server);
                    }
                }
                Step::SetWeight { flush: false, .. } => {}
            }
        }
        if let Some(mut found) = found {
            found.deal();
            actual.vips.insert(vip, found);
        }
    }

    fn failed(&mut self, vip: VipKey, step: Step, error: String, turn: &mut Turn) {
        let times = self.sync.failures.get(&vip).map_or(0, |f| f.times) + 1;
        self.sync.failures.insert(vip, Failure { error: error.clone(), times });
        self.sync.begin(vip, Job::Waiting);
        let pause = backoff(times, self.config.lb.sync_interval);
        self.alarm(turn, pause, Alarm::Retry(vip));
        turn.event(Kind::StepFailed { vip, step, error });
    }

    pub(super) fn retry(&mut self, vip: VipKey, turn: &mut Turn) {
        if let Some(Job::Waiting) = self.sync.jobs.get(&vip) {
            self.sync.begin(vip, Job::Reading);
            turn.out.push(Output::ReadVip(vip));
        }
    }

    pub(super) fn vip_read(&mut self, vip: VipKey, found: Option<ActualVip>, turn: &mut Turn) {
        let Some(Job::Reading) = self.sync.jobs.remove(&vip) else { return };
        let sticky = self.sticky_belief(&vip);
        let Some(actual) = &mut self.sync.seen else { return };
        let before = actual.vips.remove(&vip);
        if let Some(found) = found {
            actual.vips.insert(vip, ActualVip { src_ip_sticky: Some(sticky), ..found });
        } else {
            self.sync.sticky.remove(&vip);
            if before.is_some() {
                turn.event(Kind::Drift { vip });
            }
        }
        self.sync_vip(vip, turn);
    }

    /// VIPs that may have waited for this one to go.
    fn sync_neighbours(&mut self, gone: VipKey, turn: &mut Turn) {
        let neighbours: Vec<_> = self.vips.keys().filter(|vip| vip.same_prefix(&gone)).copied().collect();
        for vip in neighbours {
            self.sync_vip(vip, turn);
        }
    }

    pub(super) fn sync_conf(&mut self, turn: &mut Turn) {
        let (Some(actual), ConfJob::Idle { failures }) = (self.sync.now(), self.sync.conf) else { return };
        let wanted = self.config.lb.conf;
        if actual.conf != Some(wanted) {
            self.sync.conf = ConfJob::Sent(wanted, failures);
            turn.out.push(Output::SetConf(wanted));
        }
    }

    pub(super) fn conf_set(&mut self, error: Option<String>, turn: &mut Turn) {
        let ConfJob::Sent(conf, failures) = self.sync.conf else { return };
        turn.event(Kind::ConfSent { error: error.clone() });
        if error.is_some() {
            self.sync.conf = ConfJob::Idle { failures: failures + 1 };
            let pause = backoff(failures + 1, self.config.lb.sync_interval);
            self.alarm(turn, pause, Alarm::RetryConf);
            return;
        }
        self.sync.conf = ConfJob::Idle { failures: 0 };
        if let Some(actual) = &mut self.sync.seen {
            actual.conf = Some(conf);
        }
        self.sync_conf(turn);
    }

    fn schedule_drift_check(&mut self, turn: &Turn) {
        self.alarms.retain(|(_, alarm)| *alarm != Alarm::Drift);
        let checks = u32::try_from(self.vips.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.alarm(turn, self.config.lb.sync_interval / checks, Alarm::Drift);
    }

    /// Compares the next VIP with what VPP has; after the last one, VPP's list of VIPs with ours.
    pub(super) fn next_drift_check(&mut self, turn: &mut Turn) {
        if !self.sync.current {
            return;
        }
        self.schedule_drift_check(turn);
        let after = self.sync.cursor.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
        let next = self.vips.range((after, core::ops::Bound::Unbounded)).next().map(|(vip, _)| *vip);
        self.sync.cursor = next;
        match next {
            Some(vip) => self.read_servers(vip, turn),
            None => self.list(turn),
        }
    }

    /// Compares everything with what VPP has, at once.
    pub(super) fn resync(&mut self, turn: &mut Turn) {
        if !self.sync.current {
            return;
        }
        self.list(turn);
        let vips: Vec<_> = self.vips.keys().copied().collect();
        for vip in vips {
            self.read_servers(vip, turn);
        }
    }

    fn read_servers(&mut self, vip: VipKey, turn: &mut Turn) {
        if self.sync.found(&vip).is_some() && !self.sync.jobs.contains_key(&vip) {
            self.sync.begin(vip, Job::Reading);
            turn.out.push(Output::ReadServers(vip));
        }
    }

    fn list(&mut self, turn: &mut Turn) {
        if self.sync.listing.is_none() {
            self.sync.listing = Some(BTreeSet::new());
            turn.out.push(Output::List);
        }
    }

    pub(super) fn servers_read(&mut self, vip: VipKey, servers: BTreeMap<IpAddr, ActualAs>, turn: &mut Turn) {
        let Some(Job::Reading) = self.sync.jobs.get(&vip) else { return };
        let Some(found) = self.sync.seen.as_mut().and_then(|actual| actual.vips.get_mut(&vip)) else {
            return;
        };
        if servers.is_empty() && !found.servers.is_empty() {
            // Without servers the answer does not tell whether the VIP itself is still there.
            turn.out.push(Output::ReadVip(vip));
            return;
        }
        let weights = |servers: &BTreeMap<IpAddr, ActualAs>| -> Vec<_> {
            servers.iter().map(|(server, s)| (*server, s.weight)).collect()
        };
        // A VIP without servers was found just now, and told of.
        let drifted = !found.servers.is_empty() && weights(&servers) != weights(&found.servers);
        found.servers = servers;
        self.sync.jobs.remove(&vip);
        if drifted {
            turn.event(Kind::Drift { vip });
        }
        self.sync_vip(vip, turn);
    }

    pub(super) fn listed(&mut self, conf: Option<LbConf>, vips: &BTreeMap<VipKey, Listed>, turn: &mut Turn) {
        let Some(touched) = self.sync.listing.take() else { return };
        let Some(actual) = &mut self.sync.seen else { return };
        if matches!(self.sync.conf, ConfJob::Idle { .. }) {
            actual.conf = conf;
        }
        let settled = |vip: &VipKey| !touched.contains(vip) && !self.sync.jobs.contains_key(vip);
        let gone: Vec<_> =
            actual.vips.keys().filter(|v| !vips.contains_key(v) && settled(v)).copied().collect();
        let differs = |(vip, listed): &(&VipKey, &Listed)| {
            settled(vip) && actual.vips.get(vip).is_none_or(|found| found.encap != listed.encap)
        };
        let new: Vec<_> = vips.iter().filter(differs).map(|(vip, listed)| (*vip, *listed)).collect();
        self.sync_conf(turn);
        for vip in gone {
            if let Some(actual) = &mut self.sync.seen {
                actual.vips.remove(&vip);
            }
            self.sync.sticky.remove(&vip);
            turn.event(Kind::Drift { vip });
            self.sync_vip(vip, turn);
        }
        for (vip, listed) in new {
            self.found_vip(vip, listed, turn);
        }
    }

    /// Somebody else has created a VIP, or made one anew: its servers are still to be read.
    fn found_vip(&mut self, vip: VipKey, listed: Listed, turn: &mut Turn) {
        turn.event(Kind::Drift { vip });
        self.sync.sticky.remove(&vip);
        let src_ip_sticky = Some(self.sticky_belief(&vip));
        let Some(actual) = &mut self.sync.seen else { return };
        let Listed { encap, table_length } = listed;
        actual.vips.insert(vip, ActualVip { encap, table_length, src_ip_sticky, servers: BTreeMap::new() });
        self.sync.begin(vip, Job::Reading);
        turn.out.push(Output::ReadServers(vip));
    }

    /// What src-ip-sticky is in VPP: what we have set, or else what the configuration asked for when we found it.
    fn sticky_belief(&mut self, vip: &VipKey) -> bool {
        let asked = self.vips.get(vip).is_some_and(|index| self.frontends[*index].config.src_ip_sticky);
        *self.sync.sticky.entry(*vip).or_insert(asked)
    }
}
