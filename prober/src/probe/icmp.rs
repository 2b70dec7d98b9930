//! ICMP echo probes of all targets of a family from one raw socket, sent and received in batches.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use maglev_ipc::OutcomeCode;
use nix::errno::Errno;
use socket2::{Domain, Protocol};

use super::echo::{self, EchoPayload, IcmpPacket, QuotedPacket};
use super::filter;
use super::missed::MissedReplies;
use super::ports::ReservedPorts;
use super::raw::{self, PacketReject, RawProber, RawSocket, SocketOrReason};
use super::segment::SynId;
use crate::probe_id::ProbeId;
use crate::random;
use crate::verdict::Verdict;

/// Sends echo requests over both address families, and matches replies to them.
#[derive(Debug)]
pub struct IcmpProber {
    v4: SocketOrReason,
    v6: SocketOrReason,
    ident: u16,
    cookies: RandomState,
    /// Serial number of the last request.
    serial: u64,
    /// Slot of the newest request of each sequence number, for ICMP errors that quote no payload.
    recent_slots: Vec<u32>,
}

/// State from one probe of a check to the next.
#[derive(Debug, Default)]
pub struct EchoPlan {
    /// Last answered request, to recognise duplicate replies.
    pub answered: Option<EchoRequest>,
    /// Last ICMP error with a short quote, and the sequence number in it.
    pub reported: Option<(u16, &'static str)>,
    /// Replies missed since the last one.
    pub missed: MissedReplies,
}

impl EchoPlan {
    /// Returns the verdict on a request without a reply.
    pub fn timeout_verdict(&self, request: EchoRequest) -> Verdict {
        match self.reported {
            Some((seq, error)) if seq == request.seq => Verdict::new(OutcomeCode::L4Con, error),
            _ => Verdict::from_code(OutcomeCode::L4Tout),
        }
    }
}

/// A received packet that refers to a probe.
#[derive(Debug)]
pub struct IcmpMessage {
    /// The probe, as far as the packet identifies it.
    pub reply_match: ReplyMatch,
    /// Sender of an echo reply, or the target that an ICMP error reports as unreachable.
    pub target: IpAddr,
    /// Text of an ICMP error; `None` for an echo reply.
    pub error: Option<&'static str>,
}

/// An echo request that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EchoRequest {
    /// Serial number over all requests.
    serial: u64,
    /// Sequence number in the ICMP header.
    seq: u16,
}

impl EchoRequest {
    /// Returns the sequence number in the ICMP header.
    pub const fn seq(self) -> u16 {
        self.seq
    }
}

/// The probe that a packet refers to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyMatch {
    /// The request of this probe and serial number, proven by the cookie.
    ByCookie(ProbeId, u64),
    /// The request of this slot and sequence number: all that a short quote contains.
    BySequence(u32, u16),
    /// A SYN that an ICMP error quotes, and the error. [`super::half_open::SynProber`] knows if it was ours.
    QuotedSyn(SynId, &'static str),
}

impl ReplyMatch {
    /// Returns true if it identifies this request.
    pub fn is_for(self, request: EchoRequest) -> bool {
        match self {
            Self::ByCookie(_, serial) => serial == request.serial,
            Self::BySequence(_, seq) => seq == request.seq,
            Self::QuotedSyn(..) => false,
        }
    }
}

impl IcmpProber {
    /// Opens the permitted sockets. Needs `CAP_NET_RAW`, here only. ICMP errors about segments from `ports` are received too.
    ///
    /// # Errors
    /// There is no randomness, or a socket cannot be set up. Lack of permission is not an error: it becomes the verdict of
    /// each probe.
    pub fn open(ports: Option<&ReservedPorts>) -> io::Result<Self> {
        Self::open_with(raw::BUFFER_SIZE, ports)
    }

    /// Opens the sockets with receive buffers of `buffer_size` bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(buffer_size: usize, ports: Option<&ReservedPorts>) -> io::Result<Self> {
        let ident = u16::from_ne_bytes(random::bytes()?);
        let first_port = ports.map_or(0, ReservedPorts::first);
        let (filter_v4, filter_v6) = (filter::icmp_v4(ident, first_port), filter::icmp_v6(ident, first_port));
        Ok(Self {
            v4: RawSocket::open(buffer_size, Domain::IPV4, Protocol::ICMPV4, &filter_v4)?,
            v6: RawSocket::open(buffer_size, Domain::IPV6, Protocol::ICMPV6, &filter_v6)?,
            ident,
            cookies: RandomState::new(),
            serial: u64::from(u16::from_ne_bytes(random::bytes()?)),
            recent_slots: vec![u32::MAX; 1 << 16],
        })
    }

    /// Returns the sockets, IPv4 first, or the reasons for their absence.
    pub fn sockets(&self) -> [Result<BorrowedFd<'_>, &'static str>; 2] {
        [&self.v4, &self.v6].map(|raw| raw.as_ref().map(RawSocket::socket).map_err(|why| *why))
    }

    /// Queues a request; [`Self::flush`] sends it.
    ///
    /// # Errors
    /// There is no socket of that family.
    pub fn queue(
        &mut self,
        id: ProbeId,
        target: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<EchoRequest, &'static str> {
        let serial = self.serial + 1;
        let payload = self.payload(id, serial);
        let raw = if target.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let raw = raw.as_mut().map_err(|why| *why)?;
        let request = if target.is_ipv4() { echo::request_v4 } else { echo::request_v6 };
        raw.queue(id, target, source, request(self.ident, payload));
        self.serial = serial;
        self.recent_slots[usize::from(payload.seq())] = id.slot;
        Ok(EchoRequest { serial, seq: payload.seq() })
    }

    /// Returns true if a batch is queued.
    pub fn is_full(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(RawSocket::is_full)
    }

    /// Sends the queue. Calls `failed` for each request that this host could not send.
    pub fn flush(&mut self, mut failed: impl FnMut(ProbeId, Errno)) {
        for raw in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            raw.flush(&mut failed);
        }
    }

    /// Matches a packet to a request, as far as this needs no state of probes.
    fn classify(&self, packet: IcmpPacket, from: IpAddr) -> Result<IcmpMessage, PacketReject> {
        let (echo, target, error) = match packet {
            IcmpPacket::Reply(echo) => (echo, from, None),
            IcmpPacket::Error { text, target, quoted: QuotedPacket::Echo(echo) } => {
                (echo, target, Some(text))
            }
            IcmpPacket::Error { text, target, quoted: QuotedPacket::Syn(syn) } => {
                let reply_match = ReplyMatch::QuotedSyn(syn, text);
                return Ok(IcmpMessage { reply_match, target, error: Some(text) });
            }
        };
        if echo.ident != self.ident {
            return Err(PacketReject::Stray);
        }
        let reply_match = match echo.payload {
            Some(payload) => {
                let id = ProbeId::from(payload.id);
                if payload != self.payload(id, payload.serial) || echo.seq != payload.seq() {
                    return Err(PacketReject::Spoofed);
                }
                ReplyMatch::ByCookie(id, payload.serial)
            }
            None if error.is_some() => {
                ReplyMatch::BySequence(self.recent_slots[usize::from(echo.seq)], echo.seq)
            }
            None => return Err(PacketReject::Spoofed),
        };
        Ok(IcmpMessage { reply_match, target, error })
    }

    /// Returns the payload of a request. Its cookie is a keyed hash (SipHash with a random key), so a server cannot derive
    /// another server's cookie from its own.
    fn payload(&self, id: ProbeId, serial: u64) -> EchoPayload {
        let id = u64::from(id);
        EchoPayload { id, serial, cookie: self.cookies.hash_one((id, serial)) }
    }
}

impl RawProber for IcmpProber {
    type Message = IcmpMessage;

    fn receive(&mut self, v4: bool, messages: &mut Vec<Result<IcmpMessage, PacketReject>>) -> bool {
        let Ok(raw) = (if v4 { &mut self.v4 } else { &mut self.v6 }) else { return false };
        let has_more = raw.receive();
        let Ok(raw) = (if v4 { &self.v4 } else { &self.v6 }) else { return false };
        let parse = if v4 { echo::parse_v4 } else { echo::parse_v6 };
        messages.extend(raw.packets().map(|(from, bytes)| match parse(bytes) {
            Some(IcmpPacket::Reply(_)) if v4 && !echo::is_intact_v4(bytes) => Err(PacketReject::Malformed),
            Some(packet) => self.classify(packet, from),
            None => Err(PacketReject::Malformed),
        }));
        has_more
    }

    fn take_dropped(&mut self, v4: bool) -> u32 {
        let raw = if v4 { &mut self.v4 } else { &mut self.v6 };
        raw.as_mut().map_or(0, RawSocket::take_dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::probe::echo::EchoHeader;

    const PROBE: ProbeId = ProbeId { slot: 7, epoch: 3 };
    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn reply(
        icmp_prober: &IcmpProber,
        change: impl FnOnce(&mut EchoHeader),
    ) -> Result<ReplyMatch, PacketReject> {
        let payload = icmp_prober.payload(PROBE, 42);
        let mut echo = EchoHeader { ident: icmp_prober.ident, seq: payload.seq(), payload: Some(payload) };
        change(&mut echo);
        icmp_prober.classify(IcmpPacket::Reply(echo), TARGET).map(|message| message.reply_match)
    }

    fn forge(echo: &mut EchoHeader, change: impl FnOnce(&mut EchoPayload)) {
        echo.payload.as_mut().map(change);
    }

    #[test]
    fn reply_needs_valid_cookie() {
        let icmp_prober = IcmpProber::open(None).unwrap();
        assert_eq!(reply(&icmp_prober, |_| {}), Ok(ReplyMatch::ByCookie(PROBE, 42)));
        assert_eq!(reply(&icmp_prober, |echo| echo.ident ^= 1), Err(PacketReject::Stray));
        assert_eq!(reply(&icmp_prober, |echo| echo.seq ^= 1), Err(PacketReject::Spoofed));
        assert_eq!(reply(&icmp_prober, |echo| echo.payload = None), Err(PacketReject::Spoofed));
        assert_eq!(
            reply(&icmp_prober, |echo| forge(echo, |payload| payload.cookie ^= 1)),
            Err(PacketReject::Spoofed)
        );
        assert_eq!(
            reply(&icmp_prober, |echo| forge(echo, |payload| payload.id ^= 1)),
            Err(PacketReject::Spoofed)
        );
        assert_eq!(
            reply(&icmp_prober, |echo| forge(echo, |payload| payload.serial ^= 1)),
            Err(PacketReject::Spoofed)
        );
        // Another prober's cookie is invalid.
        let payload = IcmpProber::open(None).unwrap().payload(PROBE, 42);
        assert_eq!(reply(&icmp_prober, |echo| echo.payload = Some(payload)), Err(PacketReject::Spoofed));
    }

    #[test]
    fn short_quote_matches_by_sequence_number() {
        let mut icmp_prober = IcmpProber::open(None).unwrap();
        let payload = icmp_prober.payload(PROBE, 42);
        icmp_prober.recent_slots[usize::from(payload.seq())] = PROBE.slot;
        let echo = EchoHeader { ident: icmp_prober.ident, seq: payload.seq(), payload: None };
        let error =
            IcmpPacket::Error { text: "host unreachable", target: TARGET, quoted: QuotedPacket::Echo(echo) };
        let message = icmp_prober.classify(error, Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(
            (message.reply_match, message.target),
            (ReplyMatch::BySequence(PROBE.slot, payload.seq()), TARGET)
        );
        assert!(message.reply_match.is_for(EchoRequest { serial: 42, seq: payload.seq() }));
        assert!(!message.reply_match.is_for(EchoRequest { serial: 42, seq: payload.seq() ^ 1 }));
    }
}
