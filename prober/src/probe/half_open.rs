//! Half-open probes: a SYN goes out from a raw socket, and the reply is read from one. The kernel knows no such
//! connection and answers a SYN-ACK with a reset, so the server's application never sees a connection.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use maglev_ipc::OutcomeCode;
use nix::errno::Errno;
use socket2::{Domain, Protocol};

use super::missed::MissedReplies;
use super::ports::{PORT_COUNT, ReservedPorts};
use super::raw::{self, PacketReject, RawProber, RawSocket, SocketOrReason};
use super::routes::SourceLookup;
use super::segment::{self, HandshakeAnswer, SynId};
use super::{filter, tcp};
use crate::clock::Nanos;
use crate::probe_id::ProbeId;
use crate::verdict::Verdict;

/// Time for which a source address chosen by the kernel is reused: routes change. An address that has left this host is
/// noticed at once, since sending from it fails.
const SOURCE_LIFETIME: Nanos = 30_000_000_000;
/// Reason for the lack of sockets without reserved ports.
const NO_PORTS: &str = "no block of free ports";

/// Addresses of a check's probes.
#[derive(Debug)]
pub struct SynPlan {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// Source address chosen by the kernel, and the time of the choice.
    chosen: Option<(IpAddr, Nanos)>,
    /// Replies missed since the last one.
    pub missed: MissedReplies,
}

impl SynPlan {
    /// Returns the plan of probes to `to`, from address `from` if there is one.
    pub const fn new(to: SocketAddr, from: Option<IpAddr>) -> Self {
        Self { to, from, chosen: None, missed: MissedReplies::NONE }
    }

    /// Forgets the chosen source address, from which sending failed.
    pub const fn forget_source(&mut self) {
        self.chosen = None;
    }

    fn source(&mut self, routes: &SourceLookup, now: Nanos) -> io::Result<IpAddr> {
        if let Some(from) = self.from {
            return Ok(from);
        }
        match self.chosen {
            Some((source, at)) if now.saturating_sub(at) < SOURCE_LIFETIME => Ok(source),
            _ => {
                let source = routes.source_for(self.to.ip())?;
                self.chosen = Some((source, now));
                Ok(source)
            }
        }
    }
}

/// Sends SYNs over both address families, and matches replies to them.
#[derive(Debug)]
pub struct SynProber {
    v4: SocketOrReason,
    v6: SocketOrReason,
    ports: Option<ReservedPorts>,
    routes: SourceLookup,
    cookies: RandomState,
    /// Serial number of the last SYN.
    serial: u64,
    pending: PendingSyns,
}

/// The unanswered SYNs.
#[derive(Debug, Default)]
struct PendingSyns {
    /// By sequence number.
    by_seq: HashMap<u32, PendingSyn>,
    /// Local port and destination of each.
    in_use: HashSet<(u16, SocketAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct PendingSyn {
    id: ProbeId,
    local_port: u16,
    to: SocketAddr,
}

/// A verdict on a SYN.
#[derive(Clone, Debug, PartialEq)]
pub struct SynReply {
    /// The probe that sent it.
    pub id: ProbeId,
    /// The verdict.
    pub verdict: Verdict,
}

impl SynProber {
    /// Opens the permitted sockets. Needs `CAP_NET_RAW`, here only.
    ///
    /// # Errors
    /// A socket cannot be set up. Lack of permission is not an error: probes then use kernel sockets.
    pub fn open(ports: Option<ReservedPorts>) -> io::Result<Self> {
        Self::open_with(raw::BUFFER_SIZE, ports)
    }

    /// Opens the sockets with receive buffers of `buffer_size` bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(buffer_size: usize, ports: Option<ReservedPorts>) -> io::Result<Self> {
        let (v4, v6) = match &ports {
            None => (Err(NO_PORTS), Err(NO_PORTS)),
            Some(ports) => {
                let (filter_v4, filter_v6) = (filter::tcp_v4(ports.first()), filter::tcp_v6(ports.first()));
                (
                    RawSocket::open(buffer_size, Domain::IPV4, Protocol::TCP, &filter_v4)?,
                    RawSocket::open(buffer_size, Domain::IPV6, Protocol::TCP, &filter_v6)?,
                )
            }
        };
        let mut prober = Self {
            v4,
            v6,
            ports,
            routes: SourceLookup::open(),
            cookies: RandomState::new(),
            serial: 0,
            pending: PendingSyns::default(),
        };
        prober.set_receiving([false; 2]);
        Ok(prober)
    }

    /// Returns the sockets, IPv4 first, or the reasons for their absence.
    pub fn sockets(&self) -> [Result<BorrowedFd<'_>, &'static str>; 2] {
        [&self.v4, &self.v6].map(|raw| raw.as_ref().map(RawSocket::socket).map_err(|why| *why))
    }

    /// Enables or disables reception per family, IPv4 first. Without checks that need it, the kernel need not copy this
    /// host's segments.
    pub fn set_receiving(&mut self, families: [bool; 2]) {
        for (family, is_receiving) in [&mut self.v4, &mut self.v6].into_iter().zip(families) {
            // Without loopback there is no sink address: segments are still copied, and the filter rejects them.
            if let Ok(raw) = family
                && raw.set_receiving(is_receiving).is_err()
                && is_receiving
            {
                *family = Err("raw socket cannot receive");
            }
        }
    }

    /// Checks that there is a socket for this target.
    ///
    /// # Errors
    /// The reason for its absence.
    pub fn check_socket(&self, target: IpAddr) -> Result<(), &'static str> {
        let raw = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        raw.as_ref().map(|_| ()).map_err(|why| *why)
    }

    /// Queues a SYN; [`Self::flush`] sends it. Returns its sequence number.
    ///
    /// # Errors
    /// The verdict, if it cannot be sent.
    pub fn queue(&mut self, id: ProbeId, plan: &mut SynPlan, now: Nanos) -> Result<u32, Verdict> {
        let source = plan.source(&self.routes, now).map_err(|error| tcp::route_fault(&error))?;
        let (seq, local_port) = self.choose_seq_and_port(id, plan.to);
        let raw = if plan.to.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let raw = raw.as_mut().map_err(|why| Verdict::new(OutcomeCode::Local, *why))?;
        let syn = SynId { local_port, remote_port: plan.to.port(), seq };
        raw.queue(id, plan.to.ip(), Some(source), segment::syn(source, plan.to.ip(), syn));
        self.pending.insert(seq, PendingSyn { id, local_port, to: plan.to });
        Ok(seq)
    }

    /// Returns true if a batch is queued.
    pub fn is_full(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(RawSocket::is_full)
    }

    /// Sends the queue. Calls `failed` for each SYN that this host could not send.
    pub fn flush(&mut self, mut failed: impl FnMut(ProbeId, Errno)) {
        for raw in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            raw.flush(&mut failed);
        }
    }

    /// Removes a SYN that timed out.
    pub fn forget(&mut self, seq: u32) {
        self.pending.remove(seq);
    }

    /// Matches an ICMP error to the SYN it quotes.
    ///
    /// # Errors
    /// The SYN is not pending.
    pub fn match_error(
        &mut self,
        syn: SynId,
        target: IpAddr,
        error: &'static str,
    ) -> Result<SynReply, PacketReject> {
        self.pending.classify(syn, target, Verdict::new(OutcomeCode::L4Con, error))
    }

    /// Chooses an unused sequence number and a port.
    ///
    /// The number is a keyed hash (SipHash with a random key), so a server cannot predict another server's. A check uses the
    /// ports round-robin, so that a server has dropped its half-open entry when a port comes again. A port with a pending
    /// SYN of another check to the same server is skipped: the second SYN would belong to the first connection.
    fn choose_seq_and_port(&mut self, id: ProbeId, to: SocketAddr) -> (u32, u16) {
        loop {
            self.serial += 1;
            let seq = self.cookies.hash_one((u64::from(id), self.serial)) as u32;
            if !self.pending.by_seq.contains_key(&seq) {
                let Some(ports) = &self.ports else { return (seq, 0) };
                let mut candidates =
                    (0..PORT_COUNT.into()).map(|offset| ports.nth(id.epoch.wrapping_add(offset)));
                let free = candidates.find(|port| !self.pending.in_use.contains(&(*port, to)));
                return (seq, free.unwrap_or_else(|| ports.nth(id.epoch)));
            }
        }
    }
}

impl RawProber for SynProber {
    type Message = SynReply;

    fn receive(&mut self, v4: bool, messages: &mut Vec<Result<SynReply, PacketReject>>) -> bool {
        let (raw, parse): (_, fn(&[u8]) -> _) =
            if v4 { (&mut self.v4, segment::parse_v4) } else { (&mut self.v6, segment::parse_v6) };
        let Ok(raw) = raw else { return false };
        let has_more = raw.receive();
        let pending = &mut self.pending;
        messages.extend(raw.packets().map(|(from, bytes)| {
            let (syn, answer) = parse(bytes).ok_or(PacketReject::Malformed)?;
            let verdict = match answer {
                HandshakeAnswer::SynAck => Verdict::from_code(OutcomeCode::L4Ok),
                HandshakeAnswer::Reset => Verdict::new(OutcomeCode::L4Con, "connection refused"),
            };
            pending.classify(syn, from, verdict)
        }));
        has_more
    }

    fn take_dropped(&mut self, v4: bool) -> u32 {
        let raw = if v4 { &mut self.v4 } else { &mut self.v6 };
        raw.as_mut().map_or(0, RawSocket::take_dropped)
    }
}

impl PendingSyns {
    fn insert(&mut self, seq: u32, syn: PendingSyn) {
        self.in_use.insert((syn.local_port, syn.to));
        self.by_seq.insert(seq, syn);
    }

    fn remove(&mut self, seq: u32) {
        if let Some(PendingSyn { local_port, to, .. }) = self.by_seq.remove(&seq) {
            self.in_use.remove(&(local_port, to));
        }
    }

    /// Matches a reply to its SYN, and removes the SYN: a second reply is a stray.
    fn classify(&mut self, syn: SynId, target: IpAddr, verdict: Verdict) -> Result<SynReply, PacketReject> {
        let PendingSyn { id, local_port, to } = *self.by_seq.get(&syn.seq).ok_or(PacketReject::Stray)?;
        if (syn.local_port, SocketAddr::new(target, syn.remote_port)) != (local_port, to) {
            return Err(PacketReject::Spoofed);
        }
        self.remove(syn.seq);
        Ok(SynReply { id, verdict })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use socket2::SockRef;

    use super::*;

    const PROBE: ProbeId = ProbeId { slot: 7, epoch: 3 };
    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn pending(syn: SynId) -> PendingSyns {
        let to = SocketAddr::new(TARGET, syn.remote_port);
        let mut pending = PendingSyns::default();
        pending.insert(syn.seq, PendingSyn { id: PROBE, local_port: syn.local_port, to });
        pending
    }

    fn is_empty(pending: &PendingSyns) -> bool {
        pending.by_seq.is_empty() && pending.in_use.is_empty()
    }

    fn prober() -> SynProber {
        SynProber::open(Some(ReservedPorts::reserve().unwrap())).unwrap()
    }

    #[test]
    fn second_reply_is_a_stray() {
        let syn = SynId { local_port: 40_000, remote_port: 80, seq: 9 };
        let mut pending = pending(syn);
        let verdict = Verdict::from_code(OutcomeCode::L4Ok);
        let reply = Ok(SynReply { id: PROBE, verdict: verdict.clone() });
        assert_eq!(pending.classify(syn, TARGET, verdict.clone()), reply);
        assert_eq!(pending.classify(syn, TARGET, verdict), Err(PacketReject::Stray));
    }

    proptest! {
        #[test]
        fn only_exact_replies_match(local_port: u16, remote_port: u16, seq: u32, a: u16, b: u16, c: u32, other: u32) {
            let syn = SynId { local_port, remote_port, seq };
            for (forged, target) in [
                (SynId { local_port: a, ..syn }, TARGET),
                (SynId { remote_port: b, ..syn }, TARGET),
                (SynId { seq: c, ..syn }, TARGET),
                (syn, IpAddr::V4(other.into())),
            ] {
                let is_exact = (forged, target) == (syn, TARGET);
                let mut pending = pending(syn);
                let reply = pending.classify(forged, target, Verdict::from_code(OutcomeCode::L4Ok));
                let reject = if forged.seq == seq { PacketReject::Spoofed } else { PacketReject::Stray };
                prop_assert_eq!(reply.map(|reply| reply.id), if is_exact { Ok(PROBE) } else { Err(reject) });
                // A forged reply leaves the SYN pending for the real one.
                prop_assert_eq!(is_empty(&pending), is_exact);
            }
        }
    }

    #[test]
    fn sequence_numbers_are_unique_and_ports_reserved() {
        let mut prober = prober();
        let first = prober.ports.as_ref().unwrap().first();
        let to = SocketAddr::new(TARGET, 80);
        let mut ports = HashSet::new();
        for count in 1..=20_000 {
            let (seq, local_port) = prober.choose_seq_and_port(ProbeId { epoch: count as u32, ..PROBE }, to);
            assert!((first..first + PORT_COUNT).contains(&local_port));
            if count <= PORT_COUNT.into() {
                assert!(ports.insert(local_port), "a port is reused before all others were used");
            }
            prober.pending.insert(seq, PendingSyn { id: PROBE, local_port, to });
            assert_eq!(prober.pending.by_seq.len(), count);
        }
    }

    /// A server with a half-open entry for that port would answer another SYN by an ACK of the first.
    #[test]
    fn checks_of_one_server_use_different_ports() {
        let mut prober = prober();
        let to = SocketAddr::new(TARGET, 80);
        let mut send = |slot: u32, to: SocketAddr| {
            let id = ProbeId { slot, ..PROBE };
            let (seq, local_port) = prober.choose_seq_and_port(id, to);
            prober.pending.insert(seq, PendingSyn { id, local_port, to });
            local_port
        };
        let ports: HashSet<_> = (0..PORT_COUNT.into()).map(|slot| send(slot, to)).collect();
        assert_eq!(ports.len(), usize::from(PORT_COUNT));
        // If all are in use, the check's own port is used. Other servers are not affected.
        let own = send(100, (TARGET, 81).into());
        assert_eq!((send(101, to), send(102, (TARGET, 82).into())), (own, own));
    }

    #[test]
    fn reception_is_enabled_per_family() {
        let mut prober = prober();
        let is_receiving = |prober: &SynProber| {
            prober.sockets().map(|socket| {
                let address = SockRef::from(&socket.ok()?).local_addr().ok()?.as_socket()?;
                Some(address.ip().is_unspecified())
            })
        };
        if is_receiving(&prober)[0].is_none() {
            return println!("SKIP reception_is_enabled_per_family: needs root");
        }
        for families in [[false, false], [true, false], [true, true], [false, true], [false, false]] {
            prober.set_receiving(families);
            assert_eq!(is_receiving(&prober), families.map(Some));
        }
    }

    #[test]
    fn probers_choose_different_sequence_numbers() {
        let (mut one, mut other) = (prober(), prober());
        let to = (TARGET, 80).into();
        let seqs = |prober: &mut SynProber| [(); 2].map(|()| prober.choose_seq_and_port(PROBE, to).0);
        assert_ne!(seqs(&mut one), seqs(&mut other));
    }

    #[test]
    fn forgotten_syn_is_not_pending() {
        let mut prober = prober();
        prober.pending = pending(SynId { local_port: 1, remote_port: 2, seq: 3 });
        prober.forget(4);
        assert_eq!(prober.pending.by_seq.len(), 1);
        prober.forget(3);
        assert!(is_empty(&prober.pending));
    }
}
