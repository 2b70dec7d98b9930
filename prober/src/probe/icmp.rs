//! Echo requests to all targets of a family from one raw socket, sent and received in batches.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use socket2::{Domain, Protocol};

use super::echo::{self, Packet, Quoted, Token};
use super::filter;
use super::ports::Ports;
use super::raw::{self, Opened, Raw};
use super::segment::Syn;
use crate::course::Key;
use crate::random;

/// Both families.
#[derive(Debug)]
pub struct Pinger {
    v4: Opened,
    v6: Opened,
    ident: u16,
    cookies: RandomState,
    /// The number of the last request.
    serial: u64,
    /// The slot of the newest request of each sequence number, for errors that quote nothing else.
    recent: Vec<u32>,
}

/// What a packet that came in says about a probe.
#[derive(Debug)]
pub struct Heard {
    /// What the probe sent.
    pub claim: Claim,
    /// The address that answered, or the one that an error says is not reached.
    pub about: IpAddr,
    /// `None` is an answer; else the network's word.
    pub error: Option<&'static str>,
}

/// A request that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ping {
    /// Counts all requests.
    serial: u64,
    /// The sequence number in its header.
    seq: u16,
}

/// Which request a packet is about, as far as the packet says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// That check's request of that serial: the cookie proves it.
    Proven(Key, u64),
    /// The request of that sequence number, from that slot: all that a short quote tells.
    Short(u32, u16),
    /// A SYN, by an error that quotes it, and the error. Whether it was ours is another's to say.
    Syn(Syn, &'static str),
}

impl Claim {
    /// Whether it is this request.
    pub fn is_about(self, ping: Ping) -> bool {
        match self {
            Self::Proven(_, serial) => serial == ping.serial,
            Self::Short(_, seq) => seq == ping.seq,
            Self::Syn(..) => false,
        }
    }
}

/// A packet that says nothing about a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Junk {
    /// Its probe has been answered.
    Duplicate,
    /// Its probe is over, or there never was one.
    Stray,
    /// It does not carry the cookie, or comes from elsewhere.
    Spoofed,
    /// It does not parse.
    Malformed,
}

impl Pinger {
    /// Opens what this process may open. Needs `CAP_NET_RAW`, and only here. Errors about segments from `ports` are heard
    /// as well.
    ///
    /// # Errors
    /// The system has no randomness, or a socket cannot be set up. A socket that is not permitted is no error: every
    /// probe that needs it says so.
    pub fn open(ports: Option<&Ports>) -> io::Result<Self> {
        Self::open_with(raw::BUFFER, ports)
    }

    /// The same, with sockets that have buffers of so many bytes.
    ///
    /// # Errors
    /// The same.
    pub fn open_with(buffer: usize, ports: Option<&Ports>) -> io::Result<Self> {
        let ident = u16::from_ne_bytes(random::bytes()?);
        let first_port = ports.map_or(0, Ports::first);
        Ok(Self {
            v4: Raw::open(buffer, Domain::IPV4, Protocol::ICMPV4, &filter::v4(ident, first_port))?,
            v6: Raw::open(buffer, Domain::IPV6, Protocol::ICMPV6, &filter::v6(ident, first_port))?,
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
    pub fn queue(&mut self, key: Key, target: IpAddr, source: Option<IpAddr>) -> Result<Ping, &'static str> {
        let serial = self.serial + 1;
        let token = self.token(key, serial);
        let family = if target.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let family = family.as_mut().map_err(|why| *why)?;
        let request = if target.is_ipv4() { echo::request_v4 } else { echo::request_v6 };
        family.queue(key, target, source, request(self.ident, token));
        self.serial = serial;
        self.recent[usize::from(token.seq())] = key.slot;
        Ok(Ping { serial, seq: token.seq() })
    }

    /// Whether a batch is full.
    pub fn is_full(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(Raw::is_full)
    }

    /// Sends what is queued. Calls `failed` for each request that this host could not send.
    pub fn flush(&mut self, mut failed: impl FnMut(Key, Errno)) {
        for family in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            family.flush(&mut failed);
        }
    }

    /// Reads up to one batch of a family's packets. Returns whether there may be more.
    pub fn receive(&mut self, v4: bool, heard: &mut Vec<Result<Heard, Junk>>) -> bool {
        let Ok(family) = (if v4 { &mut self.v4 } else { &mut self.v6 }) else { return false };
        let more = family.receive();
        let Ok(family) = (if v4 { &self.v4 } else { &self.v6 }) else { return false };
        let parse = if v4 { echo::parse_v4 } else { echo::parse_v6 };
        heard.extend(family.packets().map(|(from, bytes)| match parse(bytes) {
            Some(Packet::Reply(_)) if v4 && !echo::is_intact_v4(bytes) => Err(Junk::Malformed),
            Some(packet) => self.recognise(packet, from),
            None => Err(Junk::Malformed),
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
    fn recognise(&self, packet: Packet, from: IpAddr) -> Result<Heard, Junk> {
        let (echo, about, error) = match packet {
            Packet::Reply(echo) => (echo, from, None),
            Packet::Error { what, target, quoted: Quoted::Echo(echo) } => (echo, target, Some(what)),
            Packet::Error { what, target, quoted: Quoted::Syn(syn) } => {
                return Ok(Heard { claim: Claim::Syn(syn, what), about: target, error: Some(what) });
            }
        };
        if echo.ident != self.ident {
            return Err(Junk::Stray);
        }
        let claim = match echo.token {
            Some(token) => {
                let key = Key::from(token.key);
                if token != self.token(key, token.serial) || echo.seq != token.seq() {
                    return Err(Junk::Spoofed);
                }
                Claim::Proven(key, token.serial)
            }
            None if error.is_some() => Claim::Short(self.recent[usize::from(echo.seq)], echo.seq),
            None => return Err(Junk::Spoofed),
        };
        Ok(Heard { claim, about, error })
    }

    /// The cookie is a keyed hash (SipHash, its key from the kernel's randomness): a server that has seen any
    /// number of its own cookies cannot make one for another.
    fn token(&self, key: Key, serial: u64) -> Token {
        let key = u64::from(key);
        Token { key, serial, cookie: self.cookies.hash_one((key, serial)) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::probe::echo::Echo;

    const KEY: Key = Key { slot: 7, epoch: 3 };
    const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn reply(pinger: &Pinger, change: impl FnOnce(&mut Echo)) -> Result<Claim, Junk> {
        let token = pinger.token(KEY, 42);
        let mut echo = Echo { ident: pinger.ident, seq: token.seq(), token: Some(token) };
        change(&mut echo);
        pinger.recognise(Packet::Reply(echo), TARGET).map(|heard| heard.claim)
    }

    fn forge(echo: &mut Echo, change: impl FnOnce(&mut Token)) {
        echo.token.as_mut().map(change);
    }

    #[test]
    fn only_the_cookie_proves_a_reply() {
        let pinger = Pinger::open(None).unwrap();
        assert_eq!(reply(&pinger, |_| {}), Ok(Claim::Proven(KEY, 42)));
        assert_eq!(reply(&pinger, |echo| echo.ident ^= 1), Err(Junk::Stray));
        assert_eq!(reply(&pinger, |echo| echo.seq ^= 1), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| echo.token = None), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| forge(echo, |token| token.cookie ^= 1)), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| forge(echo, |token| token.key ^= 1)), Err(Junk::Spoofed));
        assert_eq!(reply(&pinger, |echo| forge(echo, |token| token.serial ^= 1)), Err(Junk::Spoofed));
        // Another prober's cookies are worth nothing.
        let token = Pinger::open(None).unwrap().token(KEY, 42);
        assert_eq!(reply(&pinger, |echo| echo.token = Some(token)), Err(Junk::Spoofed));
    }

    #[test]
    fn a_short_quote_is_known_by_its_sequence_number() {
        let mut pinger = Pinger::open(None).unwrap();
        let token = pinger.token(KEY, 42);
        pinger.recent[usize::from(token.seq())] = KEY.slot;
        let echo = Echo { ident: pinger.ident, seq: token.seq(), token: None };
        let error = Packet::Error { what: "host unreachable", target: TARGET, quoted: Quoted::Echo(echo) };
        let heard = pinger.recognise(error, Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!((heard.claim, heard.about), (Claim::Short(KEY.slot, token.seq()), TARGET));
        assert!(heard.claim.is_about(Ping { serial: 42, seq: token.seq() }));
        assert!(!heard.claim.is_about(Ping { serial: 42, seq: token.seq() ^ 1 }));
    }
}
