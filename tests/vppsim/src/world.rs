//! One life of the simulated VPP: its plugin, its clients, and what became of each message.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maglev_vpp::frame;
use maglev_vpp::message::*;
use maglev_vpp::wire::{Name, Text};
use tokio::time::Instant;

use super::cli;
use super::faults::{self, Faults};
use super::plugin::{Crash, Plugin};
use super::pool::Pool;
use super::stats::Segment;

/// How many messages [`World::calls`] remembers.
const MAX_CALLS: usize = 100_000;

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The sender's slot.
    pub client: u32,
    /// Without checksum.
    pub name: &'static str,
    /// The message in Rust's debug format.
    pub message: String,
    /// When it arrived.
    pub at: SystemTime,
}

/// Frames on their way out.
#[derive(Default)]
pub struct Outbox(pub Vec<(Arc<dyn Line>, Vec<u8>)>);

/// The way back to a client.
pub trait Line: Send + Sync {
    /// Hangs up once what is on its way is written.
    fn close_when_written(&self);

    /// Hangs up.
    fn close(&self);

    /// Says this, which is whole frames.
    fn write(&self, bytes: &[u8]);
}

/// What tells one life of VPP from another.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Counts restarts. What belongs to an earlier life is dead.
    pub life: u32,
    /// Process id that VPP reports.
    pub pid: u32,
    /// In seconds since 1970.
    pub boot_time: u64,
}

impl Birth {
    /// By the clock of the system, in this process.
    pub fn now(life: u32) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Two lives of one test may begin in the same second.
        Self { life, pid: std::process::id() + life, boot_time: now.as_secs() + u64::from(life) }
    }
}

/// Everything behind the sockets.
pub struct World {
    /// The lb plugin.
    pub plugin: Plugin,
    /// Once there is a socket to hand it out on.
    pub(super) segment: Option<Segment>,
    /// Faults that a test injects.
    pub faults: Faults,
    /// The last messages that arrived.
    pub calls: VecDeque<Call>,
    /// Number of messages by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Reason of the crash, after one.
    pub crashed: Option<String>,
    /// Identity of this run of VPP.
    pub birth: Birth,
    started: Instant,
    advanced: Duration,
    /// Slot 0 is the listener's.
    clients: Pool<Registration>,
    signatures: BTreeMap<u16, Signature>,
}

#[derive(Clone)]
struct Registration {
    line: Option<Arc<dyn Line>>,
    /// Another client freed this slot: VPP dies of the next message of its owner.
    freed: bool,
}

/// The messages with the same number in each VPP.
const FIXED: &[(u16, Signature)] = &[
    (SOCKCLNT_CREATE_ID, (SockclntCreate::NAME, SockclntCreate::CRC)),
    (SOCKCLNT_CREATE_REPLY_ID, (SockclntCreateReply::NAME, SockclntCreateReply::CRC)),
    (17, (SockclntDelete::NAME, SockclntDelete::CRC)),
    (18, (SockclntDeleteReply::NAME, SockclntDeleteReply::CRC)),
    (21, (MemclntKeepalive::NAME, MemclntKeepalive::CRC)),
    (22, (MemclntKeepaliveReply::NAME, MemclntKeepaliveReply::CRC)),
    (23, (ControlPing::NAME, ControlPing::CRC)),
    (24, (ControlPingReply::NAME, ControlPingReply::CRC)),
];

const VERSION: &str = "26.10-vppsim";
/// The high bit of a client index says that it is a socket's.
const SOCKET: u32 = 0x8000_0000;

impl World {
    /// Returns an empty VPP with these faults.
    #[must_use]
    pub fn new(birth: Birth, faults: Faults) -> Self {
        let mut clients = Pool::default();
        clients.insert(|_| Registration { line: None, freed: false });
        Self {
            plugin: Plugin::default(),
            segment: None,
            faults,
            calls: VecDeque::new(),
            counts: BTreeMap::new(),
            crashed: None,
            birth,
            started: Instant::now(),
            advanced: Duration::ZERO,
            clients,
            signatures: numbering(birth.life),
        }
    }

    /// Returns the time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed() + self.advanced
    }

    /// Moves the clock, and does what is due by then.
    pub fn advance(&mut self, by: Duration) -> Result<(), Crash> {
        self.advanced += by;
        self.tick().map(drop)
    }

    /// Writes the stats segment anew.
    pub fn publish(&mut self) {
        if let Some(segment) = &mut self.segment {
            // The file is memory; if there is none left, the readers' numbers are the least of the worries.
            _ = segment.publish(&self.plugin, &self.faults);
        }
    }

    /// Returns the open connections.
    pub fn lines(&self) -> Vec<Arc<dyn Line>> {
        self.clients.iter().filter_map(|(_, client)| client.line.clone()).collect()
    }

    /// Gives a new connection its slot.
    pub fn register(&mut self, line: Arc<dyn Line>) -> usize {
        self.clients.insert(|_| Registration { line: Some(line), freed: false })
    }

    /// Frees the slot of a closed connection.
    pub fn unregister(&mut self, slot: usize) {
        self.clients.remove(slot);
    }

    /// Handles what arrived on the connection of `slot`. Nothing is said to a message that is unknown or too short.
    pub fn handle(&mut self, slot: usize, payload: &[u8], out: &mut Outbox) -> Result<(), Crash> {
        if self.clients.get(slot).is_some_and(|client| client.freed) {
            return Err(Crash("a client spoke whose slot another had freed".into()));
        }
        let now = self.tick()?;
        let Ok(id) = frame::id(payload) else { return Ok(()) };
        let Some((name, _)) = self.signatures.get(&id).copied() else { return Ok(()) };
        match name {
            SockclntCreate::NAME => self.welcome(slot, payload, out),
            SockclntDelete::NAME => self.farewell(slot, payload, out),
            ControlPing::NAME => {
                let pid = self.birth.pid;
                self.answer(payload, out, |_, head, _: &ControlPing| {
                    Ok(ControlPingReply { retval: 0, client_index: head.client_index, pid })
                })
            }
            ShowVersion::NAME => {
                self.answer(payload, out, |world, _, _: &ShowVersion| Ok(world.show_version()))
            }
            ShowThreads::NAME => {
                self.answer(payload, out, |world, _, _: &ShowThreads| Ok(world.show_threads()))
            }
            CliInband::NAME => self.answer(payload, out, |world, _, request: &CliInband| {
                let (retval, output) = cli::run(&world.plugin, world.version(), &request.command.0);
                Ok(CliInbandReply { retval, output: Text(output) })
            }),
            IpRouteLookupV2::NAME => {
                self.answer(payload, out, |world, _, request| world.plugin.fib.look_up(request))
            }
            _ => self.handle_lb(name, payload, now, out),
        }
    }

    /// Handles what is for the lb plugin.
    fn handle_lb(&mut self, name: &str, payload: &[u8], now: u32, out: &mut Outbox) -> Result<(), Crash> {
        match name {
            LbConfGet::NAME => self.answer(payload, out, |world, _, _: &LbConfGet| Ok(world.plugin.conf())),
            LbConf::NAME => self.answer(payload, out, |world, _, request| {
                Ok(LbConfReply { retval: world.plugin.configure(request) })
            }),
            LbAddDelVipV2::NAME => self.answer(payload, out, |world, _, request| {
                Ok(LbAddDelVipV2Reply { retval: world.plugin.add_del_vip(request, now)? })
            }),
            LbAddDelAsV2::NAME => self.answer(payload, out, |world, _, request| {
                Ok(LbAddDelAsV2Reply { retval: world.plugin.add_del_as(request, now)? })
            }),
            LbAsSetWeight::NAME => self.answer(payload, out, |world, _, request| {
                Ok(LbAsSetWeightReply { retval: world.plugin.set_weight(request)? })
            }),
            LbFlushVip::NAME => self.answer(payload, out, |world, _, request: &LbFlushVip| {
                Ok(LbFlushVipReply { retval: world.plugin.flush_vip(&request.vip)? })
            }),
            LbVipDump::NAME => self.list(payload, out, |world, _: &LbVipDump| world.plugin.vip_details()),
            LbAsV2Dump::NAME => self.list(payload, out, |world, dump| world.plugin.server_details(dump)),
            _ => Ok(()),
        }
    }

    fn tick(&mut self) -> Result<u32, Crash> {
        let now = u32::try_from(self.uptime().as_secs()).unwrap_or(u32::MAX);
        self.plugin.tick(now)?;
        Ok(now)
    }

    fn answer<R: Request + Debug>(
        &mut self,
        payload: &[u8],
        out: &mut Outbox,
        handle: impl FnOnce(&mut Self, Head, &R) -> Result<R::Reply, Crash>,
    ) -> Result<(), Crash> {
        let Ok((head, request)) = frame::decode::<R>(payload) else { return Ok(()) };
        self.record(head.client_index, &request);
        if let Some(retval) = self.faults.refusal(R::NAME) {
            self.refuse::<R::Reply>(head, retval, out);
            return Ok(());
        }
        let reply = handle(self, head, &request)?;
        self.send(head, &reply, out);
        Ok(())
    }

    fn list<D: Dump + Debug>(
        &mut self,
        payload: &[u8],
        out: &mut Outbox,
        details: impl FnOnce(&Self, &D) -> Vec<D::Details>,
    ) -> Result<(), Crash> {
        let Ok((head, dump)) = frame::decode::<D>(payload) else { return Ok(()) };
        self.record(head.client_index, &dump);
        for details in details(self, &dump) {
            self.send(head, &details, out);
        }
        Ok(())
    }

    fn welcome(&mut self, slot: usize, payload: &[u8], out: &mut Outbox) -> Result<(), Crash> {
        let Ok((Head { context, .. }, hello)) = frame::decode::<SockclntCreate>(payload) else {
            return Ok(());
        };
        let index = SOCKET | slot as u32;
        self.record(index, &hello);
        let reply = SockclntCreateReply { response: 0, index, table: self.table() };
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, SOCKCLNT_CREATE_REPLY_ID, Head { client_index: 0, context }, &reply);
        self.post(index, bytes, out);
        Ok(())
    }

    /// VPP answers 1, hangs up on the caller, and frees the slot that the caller names.
    fn farewell(&mut self, slot: usize, payload: &[u8], out: &mut Outbox) -> Result<(), Crash> {
        let Ok((head, request)) = frame::decode::<SockclntDelete>(payload) else { return Ok(()) };
        self.record(head.client_index, &request);
        self.send(head, &SockclntDeleteReply { response: 1 }, out);
        let named = (request.index & !SOCKET) as usize;
        if named != slot
            && let Some(other) = self.clients.get_any_mut(named)
        {
            other.freed = true;
        }
        if let Some(Registration { line: Some(line), .. }) = self.clients.get(slot) {
            line.close_when_written();
        }
        Ok(())
    }

    fn show_version(&self) -> ShowVersionReply {
        ShowVersionReply {
            retval: 0,
            program: Name("vpe".into()),
            version: Name(self.version().into()),
            build_date: Name("2026-11-22T08:29:54".into()),
            build_directory: Name("/usr/src/vpp".into()),
        }
    }

    fn show_threads(&self) -> ShowThreadsReply {
        let main = Thread {
            id: 0,
            name: Name("vpp_main".into()),
            kind: Name::default(),
            pid: self.birth.pid,
            cpu_id: 0,
            core: 0,
            cpu_socket: 0,
        };
        ShowThreadsReply { retval: 0, threads: Threads(vec![main]) }
    }

    fn version(&self) -> &str {
        self.faults.version.as_deref().unwrap_or(VERSION)
    }

    fn table(&self) -> MessageTable {
        let listed = self.signatures.iter().filter(|(_, (name, _))| !self.faults.omit.contains(name));
        let rows = listed.map(|(id, (name, crc))| {
            let crc = if self.faults.wrong_crc.contains(name) { !crc } else { *crc };
            MessageTableEntry { id: *id, name: Name(table_name((name, crc))) }
        });
        MessageTable(rows.collect())
    }

    /// Keeps the message for tests to look at.
    fn record<M: Message + Debug>(&mut self, client: u32, message: &M) {
        *self.counts.entry(M::NAME).or_default() += 1;
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            client,
            name: M::NAME,
            message: format!("{message:?}"),
            at: SystemTime::now(),
        });
    }

    fn send<M: Message>(&mut self, head: Head, message: &M, out: &mut Outbox) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, self.id::<M>(), head, message);
        self.post(head.client_index, bytes, out);
    }

    /// The return value, and zeros for whatever else there is in such a reply.
    fn refuse<R: Reply>(&mut self, head: Head, retval: i32, out: &mut Outbox) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, self.id::<R>(), head, &LbConfReply { retval });
        bytes.resize(bytes.len() + 512, 0);
        let length = (bytes.len() - frame::HEADER) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        self.post(head.client_index, bytes, out);
    }

    fn id<M: Message>(&self) -> u16 {
        self.signatures.iter().find(|(_, (name, _))| *name == M::NAME).map_or(0, |(id, _)| *id)
    }

    /// Answers go to the client named in the message, not to the connection it came on, and nowhere without such a
    /// client.
    fn post(&mut self, client_index: u32, mut bytes: Vec<u8>, out: &mut Outbox) {
        let slot = (client_index & !SOCKET) as usize;
        let Some(Registration { line: Some(line), .. }) = self.clients.get(slot) else { return };
        if client_index & SOCKET == 0 {
            return;
        }
        if let Some(spoil) = self.faults.spoil.take() {
            faults::spoil(spoil, &mut bytes);
        }
        match out.0.last_mut() {
            Some((last, pending)) if Arc::ptr_eq(last, line) => pending.extend(bytes),
            _ => out.0.push((Arc::clone(line), bytes)),
        }
    }
}

/// Other numbers in each life, as after a change of VPP's plugins.
fn numbering(life: u32) -> BTreeMap<u16, Signature> {
    let first = 100 + (life % 100) as u16 * 7;
    let dynamic = NEEDED.iter().filter(|needed| !FIXED.iter().any(|(_, fixed)| fixed.0 == needed.0));
    FIXED.iter().copied().chain((first..).zip(dynamic.copied())).collect()
}
