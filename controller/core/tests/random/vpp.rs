//! A VPP that keeps the rules of the real one, takes its time, and can be edited by hand.

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
pub struct Vpp {
    pub pid: u32,
    pub linked: bool,
    pub conf: LbConf,
    pub vips: BTreeMap<VipKey, Vip>,
    /// Grows with everything that happens.
    pub now: u64,
    pub work: Vec<Work>,
    /// How many steps are made before one is refused.
    pub refuse_after: Option<u8>,
    /// Addresses of VIPs that somebody else has changed: what is planned for them may come too late.
    pub edited: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct Vip {
    pub encap: Encap,
    pub table_length: u32,
    /// `None` when it was not made by the `maglevd` that runs now, which then cannot know.
    pub src_ip_sticky: Option<bool>,
    pub servers: BTreeMap<IpAddr, Server>,
}

/// A server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    pub weight: u8,
    pub added: u64,
    /// When it was last flushed or added, as far as `maglevd` has heard.
    pub flushed: u64,
    /// Whether it had weight since it was last flushed.
    pub dirty: bool,
    /// Whether it was flushed without `maglevd` having heard of it.
    pub unheard: bool,
    /// Whether the `maglevd` that runs now has found it without weight, and it was not flushed since.
    pub idle: bool,
}

impl Server {
    fn new(weight: u8, now: u64) -> Self {
        Self { weight, added: now, flushed: 0, dirty: weight > 0, unheard: false, idle: false }
    }

    fn set(&mut self, weight: u8, flush: bool) {
        self.weight = weight;
        self.unheard |= flush;
        self.idle &= !flush;
        self.dirty = self.dirty && !flush || weight > 0;
    }
}

/// Something that VPP was asked.
#[derive(Debug)]
pub enum Work {
    /// It was not looked at. The VIP of a run must keep some weight if the flag says so.
    Asked(Output, bool),
    /// It is done, but nobody has heard of it.
    Done(Input),
}

/// Somebody else's doing.
#[derive(Clone, Debug)]
pub enum Edit {
    Weight(usize, usize, u8),
    RemoveServer(usize, usize),
    AddServer(usize),
    RemoveVip(usize),
    /// The VIP is made anew, with the other encapsulation, and empty.
    Remake(usize),
    /// A VIP that is nobody's, on an address of ours or on another.
    Foreign(usize, bool),
    RemoveForeign,
    Conf,
}

/// The port of every foreign VIP; no frontend has it.
const FOREIGN_PORT: u16 = 9999;

pub fn is_foreign(vip: &VipKey) -> bool {
    vip.port == FOREIGN_PORT
}

/// VPP's word for why it does not create `new` beside `other`.
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

impl Vip {
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

impl Vpp {
    pub fn new() -> Self {
        Self {
            pid: 1,
            linked: false,
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

    /// It dies, and another takes its place.
    pub fn restart(&mut self) {
        *self = Self { pid: self.pid + 1, now: self.now, ..Self::new() };
    }

    /// Another `maglevd` works on it, and knows only what it is told.
    pub fn is_new_to_us(&mut self) {
        for vip in self.vips.values_mut() {
            vip.src_ip_sticky = None;
            vip.servers.values_mut().for_each(|s| (s.dirty, s.idle) = (s.weight > 0, s.weight == 0));
        }
    }

    /// The link is cut: of what it was asked, it does some, and nobody hears of it.
    pub fn cut(&mut self) {
        self.linked = false;
        self.refuse_after = Some(1);
        for work in std::mem::take(&mut self.work) {
            if let Work::Asked(asked, keeps) = work {
                self.answer(asked, keeps);
            }
        }
        self.refuse_after = None;
    }

    /// Why VPP would not create this VIP now.
    pub fn refuses(&self, vip: &VipKey, encap: Encap) -> Option<&'static str> {
        self.vips.iter().find_map(|(other, found)| refusal((other, found.encap), (vip, encap)))
    }

    /// Whether something is under way for a VIP.
    pub fn works_on(&self, vip: &VipKey) -> bool {
        self.work.iter().any(|work| match work {
            Work::Asked(Output::Apply(run), _) => run.vip == *vip,
            Work::Asked(Output::ReadVip(v) | Output::ReadServers(v), _)
            | Work::Done(
                Input::StepsApplied { vip: v, .. } | Input::VipRead(v, _) | Input::ServersRead(v, _),
            ) => v == vip,
            Work::Asked(..) | Work::Done(_) => false,
        })
    }

    pub fn answer(&mut self, asked: Output, keeps: bool) -> Input {
        match asked {
            Output::ReadAll => {
                let vips = self.vips.iter().map(|(vip, found)| (*vip, found.as_read())).collect();
                Input::AllRead(ActualState { conf: Some(self.conf), vips })
            }
            Output::ListVips => {
                let listed = |(vip, found): (&VipKey, &Vip)| {
                    (*vip, ListedVip { encap: found.encap, table_length: Some(found.table_length) })
                };
                Input::VipsListed(Some(self.conf), self.vips.iter().map(listed).collect())
            }
            Output::ReadServers(vip) => {
                let servers = self.vips.get(&vip).map(|found| found.as_read().servers);
                Input::ServersRead(vip, servers.unwrap_or_default())
            }
            Output::ReadVip(vip) => Input::VipRead(vip, self.vips.get(&vip).map(Vip::as_read)),
            Output::SetConf(conf) => {
                let refused = self.refuse_next();
                if !refused {
                    self.conf = conf;
                }
                Input::ConfSet(refused.then(|| "UNSPECIFIED".into()))
            }
            Output::Apply(run) => self.run(&run, keeps),
            other => panic!("not asked of VPP: {other:?}"),
        }
    }

    fn run(&mut self, run: &VipPlan, keeps: bool) -> Input {
        let vip = run.vip;
        let edited = self.edited.contains(&vip.address);
        let resets = run.steps.iter().any(|s| matches!(s, Step::RemoveVip | Step::CreateVip { .. }));
        for (done, step) in run.steps.iter().enumerate() {
            if self.refuse_next() {
                return Input::StepsApplied { vip, done, error: Some("UNSPECIFIED".into()) };
            }
            let before = self.vips.get(&vip).map_or(0, Vip::weight);
            if let Err(error) = self.make(vip, step) {
                assert!(edited, "{vip}: {step}: {error}");
                return Input::StepsApplied { vip, done, error: Some(error.into()) };
            }
            let after = self.vips.get(&vip).map_or(0, Vip::weight);
            assert!(
                !keeps || edited || resets || before == 0 || after > 0,
                "{vip} is empty after {step}: {run:?}"
            );
        }
        Input::StepsApplied { vip, done: run.steps.len(), error: None }
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
            self.vips.insert(vip, Vip { encap, table_length, src_ip_sticky, servers: BTreeMap::new() });
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
                found.servers.insert(server, Server::new(weight, self.now));
            }
            Step::SetWeight { server, to, flush, .. } => {
                found.servers.get_mut(&server).ok_or("NO_SUCH_ENTRY")?.set(to, flush);
            }
            Step::RemoveAs { server } => _ = found.servers.remove(&server).ok_or("NO_SUCH_ENTRY")?,
        }
        Ok(())
    }

    pub fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Weight(vip, server, weight) => {
                if let Some(server) = nth(self.vip(vip).map(|v| &mut v.servers), server) {
                    server.1.set(weight, false);
                }
            }
            Edit::RemoveServer(vip, server) => {
                if let Some(found) = self.vip(vip)
                    && let Some((server, _)) = nth(Some(&mut found.servers), server)
                {
                    found.servers.remove(&server);
                }
            }
            Edit::AddServer(vip) => {
                let now = self.now;
                if let Some(found) = self.vip(vip) {
                    let server = if found.encap == Encap::Gre4 { "192.0.2.250" } else { "2001:db8:1::250" };
                    found.servers.insert(server.parse().unwrap(), Server::new(3, now));
                }
            }
            Edit::RemoveVip(vip) => {
                if let Some((vip, _)) = nth(Some(&mut self.vips), vip) {
                    self.edited.insert(vip.address);
                    self.vips.remove(&vip);
                }
            }
            Edit::Remake(vip) => self.remake(vip),
            Edit::Foreign(vip, elsewhere) => self.add_foreign(vip, elsewhere),
            Edit::RemoveForeign => {
                self.edited.extend(self.vips.keys().filter(|v| is_foreign(v)).map(|v| v.address));
                self.vips.retain(|vip, _| !is_foreign(vip));
            }
            Edit::Conf => self.conf.flow_timeout = 77,
        }
    }

    fn remake(&mut self, vip: usize) {
        let Some((vip, found)) = nth(Some(&mut self.vips), vip) else { return };
        let (encap, table_length) = (found.encap, found.table_length);
        let encap = if encap == Encap::Gre4 { Encap::Gre6 } else { Encap::Gre4 };
        let made = Vip { encap, table_length, src_ip_sticky: None, servers: BTreeMap::new() };
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
        let servers = [(server.parse().unwrap(), Server::new(9, self.now))].into();
        self.edited.insert(address);
        self.vips.insert(vip, Vip { encap, table_length: 1024, src_ip_sticky: None, servers });
    }

    /// The `index`th VIP, to be edited.
    fn vip(&mut self, index: usize) -> Option<&mut Vip> {
        let (vip, found) = nth(Some(&mut self.vips), index)?;
        self.edited.insert(vip.address);
        Some(found)
    }
}

/// Any one of a map's entries.
fn nth<K: Copy + Ord, V>(map: Option<&mut BTreeMap<K, V>>, index: usize) -> Option<(K, &mut V)> {
    let map = map?;
    let index = index.checked_rem(map.len())?;
    map.iter_mut().nth(index).map(|(key, value)| (*key, value))
}
