//! Model of VPP with the rules of the real one, delayed answers, and external edits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use maglev_core::dataplane::{
    ANY_PROTOCOL, ActualAs, ActualState, ActualVip, Encap, LbConf, Step, VipKey, VipPlan,
};
use maglev_core::state::{Input, ListedVip, Output};
use maglev_core::view::VppInfo;

pub const CONF: LbConf = LbConf {
    ipv4_src: Ipv4Addr::new(192, 0, 2, 254),
    ipv6_src: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x254),
    sticky_buckets_per_core: 65536,
    flow_timeout: 40,
};

#[derive(Debug)]
pub struct VppModel {
    pub pid: u32,
    pub is_connected: bool,
    pub conf: LbConf,
    pub vips: BTreeMap<VipKey, VipModel>,
    /// Logical time, incremented by every input.
    pub now: u64,
    pub work: Vec<PendingWork>,
    /// Number of steps before VPP rejects one.
    pub refuse_after: Option<u8>,
    /// Addresses of externally edited VIPs: plans for them may be out of date.
    pub edited: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct VipModel {
    pub encap: Encap,
    pub table_length: u32,
    /// `None` if another `maglevd` created the VIP: the present one cannot know.
    pub src_ip_sticky: Option<bool>,
    pub servers: BTreeMap<IpAddr, ServerModel>,
}

/// Model of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerModel {
    pub weight: u8,
    pub added: u64,
    /// Time of the last flush or addition whose answer the core got.
    pub flushed: u64,
    /// True if it had weight since the last flush.
    pub had_weight: bool,
    /// True if it was flushed, but the core has no answer.
    pub flush_unanswered: bool,
    /// True if the present `maglevd` found it without weight, and has not flushed it since.
    pub idle: bool,
}

impl ServerModel {
    fn new(weight: u8, now: u64) -> Self {
        Self { weight, added: now, flushed: 0, had_weight: weight > 0, flush_unanswered: false, idle: false }
    }

    fn set(&mut self, weight: u8, flush: bool) {
        self.weight = weight;
        self.flush_unanswered |= flush;
        self.idle &= !flush;
        self.had_weight = self.had_weight && !flush || weight > 0;
    }
}

/// A request in flight.
#[derive(Debug)]
pub enum PendingWork {
    /// Not processed. With the flag, the VIP of the plan must keep some weight.
    Requested(Output, bool),
    /// Processed; the core has no answer yet.
    Done(Input),
}

/// A change by another program.
#[derive(Clone, Debug)]
pub enum ExternalEdit {
    Weight(usize, usize, u8),
    RemoveServer(usize, usize),
    AddServer(usize),
    RemoveVip(usize),
    /// The VIP is created again, empty and with the other encapsulation.
    Remake(usize),
    /// A foreign VIP, on the address of a frontend or on another.
    Foreign(usize, bool),
    RemoveForeign,
    Conf,
}

/// Port of every foreign VIP; no frontend has it.
const FOREIGN_PORT: u16 = 9999;

pub fn is_foreign(vip: &VipKey) -> bool {
    vip.port == FOREIGN_PORT
}

/// Returns VPP's error for the creation of `new` beside `other`.
pub fn refusal(other: (&VipKey, Encap), new: (&VipKey, Encap)) -> Option<&'static str> {
    let ((old, old_encap), (new, new_encap)) = (other, new);
    if (old.address, old.prefix_len) != (new.address, new.prefix_len) {
        return None;
    }
    if old == new || old.protocol == ANY_PROTOCOL || new.protocol == ANY_PROTOCOL {
        return Some("VALUE_EXIST");
    }
    (old_encap != new_encap).then_some("INVALID_ARGUMENT")
}

impl VipModel {
    pub fn weight(&self) -> u32 {
        self.servers.values().map(|s| u32::from(s.weight)).sum()
    }

    fn as_read(&self) -> ActualVip {
        ActualVip {
            encap: self.encap,
            table_length: Some(self.table_length),
            src_ip_sticky: None,
            servers: self
                .servers
                .iter()
                .map(|(a, s)| (*a, ActualAs { weight: s.weight, buckets: 0 }))
                .collect(),
        }
    }
}

impl VppModel {
    pub fn new() -> Self {
        Self {
            pid: 1,
            is_connected: false,
            conf: LbConf { flow_timeout: 40, sticky_buckets_per_core: 1024, ..CONF },
            vips: BTreeMap::new(),
            now: 0,
            work: Vec::new(),
            refuse_after: None,
            edited: BTreeSet::new(),
        }
    }

    pub fn info(&self) -> VppInfo {
        VppInfo { version: "26.10".into(), build_date: String::new(), pid: self.pid, boot: None }
    }

    /// Restarts VPP.
    pub fn restart(&mut self) {
        *self = Self { pid: self.pid + 1, now: self.now, ..Self::new() };
    }

    /// Records that another `maglevd` has taken over, which knows only its own reads.
    pub fn controller_restarted(&mut self) {
        for vip in self.vips.values_mut() {
            vip.src_ip_sticky = None;
            vip.servers.values_mut().for_each(|s| (s.had_weight, s.idle) = (s.weight > 0, s.weight == 0));
        }
    }

    /// Cuts the connection: VPP processes some requests, and all answers are lost.
    pub fn cut(&mut self) {
        self.is_connected = false;
        self.refuse_after = Some(1);
        for work in std::mem::take(&mut self.work) {
            if let PendingWork::Requested(asked, keeps) = work {
                self.answer(asked, keeps);
            }
        }
        self.refuse_after = None;
    }

    /// Returns VPP's error for the creation of this VIP.
    pub fn refuses(&self, vip: &VipKey, encap: Encap) -> Option<&'static str> {
        self.vips.iter().find_map(|(other, found)| refusal((other, found.encap), (vip, encap)))
    }

    /// Reports whether a VIP has a request in flight.
    pub fn is_busy(&self, vip: &VipKey) -> bool {
        self.work.iter().any(|work| match work {
            PendingWork::Requested(Output::Apply(plan), _) => plan.vip == *vip,
            PendingWork::Requested(Output::ReadVip(v) | Output::ReadServers(v), _)
            | PendingWork::Done(
                Input::StepsApplied { vip: v, .. } | Input::VipRead(v, _) | Input::ServersRead(v, _),
            ) => v == vip,
            PendingWork::Requested(..) | PendingWork::Done(_) => false,
        })
    }

    pub fn answer(&mut self, asked: Output, keeps: bool) -> Input {
        match asked {
            Output::ReadAll => {
                let vips = self.vips.iter().map(|(vip, found)| (*vip, found.as_read())).collect();
                Input::AllRead(ActualState { conf: Some(self.conf), vips })
            }
            Output::ListVips => {
                let listed = |(vip, found): (&VipKey, &VipModel)| {
                    (*vip, ListedVip { encap: found.encap, table_length: Some(found.table_length) })
                };
                Input::VipsListed(Some(self.conf), self.vips.iter().map(listed).collect())
            }
            Output::ReadServers(vip) => {
                let servers = self.vips.get(&vip).map(|found| found.as_read().servers);
                Input::ServersRead(vip, servers.unwrap_or_default())
            }
            Output::ReadVip(vip) => Input::VipRead(vip, self.vips.get(&vip).map(VipModel::as_read)),
            Output::SetConf(conf) => {
                let refused = self.refuse_next();
                if !refused {
                    self.conf = conf;
                }
                Input::ConfSet(refused.then(|| "UNSPECIFIED".into()))
            }
            Output::Apply(plan) => self.apply_plan(&plan, keeps),
            other => panic!("not a request to VPP: {other:?}"),
        }
    }

    fn apply_plan(&mut self, plan: &VipPlan, keeps: bool) -> Input {
        let vip = plan.vip;
        let edited = self.edited.contains(&vip.address);
        let resets = plan.steps.iter().any(|s| matches!(s, Step::RemoveVip | Step::CreateVip { .. }));
        for (done, step) in plan.steps.iter().enumerate() {
            if self.refuse_next() {
                return Input::StepsApplied { vip, done, error: Some("UNSPECIFIED".into()) };
            }
            let before = self.vips.get(&vip).map_or(0, VipModel::weight);
            if let Err(error) = self.make(vip, step) {
                assert!(edited, "{vip}: {step}: {error}");
                return Input::StepsApplied { vip, done, error: Some(error.into()) };
            }
            let after = self.vips.get(&vip).map_or(0, VipModel::weight);
            assert!(
                !keeps || edited || resets || before == 0 || after > 0,
                "{vip} is empty after {step}: {plan:?}"
            );
        }
        Input::StepsApplied { vip, done: plan.steps.len(), error: None }
    }

    fn refuse_next(&mut self) -> bool {
        match &mut self.refuse_after {
            None => false,
            Some(0) => {
                self.refuse_after = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn make(&mut self, vip: VipKey, step: &Step) -> Result<(), &'static str> {
        if let Step::CreateVip { encap, src_ip_sticky, table_length } = *step {
            if let Some(error) = self.refuses(&vip, encap) {
                return Err(error);
            }
            if !table_length.is_power_of_two() {
                return Err("INVALID_MEMORY_SIZE");
            }
            let src_ip_sticky = Some(src_ip_sticky);
            self.vips.insert(vip, VipModel { encap, table_length, src_ip_sticky, servers: BTreeMap::new() });
            return Ok(());
        }
        let found = self.vips.get_mut(&vip).ok_or("NO_SUCH_ENTRY")?;
        match *step {
            Step::CreateVip { .. } => {}
            Step::RemoveVip => _ = self.vips.remove(&vip),
            Step::AddAs { server, weight } => {
                if server.is_ipv4() != (found.encap == Encap::Gre4) {
                    return Err("INVALID_ADDRESS_FAMILY");
                }
                if found.servers.contains_key(&server) {
                    return Err("VALUE_EXIST");
                }
                found.servers.insert(server, ServerModel::new(weight, self.now));
            }
            Step::SetWeight { server, to, flush, .. } => {
                found.servers.get_mut(&server).ok_or("NO_SUCH_ENTRY")?.set(to, flush);
            }
            Step::RemoveAs { server } => _ = found.servers.remove(&server).ok_or("NO_SUCH_ENTRY")?,
        }
        Ok(())
    }

    pub fn edit(&mut self, edit: &ExternalEdit) {
        match *edit {
            ExternalEdit::Weight(vip, server, weight) => {
                if let Some(server) = nth(self.vip(vip).map(|v| &mut v.servers), server) {
                    server.1.set(weight, false);
                }
            }
            ExternalEdit::RemoveServer(vip, server) => {
                if let Some(found) = self.vip(vip)
                    && let Some((server, _)) = nth(Some(&mut found.servers), server)
                {
                    found.servers.remove(&server);
                }
            }
            ExternalEdit::AddServer(vip) => {
                let now = self.now;
                if let Some(found) = self.vip(vip) {
                    let server = if found.encap == Encap::Gre4 { "192.0.2.250" } else { "2001:db8:1::250" };
                    found.servers.insert(server.parse().unwrap(), ServerModel::new(3, now));
                }
            }
            ExternalEdit::RemoveVip(vip) => {
                if let Some((vip, _)) = nth(Some(&mut self.vips), vip) {
                    self.edited.insert(vip.address);
                    self.vips.remove(&vip);
                }
            }
            ExternalEdit::Remake(vip) => self.remake(vip),
            ExternalEdit::Foreign(vip, elsewhere) => self.add_foreign(vip, elsewhere),
            ExternalEdit::RemoveForeign => {
                self.edited.extend(self.vips.keys().filter(|v| is_foreign(v)).map(|v| v.address));
                self.vips.retain(|vip, _| !is_foreign(vip));
            }
            ExternalEdit::Conf => self.conf.flow_timeout = 77,
        }
    }

    fn remake(&mut self, vip: usize) {
        let Some((vip, found)) = nth(Some(&mut self.vips), vip) else { return };
        let (encap, table_length) = (found.encap, found.table_length);
        let encap = if encap == Encap::Gre4 { Encap::Gre6 } else { Encap::Gre4 };
        let made = VipModel { encap, table_length, src_ip_sticky: None, servers: BTreeMap::new() };
        let before = self.vips.remove(&vip);
        if self.refuses(&vip, encap).is_none() {
            self.edited.insert(vip.address);
            self.vips.insert(vip, made);
        } else {
            self.vips.extend(before.map(|found| (vip, found)));
        }
    }

    fn add_foreign(&mut self, beside: usize, elsewhere: bool) {
        let ours = nth(Some(&mut self.vips), beside).map(|(vip, found)| (vip.address, found.encap));
        let (address, encap) = match ours {
            Some(ours) if !elsewhere => ours,
            _ => (Ipv4Addr::new(203, 0, 113, 200).into(), Encap::Gre4),
        };
        let vip = VipKey::host(address, 6, FOREIGN_PORT);
        if self.refuses(&vip, encap).is_some() {
            return;
        }
        let server = if encap == Encap::Gre4 { "192.0.2.251" } else { "2001:db8:1::251" };
        let servers = [(server.parse().unwrap(), ServerModel::new(9, self.now))].into();
        self.edited.insert(address);
        self.vips.insert(vip, VipModel { encap, table_length: 1024, src_ip_sticky: None, servers });
    }

    /// Returns the `index`th VIP, and marks it as edited.
    fn vip(&mut self, index: usize) -> Option<&mut VipModel> {
        let (vip, found) = nth(Some(&mut self.vips), index)?;
        self.edited.insert(vip.address);
        Some(found)
    }
}

/// Returns an entry of a map by index, modulo its size.
fn nth<K: Copy + Ord, V>(map: Option<&mut BTreeMap<K, V>>, index: usize) -> Option<(K, &mut V)> {
    let map = map?;
    let index = index.checked_rem(map.len())?;
    map.iter_mut().nth(index).map(|(key, value)| (*key, value))
}
