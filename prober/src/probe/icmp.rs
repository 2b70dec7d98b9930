//! Echo requests to all targets of a family from one raw socket, sent and received in batches.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use socket2::{Domain, Protocol};

use super::echo::{self, EchoPayload, IcmpPacket, QuotedPacket};
use super::filter;
use super::ports::ReservedPorts;
use super::raw::{self, RawSocket, SocketOrReason};
use super::segment::SynId;
use crate::probe_id::ProbeId;
use crate::random;

/// Both families.
#[derive(Debug)]
pub struct IcmpProber {
    v4: SocketOrReason,
    v6: SocketOrReason,
    ident: u16,
    cookies: RandomState,
    /// The number of the last request.
    serial: u64,
    /// The slot of the newest request of each sequence number, for errors that quote nothing else.
    recent: Vec<u32>,
}

/// What a packet that came in says about a probe.
#[derive(Debug)]
pub struct IcmpMessage {
    /// What the probe sent.
    pub claim: ReplyMatch,
    /// The address that answered, or the one that an error says is not reached.
    pub about: IpAddr,
    /// `None` is an answer; else the network's word.
    pub error: Option<&'static str>,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EchoRequest {
    /// Counts all requests.
    serial: u64,
    /// The sequence number in its header.
    seq: u16,
}

/// Which request a packet is about, as far as the packet says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyMatch {
    /// That check's request of that serial: the cookie proves it.
    ByCookie(ProbeId, u64),
    /// The request of that sequence number, from that slot: all that a short quote tells.
    BySequence(u32, u16),
    /// A SYN, by an error that quotes it, and the error. Whether it was ours is another's to say.
    QuotedSyn(SynId, &'static str),
}

impl ReplyMatch {
    /// Whether it is this request.
    pub fn is_for(self, ping: EchoRequest) -> bool {
        match self {
            Self::ByCookie(_, serial) => serial == ping.serial,
            Self::BySequence(_, seq) => seq == ping.seq,
            Self::QuotedSyn(..) => false,
        }
    }
}

/// A packet that says nothing about a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketReject {
    /// Its probe has been answered.
    Duplicate,
    /// Its probe is over, or there never was one.
    Stray,
    /// It does not carry the cookie, or comes from elsewhere.
    Spoofed,
    /// It does not parse.
    Malformed,
}

impl IcmpProber {
    /// Opens what this process may open. Needs `CAP_NET_RAW`, and only here. Errors about segments from `ports` are heard
    /// as well.
    ///
    /// # Errors
    /// The system has no randomness, or a socket cannot be set up. A socket that is not permitted is no error: every
    /// probe that needs it says so.
    pub fn open(ports: Option<&ReservedPorts>) -> io::Result<Self> {
        Self::open_with(raw::BUFFER, ports)
    }

    /// The same, with sockets that have buffers of so many bytes.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(buffer: usize, ports: Option<&ReservedPorts>) -> io::Result<Self> {
        let ident = u16::from_ne_bytes(random::bytes()?);
        let first_port = ports.map_or(0, ReservedPorts::first);
        Ok(Self {
            v4: RawSocket::open(buffer, Domain::IPV4, Protocol::ICMPV4, &filter::v4(ident, first_port))?,
            v6: RawSocket::open(buffer, Domain::IPV6, Protocol::ICMPV6, &filter::v6(ident, first_port))?,
            ident,
            cookies: RandomState::new(),
            serial: u64::from(u16::from_ne_bytes(random::bytes()?)),
            recent: vec![u32::MAX; 1 << 16],
        })
    }

    /// The sockets, IPv4 first, or why there is none.
    pub fn sockets(&self) -> [Result<BorrowedFd<'_>, &'static str>; 2] {
        [&self.v4, &self.v6].map(|family| match family {
            Ok(family) => Ok(family.socket()),
            Err(why) => Err(*why),
        })
    }

    /// Queues a request; [`Self::flush`] sends it.
    ///
    /// # Errors
    /// There is no socket of that family.
    pub fn queue(
        &mut self,
        key: ProbeId,
        target: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<EchoRequest, &'static str> {
        let serial = self.serial + 1;
        let payload = self.payload(key, serial);
        let family = if target.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let family = family.as_mut().map_err(|why| *why)?;
        let request = if target.is_ipv4() { echo::request_v4 } else { echo::request_v6 };
        family.queue(key, target, source, request(self.ident, payload));
        self.serial = serial;
        self.recent[usize::from(payload.seq())] = key.slot;
        Ok(EchoRequest { serial, seq: payload.seq() })
    }

    /// Whether a batch is full.
    pub fn is_full(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(RawSocket::is_full)
    }

    /// Sends what is queued. Calls `failed` for each request that this host could not send.
    pub fn flush(&mut self, mut failed: impl FnMut(ProbeId, Errno)) {
        for family in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            family.flush(&mut failed);
        }
    }

    /// Reads up to one batch of a family's packets. Returns whether there may be more.
    pub fn receive(&mut self, v4: bool, heard: &mut Vec<Result<IcmpMessage, PacketReject>>) -> bool {
        let Ok(family) = (if v4 { &mut self.v4 } else { &mut self.v6 }) else { return false };
        let more = family.receive();
        let Ok(family) = (if v4 { &self.v4 } else { &self.v6 }) else { return false };
        let parse = if v4 { echo::parse_v4 } else { echo::parse_v6 };
        heard.extend(family.packets().map(|(from, bytes)| match parse(bytes) {
            Some(IcmpPacket::Reply(_)) if v4 && !echo::is_intact_v4(bytes) => Err(PacketReject::Malformed),
            Some(packet) => self.classify(packet, from),
            None => Err(PacketReject::Malformed),
        }));
        more
    }

    /// How many of a family's packets were dropped for want of room since this was last asked.
    pub const fn lost(&mut self, v4: bool) -> u32 {
        match if v4 { &mut self.v4 } else { &mut self.v6 } {
            Ok(family) => family.lost(),
            Err(_) => 0,
        }
    }

    /// Holds a packet against what was sent, as far as no probe's state is needed.
    fn classify(&self, packet: IcmpPacket, from: IpAddr) -> Result<IcmpMessage, PacketReject> {
        let (echo, about, error) = match packet {
            IcmpPacket::Reply(echo) => (echo, from, None),
            IcmpPacket::Error { what, target, quoted: QuotedPacket::Echo(echo) } => {
                (echo, target, Some(what))
            }
            IcmpPacket::Error { what, target, quoted: QuotedPacket::Syn(syn) } => {
                return Ok(IcmpMessage {
                    claim: ReplyMatch::QuotedSyn(syn, what),
                    about: target,
                    error: Some(what),
                });
            }
        };
        if echo.ident != self.ident {
            return Err(PacketReject::Stray);
        }
        let claim = match echo.payload {
            Some(payload) => {
                let key = ProbeId::from(payload.key);
                if payload != self.payload(key, payload.serial) || echo.seq != payload.seq() {
                    return Err(PacketReject::Spoofed);
                }
                ReplyMatch::ByCookie(key, payload.serial)
            }
            None if error.is_some() => ReplyMatch::BySequence(self.recent[usize::from(echo.seq)], echo.seq),
            None => return Err(PacketReject::Spoofed),
        };
        Ok(IcmpMessage { claim, about, error })
    }

    /// The cookie is a keyed hash (SipHash, its key from the kernel's randomness): a server that has seen any
    /// number of its own cookies cannot make one for another.
    fn payload(&self, key: ProbeId, serial: u64) -> EchoPayload {
        let key = u64::from(key);
        EchoPayload { key, serial, cookie: self.cookies.hash_one((key, serial)) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::probe::echo::EchoHeader;

    const KEY: ProbeId = ProbeId { slot: 7, epoch: 3 };
    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn reply(
        icmp_prober: &IcmpProber,
        change: impl FnOnce(&mut EchoHeader),
    ) -> Result<ReplyMatch, PacketReject> {
        let payload = icmp_prober.payload(KEY, 42);
        let mut echo = EchoHeader { ident: icmp_prober.ident, seq: payload.seq(), payload: Some(payload) };
        change(&mut echo);
        icmp_prober.classify(IcmpPacket::Reply(echo), TARGET).map(|heard| heard.claim)
    }

    fn forge(echo: &mut EchoHeader, change: impl FnOnce(&mut EchoPayload)) {
        echo.payload.as_mut().map(change);
    }

    #[test]
    fn only_the_cookie_proves_a_reply() {
        let icmp_prober = IcmpProber::open(None).unwrap();
        assert_eq!(reply(&icmp_prober, |_| {}), Ok(ReplyMatch::ByCookie(KEY, 42)));
        assert_eq!(reply(&icmp_prober, |echo| echo.ident ^= 1), Err(PacketReject::Stray));
        assert_eq!(reply(&icmp_prober, |echo| echo.seq ^= 1), Err(PacketReject::Spoofed));
        assert_eq!(reply(&icmp_prober, |echo| echo.payload = None), Err(PacketReject::Spoofed));
        assert_eq!(
            reply(&icmp_prober, |echo| forge(echo, |payload| payload.cookie ^= 1)),
            Err(PacketReject::Spoofed)
        );
        assert_eq!(
            reply(&icmp_prober, |echo| forge(echo, |payload| payload.key ^= 1)),
            Err(PacketReject::Spoofed)
        );
        assert_eq!(
            reply(&icmp_prober, |echo| forge(echo, |payload| payload.serial ^= 1)),
            Err(PacketReject::Spoofed)
        );
        // Another prober's cookies are worth nothing.
        let payload = IcmpProber::open(None).unwrap().payload(KEY, 42);
        assert_eq!(reply(&icmp_prober, |echo| echo.payload = Some(payload)), Err(PacketReject::Spoofed));
    }

    #[test]
    fn a_short_quote_is_known_by_its_sequence_number() {
        let mut icmp_prober = IcmpProber::open(None).unwrap();
        let payload = icmp_prober.payload(KEY, 42);
        icmp_prober.recent[usize::from(payload.seq())] = KEY.slot;
        let echo = EchoHeader { ident: icmp_prober.ident, seq: payload.seq(), payload: None };
        let error =
            IcmpPacket::Error { what: "host unreachable", target: TARGET, quoted: QuotedPacket::Echo(echo) };
        let heard = icmp_prober.classify(error, Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!((heard.claim, heard.about), (ReplyMatch::BySequence(KEY.slot, payload.seq()), TARGET));
        assert!(heard.claim.is_for(EchoRequest { serial: 42, seq: payload.seq() }));
        assert!(!heard.claim.is_for(EchoRequest { serial: 42, seq: payload.seq() ^ 1 }));
    }
}
