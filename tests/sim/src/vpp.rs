//! VPP: the world of `vppsim`, at the end of pipes.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use maglev_core::time::WallTime;
use maglev_vpp::frame::{self, Splitter};
use maglev_vpp::message::{
    Encap, LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbConf, LbFlushVip, Message, Prefix, Vip,
};
use maglev_vpp::{Client, Error, Options};
use maglevd::vpp::{CLIENT_NAME, ConnectVpp};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::pipe::{Pipe, Reader, Writer};
use super::process::Process;
use super::script::Meddling;
use super::shape::Shape;
use super::site::Site;
use maglev_vppsim::faults::{Faults, Spoil};
use maglev_vppsim::plugin::Crash;
use maglev_vppsim::world::{Birth, Line, Outbox, World};

/// How many bytes are on their way to VPP at most.
const ROOM: usize = 4096;
/// A VIP of somebody else.
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

/// What changes the dataplane.
const WRITES: [&str; 5] =
    [LbConf::NAME, LbAddDelVipV2::NAME, LbAddDelAsV2::NAME, LbAsSetWeight::NAME, LbFlushVip::NAME];

/// VPP, while it runs.
pub struct Running {
    world: World,
    /// Answers nothing before.
    pub hung: Instant,
    /// Dies when it has handled so many more messages.
    pub fuse: Option<u64>,
    /// Refuses nothing after.
    refuses: Instant,
    lines: Vec<Weak<Wire>>,
}

impl Running {
    /// An empty one; as the first process of a container, each has the same number.
    pub fn start(life: u32, is_first: bool) -> Self {
        let pid = if is_first { 1 } else { 1000 + life };
        let birth = Birth { life, pid, boot_time: 1_795_000_000 + u64::from(life) };
        Self {
            world: World::new(birth, Faults::default()),
            hung: Instant::now(),
            fuse: None,
            refuses: Instant::now(),
            lines: Vec::new(),
        }
    }

    /// All its connections end; it lives on, unless it is dropped.
    pub fn hang_up(&mut self) {
        for line in self.lines.drain(..).filter_map(|line| line.upgrade()) {
            line.close();
        }
    }

    /// The next requests of this name are refused, for some time.
    pub fn refuse(&mut self, name: &'static str, times: usize, until: Instant) {
        self.world.faults.refuse(name, -1, times);
        self.refuses = until;
    }

    /// The next answer is wrong.
    pub fn spoil(&mut self, how: u8) {
        let all = [Spoil::Context, Spoil::Kind, Spoil::Short, Spoil::Giant, Spoil::Lost, Spoil::Preceded];
        self.world.faults.spoil = Some(all[usize::from(how) % all.len()]);
    }

    /// All that is wrong with it is over.
    pub fn heal(&mut self) {
        self.world.faults = Faults::default();
        self.fuse = None;
    }

    /// Somebody else changes something.
    pub fn meddle(&mut self, what: Meddling) -> Result<i32, Crash> {
        let now = u32::try_from(self.world.uptime().as_secs()).unwrap_or(u32::MAX);
        let plugin = &mut self.world.plugin;
        plugin.tick(now)?;
        match what {
            Meddling::Weight(frontend, backend, weight) => {
                let (vip, address) = (vip(Shape::vip(frontend)), Shape::address(backend));
                plugin.set_weight(&LbAsSetWeight { vip, address, weight, is_flush: false })
            }
            Meddling::Remove(frontend, backend) => {
                let (vip, address) = (vip(Shape::vip(frontend)), Shape::address(backend));
                plugin.add_del_as(&LbAddDelAsV2::delete(vip, address, true), now)
            }
            Meddling::Stranger => {
                plugin.add_del_vip(&LbAddDelVipV2::add(vip(STRANGER), Encap::Gre4, 1024, false), now)
            }
            Meddling::Conf => {
                let conf = plugin.conf();
                Ok(plugin.configure(&LbConf {
                    ip4_src: conf.ip4_src,
                    ip6_src: conf.ip6_src,
                    sticky_buckets: conf.sticky_buckets,
                    flow_timeout: 77,
                }))
            }
        }
    }

    /// The weights of each VIP's servers.
    pub fn weights(&self) -> BTreeMap<IpAddr, BTreeMap<IpAddr, u8>> {
        let vips = self.world.plugin.view().into_iter().filter(|vip| !vip.removed);
        vips.map(|vip| (vip.vip.prefix.address, vip.weights().into_iter().collect())).collect()
    }

    /// How long it keeps flows: a global setting.
    pub fn flow_timeout(&self) -> u32 {
        self.world.plugin.conf().flow_timeout
    }
}

/// The VIP of a frontend's address.
fn vip(address: IpAddr) -> Vip {
    Vip { prefix: Prefix::host(address), protocol: 6, port: 80 }
}

/// The way back to a client.
struct Wire(Arc<Pipe>);

impl Line for Wire {
    fn close_when_written(&self) {
        self.0.close();
    }

    fn close(&self) {
        self.0.close();
    }

    fn write(&self, bytes: &[u8]) {
        // A client that is gone is noticed by who reads.
        let _ = self.0.send(bytes.to_vec());
    }
}

/// How `maglevd` reaches the VPP that runs, if one does.
pub struct Way {
    /// Where everything is.
    pub site: Arc<Site>,
    /// Whose way it is.
    pub process: Arc<Process>,
}

impl ConnectVpp for Way {
    async fn connect(&self, options: Options) -> Result<Client, Error> {
        let failed = || Error::Connect {
            path: "api.sock".into(),
            reason: Arc::new(io::ErrorKind::ConnectionRefused.into()),
        };
        let (weather, seeds) = (self.site.vpp_weather(), [self.site.seed(), self.site.seed()]);
        let (to, from) = (Pipe::new(&weather, ROOM, seeds[0]), Pipe::new(&weather, 0, seeds[1]));
        let line = Arc::new(Wire(Arc::clone(&from)));
        let slot = self.site.with(|world| {
            let vpp = world.vpp.as_mut()?;
            vpp.lines.retain(|line| line.strong_count() > 0);
            vpp.lines.push(Arc::downgrade(&line));
            let slot = vpp.world.register(Arc::<Wire>::clone(&line));
            Some((slot, vpp.world.birth.life))
        });
        let (slot, life) = slot.ok_or_else(failed)?;
        tokio::spawn(serve(Arc::clone(&self.site), Reader::new(&to), line, slot, life));
        Client::over((Reader::new(&from), Writer::new(&to, &self.process)), CLIENT_NAME, options).await
    }

    async fn boot(&self, _: PathBuf) -> Option<WallTime> {
        let (fails, boot) = self.site.with(|world| {
            let boot = world.vpp.as_ref().map(|vpp| vpp.world.birth.boot_time);
            (world.stats_fail, boot.filter(|_| world.host.stats))
        });
        let boot = boot?;
        if Instant::now() < fails.0 {
            sleep(fails.1).await;
            return None;
        }
        Some(WallTime(boot * 1_000_000_000))
    }
}

/// Serves one connection until it ends.
async fn serve(site: Arc<Site>, mut reader: Reader, line: Arc<Wire>, slot: usize, life: u32) {
    let mut splitter = Splitter::default();
    while let Ok(1..) = reader.read_buf(splitter.space()).await {
        let mut out = Outbox::default();
        loop {
            let payload = match splitter.payload() {
                Ok(Some(payload)) => payload.to_vec(),
                Ok(None) => break,
                Err(_) => return line.close(),
            };
            let hung = site.with(|world| world.vpp.as_ref().map(|vpp| vpp.hung));
            if let Some(hung) = hung {
                sleep_until(hung).await;
            }
            if !handle(&site, slot, life, &payload, &mut out) {
                return line.close();
            }
        }
        for (line, bytes) in out.0 {
            line.write(&bytes);
        }
    }
    line.close();
    site.with(|world| {
        if let Some(vpp) = world.vpp.as_mut().filter(|vpp| vpp.world.birth.life == life) {
            vpp.world.unregister(slot);
        }
    });
}

/// Handles one message. `false`: there is no VPP any more to do so.
fn handle(site: &Site, slot: usize, life: u32, payload: &[u8], out: &mut Outbox) -> bool {
    let (lives, write) = site.with(|world| {
        let Some(vpp) = world.vpp.as_mut().filter(|vpp| vpp.world.birth.life == life) else {
            return (false, None);
        };
        if vpp.fuse == Some(0) {
            return (false, None);
        }
        if vpp.refuses < Instant::now() {
            vpp.world.faults.refusals.clear();
        }
        let before = vpp.world.calls.len();
        if let Err(Crash(why)) = vpp.world.handle(slot, payload, out) {
            world.violations.push(format!("VPP was killed: {why}"));
            return (false, None);
        }
        let write = vpp.world.calls.get(before).filter(|call| WRITES.contains(&call.name));
        let write = write.map(|call| shown(call.name, payload));
        vpp.world.calls.clear();
        if let Some(left) = &mut vpp.fuse {
            *left = left.saturating_sub(1);
            if *left == 0 {
                site.vpp_ended.notify_one();
                return (false, write);
            }
        }
        (true, write)
    });
    if let Some((vip, text)) = write {
        site.written(vip, &text);
    }
    lives
}

/// The VIP that a write is about, and what it says.
fn shown(name: &str, payload: &[u8]) -> (Option<IpAddr>, String) {
    let (vip, text) = match name {
        LbAddDelVipV2::NAME => {
            let Ok((_, LbAddDelVipV2 { vip, is_del, .. })) = frame::decode(payload) else {
                return unknown(name);
            };
            (vip, if is_del { "remove".to_owned() } else { "create".to_owned() })
        }
        LbAddDelAsV2::NAME => {
            let Ok((_, LbAddDelAsV2 { vip, address, weight, is_del, .. })) = frame::decode(payload) else {
                return unknown(name);
            };
            (vip, if is_del { format!("remove {address}") } else { format!("add {address} weight {weight}") })
        }
        LbAsSetWeight::NAME => {
            let Ok((_, LbAsSetWeight { vip, address, weight, is_flush })) = frame::decode(payload) else {
                return unknown(name);
            };
            (vip, format!("{address} weight {weight}{}", if is_flush { ", flush" } else { "" }))
        }
        _ => return unknown(name),
    };
    (Some(vip.prefix.address), format!("{} {text}", vip.prefix.address))
}

fn unknown(name: &str) -> (Option<IpAddr>, String) {
    (None, name.to_owned())
}
