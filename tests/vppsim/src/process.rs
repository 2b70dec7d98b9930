//! One run of the simulated VPP: its plugin, its clients, and the messages it received.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use maglev_vpp::frame;
use maglev_vpp::message::*;
use maglev_vpp::wire::{FixedString, VarString};
use tokio::time::Instant;

use super::cli;
use super::crash::OutOfBounds;
use super::faults::{self, InjectedFaults};
use super::plugin::LbPlugin;
use super::segment::StatsSegment;
use super::slot_pool::SlotPool;

/// Maximum number of messages in [`VppProcess::calls`].
const MAX_CALLS: usize = 100_000;

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCall {
    /// Slot of the sender.
    pub client: u32,
    /// Name, without checksum.
    pub name: &'static str,
    /// Debug format of the message.
    pub message: String,
    /// Time of arrival.
    pub at: SystemTime,
}

/// Frames to send.
#[derive(Default)]
pub struct ReplyQueue(pub Vec<(Arc<dyn ClientConnection>, Vec<u8>)>);

/// The connection to a client.
pub trait ClientConnection: Send + Sync {
    /// Closes the connection when pending frames are written.
    fn close_when_written(&self);

    /// Closes the connection.
    fn close(&self);

    /// Writes whole frames.
    fn write(&self, bytes: &[u8]);
}

/// Identity of one run of VPP.
#[derive(Clone, Copy, Debug)]
pub struct ProcessIdentity {
    /// Number of restarts. Connections of an earlier generation are dead.
    pub generation: u32,
    /// Process id that VPP reports.
    pub pid: u32,
    /// Boot time in seconds since 1970.
    pub boot_time: u64,
}

impl ProcessIdentity {
    /// Returns an identity by the system clock, in this process.
    pub fn now(generation: u32) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Two runs of one test may start in the same second.
        Self {
            generation,
            pid: std::process::id() + generation,
            boot_time: now.as_secs() + u64::from(generation),
        }
    }
}

/// The state behind the sockets.
pub struct VppProcess {
    /// The lb plugin.
    pub plugin: LbPlugin,
    /// Present once there is a socket to send it on.
    pub(super) segment: Option<StatsSegment>,
    /// Faults that a test injects.
    pub faults: InjectedFaults,
    /// The last messages that arrived.
    pub calls: VecDeque<RecordedCall>,
    /// Number of messages by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Reason of the crash, after one.
    pub crash_reason: Option<String>,
    /// Identity of this run of VPP.
    pub identity: ProcessIdentity,
    started: Instant,
    advanced: Duration,
    /// Slot 0 belongs to the listener.
    clients: SlotPool<ClientSlot>,
    message_ids: BTreeMap<u16, MessageSignature>,
}

#[derive(Clone)]
struct ClientSlot {
    connection: Option<Arc<dyn ClientConnection>>,
    /// Another client freed this slot, out of bounds.
    freed: bool,
}

/// Messages with the same number in each VPP.
const FIXED: &[(u16, MessageSignature)] = &[
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
/// High bit of the client index of socket clients.
const SOCKET: u32 = 0x8000_0000;

impl VppProcess {
    /// Returns an empty VPP with these faults.
    #[must_use]
    pub fn new(identity: ProcessIdentity, faults: InjectedFaults) -> Self {
        let mut clients = SlotPool::default();
        clients.insert(|_| ClientSlot { connection: None, freed: false });
        Self {
            plugin: LbPlugin::default(),
            segment: None,
            faults,
            calls: VecDeque::new(),
            counts: BTreeMap::new(),
            crash_reason: None,
            identity,
            started: Instant::now(),
            advanced: Duration::ZERO,
            clients,
            message_ids: assign_message_ids(identity.generation),
        }
    }

    /// Returns the time since the start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed() + self.advanced
    }

    /// Advances the clock, and runs the periodic work up to then.
    pub fn advance(&mut self, by: Duration) -> Result<(), OutOfBounds> {
        self.advanced += by;
        self.run_due().map(drop)
    }

    /// Rewrites the stats segment.
    pub fn publish_stats(&mut self) {
        if let Some(segment) = &mut self.segment {
            // The file is in memory. Without memory, stale counters are the smaller problem.
            _ = segment.publish_stats(&self.plugin, &self.faults);
        }
    }

    /// Returns the open connections.
    pub fn connections(&self) -> Vec<Arc<dyn ClientConnection>> {
        self.clients.iter().filter_map(|(_, client)| client.connection.clone()).collect()
    }

    /// Assigns a slot to a new connection.
    pub fn register(&mut self, connection: Arc<dyn ClientConnection>) -> usize {
        self.clients.insert(|_| ClientSlot { connection: Some(connection), freed: false })
    }

    /// Frees the slot of a closed connection.
    pub fn unregister(&mut self, slot: usize) {
        self.clients.remove(slot);
    }

    /// Handles a message from the connection of `slot`. Unknown and short messages get no reply.
    pub fn handle(&mut self, slot: usize, payload: &[u8], out: &mut ReplyQueue) -> Result<(), OutOfBounds> {
        if self.clients.get(slot).is_some_and(|client| client.freed) {
            return Err(OutOfBounds("a client spoke whose slot another had freed".into()));
        }
        let now = self.run_due()?;
        let Ok(id) = frame::id(payload) else { return Ok(()) };
        let Some((name, _)) = self.message_ids.get(&id).copied() else { return Ok(()) };
        match name {
            SockclntCreate::NAME => self.create_client(slot, payload, out),
            SockclntDelete::NAME => self.delete_client(slot, payload, out),
            ControlPing::NAME => {
                let pid = self.identity.pid;
                self.handle_request(payload, out, |_, head, _: &ControlPing| {
                    Ok(ControlPingReply { retval: 0, client_index: head.client_index, pid })
                })
            }
            ShowVersion::NAME => {
                self.handle_request(payload, out, |process, _, _: &ShowVersion| Ok(process.show_version()))
            }
            ShowThreads::NAME => {
                self.handle_request(payload, out, |process, _, _: &ShowThreads| Ok(process.show_threads()))
            }
            CliInband::NAME => self.handle_request(payload, out, |process, _, request: &CliInband| {
                let (retval, output) = cli::run(&process.plugin, process.version(), &request.command.0);
                Ok(CliInbandReply { retval, output: VarString(output) })
            }),
            IpRouteLookupV2::NAME => self
                .handle_request(payload, out, |process, _, request| process.plugin.fib.lookup_route(request)),
            SwInterfaceDump::NAME => {
                self.handle_dump(payload, out, |process, dump| process.plugin.fib.interface_details(dump))
            }
            _ => self.handle_lb(name, payload, now, out),
        }
    }

    /// Handles a message for the lb plugin.
    fn handle_lb(
        &mut self,
        name: &str,
        payload: &[u8],
        now: u32,
        out: &mut ReplyQueue,
    ) -> Result<(), OutOfBounds> {
        match name {
            LbConfGet::NAME => {
                self.handle_request(payload, out, |process, _, _: &LbConfGet| Ok(process.plugin.conf()))
            }
            LbConf::NAME => self.handle_request(payload, out, |process, _, request| {
                Ok(LbConfReply { retval: process.plugin.configure(request) })
            }),
            LbAddDelVipV2::NAME => self.handle_request(payload, out, |process, _, request| {
                Ok(LbAddDelVipV2Reply { retval: process.plugin.add_del_vip(request, now)? })
            }),
            LbAddDelAsV2::NAME => self.handle_request(payload, out, |process, _, request| {
                Ok(LbAddDelAsV2Reply { retval: process.plugin.add_del_as(request, now)? })
            }),
            LbAsSetWeight::NAME => self.handle_request(payload, out, |process, _, request| {
                Ok(LbAsSetWeightReply { retval: process.plugin.set_weight(request)? })
            }),
            LbFlushVip::NAME => self.handle_request(payload, out, |process, _, request: &LbFlushVip| {
                Ok(LbFlushVipReply { retval: process.plugin.flush_vip(&request.vip)? })
            }),
            LbVipDump::NAME => {
                self.handle_dump(payload, out, |process, _: &LbVipDump| process.plugin.vip_details())
            }
            LbAsV2Dump::NAME => {
                self.handle_dump(payload, out, |process, dump| process.plugin.server_details(dump))
            }
            _ => Ok(()),
        }
    }

    fn run_due(&mut self) -> Result<u32, OutOfBounds> {
        let now = u32::try_from(self.uptime().as_secs()).unwrap_or(u32::MAX);
        self.plugin.tick(now)?;
        Ok(now)
    }

    fn handle_request<R: RequestMessage + Debug>(
        &mut self,
        payload: &[u8],
        out: &mut ReplyQueue,
        handle: impl FnOnce(&mut Self, MessageHeader, &R) -> Result<R::Reply, OutOfBounds>,
    ) -> Result<(), OutOfBounds> {
        let Ok((head, request)) = frame::decode::<R>(payload) else { return Ok(()) };
        self.record(head.client_index, &request);
        if let Some(retval) = self.faults.take_rejection(R::NAME) {
            self.reject::<R::Reply>(head, retval, out);
            return Ok(());
        }
        let reply = handle(self, head, &request)?;
        self.send(head, &reply, out);
        Ok(())
    }

    fn handle_dump<D: DumpMessage + Debug>(
        &mut self,
        payload: &[u8],
        out: &mut ReplyQueue,
        details: impl FnOnce(&Self, &D) -> Vec<D::Details>,
    ) -> Result<(), OutOfBounds> {
        let Ok((head, dump)) = frame::decode::<D>(payload) else { return Ok(()) };
        self.record(head.client_index, &dump);
        for details in details(self, &dump) {
            self.send(head, &details, out);
        }
        Ok(())
    }

    fn create_client(
        &mut self,
        slot: usize,
        payload: &[u8],
        out: &mut ReplyQueue,
    ) -> Result<(), OutOfBounds> {
        let Ok((MessageHeader { context, .. }, hello)) = frame::decode::<SockclntCreate>(payload) else {
            return Ok(());
        };
        let index = SOCKET | slot as u32;
        self.record(index, &hello);
        let reply = SockclntCreateReply { response: 0, index, table: self.table() };
        let mut bytes = Vec::new();
        frame::encode(
            &mut bytes,
            SOCKCLNT_CREATE_REPLY_ID,
            MessageHeader { client_index: 0, context },
            &reply,
        );
        self.send_reply(index, bytes, out);
        Ok(())
    }

    /// Handles `sockclnt_delete` as VPP does: answers 1, closes the caller's connection, and frees the slot that the caller
    /// names.
    fn delete_client(
        &mut self,
        slot: usize,
        payload: &[u8],
        out: &mut ReplyQueue,
    ) -> Result<(), OutOfBounds> {
        let Ok((head, request)) = frame::decode::<SockclntDelete>(payload) else { return Ok(()) };
        self.record(head.client_index, &request);
        self.send(head, &SockclntDeleteReply { response: 1 }, out);
        let named = (request.index & !SOCKET) as usize;
        if named != slot
            && let Some(other) = self.clients.get_any_mut(named)
        {
            other.freed = true;
        }
        if let Some(ClientSlot { connection: Some(connection), .. }) = self.clients.get(slot) {
            connection.close_when_written();
        }
        Ok(())
    }

    fn show_version(&self) -> ShowVersionReply {
        ShowVersionReply {
            retval: 0,
            program: FixedString("vpe".into()),
            version: FixedString(self.version().into()),
            build_date: FixedString("2026-11-22T08:29:54".into()),
            build_directory: FixedString("/usr/src/vpp".into()),
        }
    }

    fn show_threads(&self) -> ShowThreadsReply {
        let main = VppThread {
            id: 0,
            name: FixedString("vpp_main".into()),
            kind: FixedString::default(),
            pid: self.identity.pid,
            cpu_id: 0,
            core: 0,
            cpu_socket: 0,
        };
        ShowThreadsReply { retval: 0, threads: ThreadList(vec![main]) }
    }

    fn version(&self) -> &str {
        self.faults.version.as_deref().unwrap_or(VERSION)
    }

    fn table(&self) -> MessageTable {
        let listed =
            self.message_ids.iter().filter(|(_, (name, _))| !self.faults.omitted_messages.contains(name));
        let rows = listed.map(|(id, (name, crc))| {
            let crc = if self.faults.wrong_crc.contains(name) { !crc } else { *crc };
            MessageTableEntry { id: *id, name: FixedString(table_name((name, crc))) }
        });
        MessageTable(rows.collect())
    }

    /// Records the message for tests.
    fn record<M: Message + Debug>(&mut self, client: u32, message: &M) {
        *self.counts.entry(M::NAME).or_default() += 1;
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(RecordedCall {
            client,
            name: M::NAME,
            message: format!("{message:?}"),
            at: SystemTime::now(),
        });
    }

    fn send<M: Message>(&mut self, head: MessageHeader, message: &M, out: &mut ReplyQueue) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, self.id::<M>(), head, message);
        self.send_reply(head.client_index, bytes, out);
    }

    /// Sends a reply with this return value, and zeros in its other fields.
    fn reject<R: ReplyMessage>(&mut self, head: MessageHeader, retval: i32, out: &mut ReplyQueue) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, self.id::<R>(), head, &LbConfReply { retval });
        bytes.resize(bytes.len() + 512, 0);
        let length = (bytes.len() - frame::HEADER) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        self.send_reply(head.client_index, bytes, out);
    }

    fn id<M: Message>(&self) -> u16 {
        self.message_ids.iter().find(|(_, (name, _))| *name == M::NAME).map_or(0, |(id, _)| *id)
    }

    /// Sends a reply to the client that the message names, even if it came on another connection. Without such a client it is
    /// dropped.
    fn send_reply(&mut self, client_index: u32, mut bytes: Vec<u8>, out: &mut ReplyQueue) {
        let slot = (client_index & !SOCKET) as usize;
        let Some(ClientSlot { connection: Some(connection), .. }) = self.clients.get(slot) else { return };
        if client_index & SOCKET == 0 {
            return;
        }
        if let Some(how) = self.faults.corrupt_reply.take() {
            faults::corrupt(how, &mut bytes);
        }
        match out.0.last_mut() {
            Some((last, pending)) if Arc::ptr_eq(last, connection) => pending.extend(bytes),
            _ => out.0.push((Arc::clone(connection), bytes)),
        }
    }
}

/// Assigns other numbers in each generation, as after a change of VPP's plugins.
fn assign_message_ids(generation: u32) -> BTreeMap<u16, MessageSignature> {
    let first = 100 + (generation % 100) as u16 * 7;
    let dynamic = REQUIRED_MESSAGES
        .iter()
        .chain(OPTIONAL_MESSAGES)
        .filter(|needed| !FIXED.iter().any(|(_, fixed)| fixed.0 == needed.0));
    FIXED.iter().copied().chain((first..).zip(dynamic.copied())).collect()
}
