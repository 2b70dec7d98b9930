//! Half-open probes: a SYN goes out, and what answers it comes in, both from raw sockets. The kernel knows of no such
//! connection, so it answers a SYN-ACK by a reset, and the server forgets: nothing is accepted, and nothing is left.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use maglev_ipc::OutcomeCode;
use nix::errno::Errno;
use socket2::{Domain, Protocol};

use super::icmp::PacketReject;
use super::ports::{COUNT, ReservedPorts};
use super::raw::{self, RawSocket, SocketOrReason};
use super::routes::SourceLookup;
use super::segment::{self, HandshakeAnswer, SynId};
use super::{filter, tcp};
use crate::clock::Nanos;
use crate::probe_id::ProbeId;
use crate::verdict::Verdict;

/// How long an address that the kernel chose for us is used before it is asked again: routes change. An address that
/// has left this host is noticed at once, since nothing can be sent from it.
const FRESH: Nanos = 30_000_000_000;
/// Why there is no socket when there is no port.
const NO_PORTS: &str = "no block of free ports";

/// What a check asks for.
#[derive(Debug)]
pub struct SynPlan {
    to: SocketAddr,
    from: Option<IpAddr>,
    /// The address that the kernel chose, and when.
    chosen: Option<(IpAddr, Nanos)>,
}

impl SynPlan {
    /// Probes of `to`, from that address if there is one.
    pub const fn new(to: SocketAddr, from: Option<IpAddr>) -> Self {
        Self { to, from, chosen: None }
    }

    /// Has the kernel asked again for an address, as nothing could be sent from the last.
    pub const fn forget_source(&mut self) {
        self.chosen = None;
    }

    fn source(&mut self, routes: &SourceLookup, now: Nanos) -> io::Result<IpAddr> {
        if let Some(from) = self.from {
            return Ok(from);
        }
        match self.chosen {
            Some((source, when)) if now.saturating_sub(when) < FRESH => Ok(source),
            _ => {
                let source = routes.source(self.to.ip())?;
                self.chosen = Some((source, now));
                Ok(source)
            }
        }
    }
}

/// Both families.
#[derive(Debug)]
pub struct SynProber {
    v4: SocketOrReason,
    v6: SocketOrReason,
    ports: Option<ReservedPorts>,
    routes: SourceLookup,
    cookies: RandomState,
    /// The number of the last SYN.
    serial: u64,
    waiting: PendingSyns,
}

/// The SYNs that are not answered yet.
#[derive(Debug, Default)]
struct PendingSyns {
    /// By their sequence numbers.
    numbers: HashMap<u32, PendingSyn>,
    /// From which of our ports, and where to.
    ends: HashSet<(u16, SocketAddr)>,
}

#[derive(Clone, Copy, Debug)]
struct PendingSyn {
    key: ProbeId,
    from: u16,
    to: SocketAddr,
}

/// What was heard of a SYN.
#[derive(Clone, Debug, PartialEq)]
pub struct SynReply {
    /// The probe that sent it.
    pub key: ProbeId,
    /// What that comes to.
    pub verdict: Verdict,
}

impl SynProber {
    /// Opens what this process may open. Needs `CAP_NET_RAW`, and only here.
    ///
    /// # Errors
    /// A socket cannot be set up. A socket that is not permitted is no error: probes do without.
    pub fn open(ports: Option<ReservedPorts>) -> io::Result<Self> {
        Self::open_with(raw::BUFFER, ports)
    }

    /// The same, with sockets that have buffers of so many bytes.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(buffer: usize, ports: Option<ReservedPorts>) -> io::Result<Self> {
        let (v4, v6) = match &ports {
            None => (Err(NO_PORTS), Err(NO_PORTS)),
            Some(ports) => (
                RawSocket::open(buffer, Domain::IPV4, Protocol::TCP, &filter::segments_v4(ports.first()))?,
                RawSocket::open(buffer, Domain::IPV6, Protocol::TCP, &filter::segments_v6(ports.first()))?,
            ),
        };
        let mut opener = Self {
            v4,
            v6,
            ports,
            routes: SourceLookup::open(),
            cookies: RandomState::new(),
            serial: 0,
            waiting: PendingSyns::default(),
        };
        opener.listen([false; 2]);
        Ok(opener)
    }

    /// The sockets, IPv4 first, or why there is none.
    pub fn sockets(&self) -> [Result<BorrowedFd<'_>, &'static str>; 2] {
        [&self.v4, &self.v6].map(|raw| raw.as_ref().map(RawSocket::socket).map_err(|why| *why))
    }

    /// Has segments brought here, or not, IPv4 first: while no check needs them, the kernel need not copy this host's.
    pub fn listen(&mut self, families: [bool; 2]) {
        for (family, listens) in [&mut self.v4, &mut self.v6].into_iter().zip(families) {
            // Without loopback there is no address that hears nothing; segments are brought, and turned away by the filter.
            if let Ok(raw) = family
                && raw.listen(listens).is_err()
                && listens
            {
                *family = Err("no raw socket hears anything");
            }
        }
    }

    /// Whether there is a socket for this target; or why there is none.
    ///
    /// # Errors
    /// The reason.
    pub fn serves(&self, target: IpAddr) -> Result<(), &'static str> {
        let raw = if target.is_ipv4() { &self.v4 } else { &self.v6 };
        raw.as_ref().map(|_| ()).map_err(|why| *why)
    }

    /// Queues a SYN; [`Self::flush`] sends it. Returns its number.
    ///
    /// # Errors
    /// The verdict, when it cannot be sent.
    pub fn queue(&mut self, key: ProbeId, plan: &mut SynPlan, now: Nanos) -> Result<u32, Verdict> {
        let source = plan.source(&self.routes, now).map_err(|error| tcp::local(&error))?;
        let (number, from) = self.draw(key, plan.to);
        let raw = if plan.to.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let raw = raw.as_mut().map_err(|why| Verdict::new(OutcomeCode::Local, *why))?;
        let syn = SynId { from, to: plan.to.port(), number };
        raw.queue(key, plan.to.ip(), Some(source), segment::syn(source, plan.to.ip(), syn));
        self.waiting.add(number, PendingSyn { key, from, to: plan.to });
        Ok(number)
    }

    /// Whether a batch is full.
    pub fn is_full(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(RawSocket::is_full)
    }

    /// Sends what is queued. Calls `failed` for each SYN that this host could not send.
    pub fn flush(&mut self, mut failed: impl FnMut(ProbeId, Errno)) {
        for raw in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            raw.flush(&mut failed);
        }
    }

    /// Takes a SYN that was given up off the list of those that are waited for.
    pub fn forget(&mut self, number: u32) {
        self.waiting.take(number);
    }

    /// Reads up to one batch of a family's segments. Returns whether there may be more.
    pub fn receive(&mut self, v4: bool, heard: &mut Vec<Result<SynReply, PacketReject>>) -> bool {
        let (raw, parse): (_, fn(&[u8]) -> _) =
            if v4 { (&mut self.v4, segment::parse_v4) } else { (&mut self.v6, segment::parse_v6) };
        let Ok(raw) = raw else { return false };
        let more = raw.receive();
        let waiting = &mut self.waiting;
        heard.extend(raw.packets().map(|(from, bytes)| {
            let (syn, answer) = parse(bytes).ok_or(PacketReject::Malformed)?;
            let verdict = match answer {
                HandshakeAnswer::SynAck => Verdict::from_code(OutcomeCode::L4Ok),
                HandshakeAnswer::Reset => Verdict::new(OutcomeCode::L4Con, "connection refused"),
            };
            waiting.classify(syn, from, verdict)
        }));
        more
    }

    /// How many of a family's segments were dropped for want of room since this was last asked.
    pub const fn lost(&mut self, v4: bool) -> u32 {
        match if v4 { &mut self.v4 } else { &mut self.v6 } {
            Ok(family) => family.lost(),
            Err(_) => 0,
        }
    }

    /// Takes the network's word that a SYN did not arrive.
    ///
    /// # Errors
    /// It is about no SYN that is waited for.
    pub fn unreachable(
        &mut self,
        syn: SynId,
        target: IpAddr,
        what: &'static str,
    ) -> Result<SynReply, PacketReject> {
        self.waiting.classify(syn, target, Verdict::new(OutcomeCode::L4Con, what))
    }

    /// A number that is not in use, and a port. The number is of a keyed hash (SipHash, its key from the kernel's
    /// randomness): a server that has seen any number of its own cannot tell the next of another. A check takes the ports
    /// in turn, so that a probe whose reset was lost is long forgotten when its port comes again; but none by which another
    /// check of the same server waits: to that it would be another SYN of one connection.
    fn draw(&mut self, key: ProbeId, to: SocketAddr) -> (u32, u16) {
        loop {
            self.serial += 1;
            let number = self.cookies.hash_one((u64::from(key), self.serial)) as u32;
            if !self.waiting.numbers.contains_key(&number) {
                let Some(ports) = &self.ports else { return (number, 0) };
                let mut turn = (0..COUNT.into()).map(|more| ports.pick(key.epoch.wrapping_add(more)));
                let free = turn.find(|from| !self.waiting.ends.contains(&(*from, to)));
                return (number, free.unwrap_or_else(|| ports.pick(key.epoch)));
            }
        }
    }
}

impl PendingSyns {
    fn add(&mut self, number: u32, waiting: PendingSyn) {
        self.ends.insert((waiting.from, waiting.to));
        self.numbers.insert(number, waiting);
    }

    fn take(&mut self, number: u32) {
        if let Some(PendingSyn { from, to, .. }) = self.numbers.remove(&number) {
            self.ends.remove(&(from, to));
        }
    }

    /// Holds what is said of a SYN against those that are waited for. The first that counts is the last: a second answer
    /// finds nothing.
    fn classify(&mut self, syn: SynId, about: IpAddr, verdict: Verdict) -> Result<SynReply, PacketReject> {
        let PendingSyn { key, from, to } = *self.numbers.get(&syn.number).ok_or(PacketReject::Stray)?;
        if (syn.from, SocketAddr::new(about, syn.to)) != (from, to) {
            return Err(PacketReject::Spoofed);
        }
        self.take(syn.number);
        Ok(SynReply { key, verdict })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use socket2::SockRef;

    use super::*;

    const KEY: ProbeId = ProbeId { slot: 7, epoch: 3 };
    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn waiting(syn: SynId) -> PendingSyns {
        let to = SocketAddr::new(TARGET, syn.to);
        let mut waiting = PendingSyns::default();
        waiting.add(syn.number, PendingSyn { key: KEY, from: syn.from, to });
        waiting
    }

    fn is_empty(waiting: &PendingSyns) -> bool {
        waiting.numbers.is_empty() && waiting.ends.is_empty()
    }

    fn opener() -> SynProber {
        SynProber::open(Some(ReservedPorts::reserve().unwrap())).unwrap()
    }

    #[test]
    fn one_answer_counts_and_a_second_is_a_stray() {
        let syn = SynId { from: 40_000, to: 80, number: 9 };
        let mut waiting = waiting(syn);
        let verdict = Verdict::from_code(OutcomeCode::L4Ok);
        let heard = Ok(SynReply { key: KEY, verdict: verdict.clone() });
        assert_eq!(waiting.classify(syn, TARGET, verdict.clone()), heard);
        assert_eq!(waiting.classify(syn, TARGET, verdict), Err(PacketReject::Stray));
    }

    proptest! {
        #[test]
        fn nothing_but_the_right_answer_counts(from: u16, to: u16, number: u32, a: u16, b: u16, c: u32, other: u32) {
            let syn = SynId { from, to, number };
            for (forged, about) in [
                (SynId { from: a, ..syn }, TARGET),
                (SynId { to: b, ..syn }, TARGET),
                (SynId { number: c, ..syn }, TARGET),
                (syn, IpAddr::V4(other.into())),
            ] {
                let right = (forged, about) == (syn, TARGET);
                let mut waiting = waiting(syn);
                let verdict = Verdict::from_code(OutcomeCode::L4Ok);
                let heard = waiting.classify(forged, about, verdict);
                let expected = if forged.number == number { PacketReject::Spoofed } else { PacketReject::Stray };
                prop_assert_eq!(heard.map(|answered| answered.key), if right { Ok(KEY) } else { Err(expected) });
                // A forgery takes nothing from the real answer.
                prop_assert_eq!(is_empty(&waiting), right);
            }
        }
    }

    #[test]
    fn numbers_are_in_use_once_and_ports_are_ours() {
        let mut opener = opener();
        let first = opener.ports.as_ref().unwrap().first();
        let to = SocketAddr::new(TARGET, 80);
        let mut ports = std::collections::HashSet::new();
        for drawn in 1..=20_000 {
            let (number, from) = opener.draw(ProbeId { epoch: drawn as u32, ..KEY }, to);
            assert!((first..first + COUNT).contains(&from));
            if drawn <= COUNT.into() {
                assert!(ports.insert(from), "a port comes again before all others have been");
            }
            opener.waiting.add(number, PendingSyn { key: KEY, from, to });
            assert_eq!(opener.waiting.numbers.len(), drawn);
        }
    }

    /// A server that has a half connection by that port answers another SYN by an ACK of the first.
    #[test]
    fn checks_of_one_server_take_no_port_by_which_another_waits() {
        let mut opener = opener();
        let to = SocketAddr::new(TARGET, 80);
        let mut send = |slot: u32, to: SocketAddr| {
            let key = ProbeId { slot, ..KEY };
            let (number, from) = opener.draw(key, to);
            opener.waiting.add(number, PendingSyn { key, from, to });
            from
        };
        let from: HashSet<_> = (0..COUNT.into()).map(|slot| send(slot, to)).collect();
        assert_eq!(from.len(), COUNT.into());
        // Where all are taken there is no choice, and elsewhere there is.
        let turn = send(100, (TARGET, 81).into());
        assert_eq!((send(101, to), send(102, (TARGET, 82).into())), (turn, turn));
    }

    #[test]
    fn only_what_is_needed_is_heard() {
        let mut opener = opener();
        let heard = |opener: &SynProber| {
            opener.sockets().map(|socket| {
                let address = SockRef::from(&socket.ok()?).local_addr().ok()?.as_socket()?;
                Some(address.ip().is_unspecified())
            })
        };
        if heard(&opener)[0].is_none() {
            return println!("SKIP only_what_is_needed_is_heard: needs root");
        }
        for families in [[false, false], [true, false], [true, true], [false, true], [false, false]] {
            opener.listen(families);
            assert_eq!(heard(&opener), families.map(Some));
        }
    }

    #[test]
    fn another_probers_numbers_are_others() {
        let (mut one, mut other) = (opener(), opener());
        let draw = |opener: &mut SynProber| [(); 2].map(|()| opener.draw(KEY, (TARGET, 80).into()).0);
        assert_ne!(draw(&mut one), draw(&mut other));
    }

    #[test]
    fn what_is_no_longer_in_flight_is_not_waited_for() {
        let mut opener = opener();
        opener.waiting = waiting(SynId { from: 1, to: 2, number: 3 });
        opener.forget(4);
        assert_eq!(opener.waiting.numbers.len(), 1);
        opener.forget(3);
        assert!(is_empty(&opener.waiting));
    }
}
