//! Servers that cost the prober time, or excuses.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, iter};

use anyhow::Context;
use nix::sys::socket::{SockaddrIn, recvfrom};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P384_SHA384,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Protocol, Socket, Type};

use super::address;

/// Body that passes.
const OK_BODY: &str = r#""status":"ok""#;
/// Port of the hostile server.
const PORT: u16 = 7004;
/// Name in the certificates.
const NAME: &str = "hostile.example";
/// Largest body that a prober matches.
const BODY: usize = 64 << 10;
/// Time between two bytes of a dripping body.
const DRIP: Duration = Duration::from_millis(1);
/// Packets of a flood, and their pause: 50,000 per second.
const BURST: u16 = 200;
const PAUSE: Duration = Duration::from_millis(4);
/// False issuers in a chain, as many as the prober accepts: each costs the verification of a signature.
const ISSUERS: usize = maglev_tls::MAX_ISSUERS;

/// A way to delay the prober.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hostility {
    /// The largest body, which nearly matches everywhere.
    Body,
    /// Chains of certificates with many false issuers.
    Chain,
    /// A body of single bytes.
    Drip,
    /// False echo replies.
    Replies,
    /// ICMP errors about probes of others.
    Errors,
}

impl Hostility {
    /// All ways.
    pub const ALL: [Self; 5] = [Self::Body, Self::Chain, Self::Drip, Self::Replies, Self::Errors];

    /// Returns the name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Body => "large bodies for an expression",
            Self::Chain => "TLS handshakes with 16 false issuers",
            Self::Drip => "bodies byte by byte",
            Self::Replies => "50,000 false echo replies per second",
            Self::Errors => "50,000 ICMP errors per second",
        }
    }

    /// Returns the healthcheck that the server fails, ten times per second.
    #[must_use]
    pub fn healthcheck(self, authority: &Path) -> String {
        let probe = match self {
            Self::Body | Self::Drip => {
                format!(
                    r#"type: http, port: {PORT}, params: {{ response-regexp: '"status":.{{0,20}}"ok"' }}"#
                )
            }
            Self::Chain => format!(
                "type: https, port: {PORT}, params: {{ server-name: {NAME}, ca-file: {} }}",
                authority.display()
            ),
            Self::Replies | Self::Errors => "type: icmp".to_owned(),
        };
        format!("{probe}, interval: 100ms, fast-interval: 100ms, down-interval: 100ms, timeout: 1s")
    }
}

/// A running server, which behaves at first. Ended on drop.
pub struct HostileServer {
    shared: Arc<SharedState>,
    authority: PathBuf,
    /// Shut down to end a server of TCP.
    listener: Option<Arc<TcpListener>>,
    thread: Option<JoinHandle<()>>,
}

struct SharedState {
    hostility: Hostility,
    is_hostile: AtomicBool,
    has_ended: AtomicBool,
    /// TLS of the well-behaved and of the hostile server.
    tls: [Arc<ServerConfig>; 2],
}

impl HostileServer {
    /// Starts a server. The sender of floods has `address`.
    ///
    /// # Errors
    /// If the port is taken, raw sockets are not permitted, or `directory` is not writable.
    pub fn start(hostility: Hostility, address: Ipv4Addr, directory: &Path) -> anyhow::Result<Self> {
        let (certificate, tls) = tls()?;
        let authority = directory.join("authority.pem");
        fs::write(&authority, certificate)?;
        let shared =
            Arc::new(SharedState { hostility, is_hostile: false.into(), has_ended: false.into(), tls });
        let state = Arc::clone(&shared);
        let (listener, thread) = if matches!(hostility, Hostility::Replies | Hostility::Errors) {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
            socket.bind(&SocketAddr::from((address, 0)).into())?;
            socket.set_nonblocking(true)?;
            (None, thread::spawn(move || state.flood(&socket)))
        } else {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("the hostile server")?;
            let listener = Arc::new(listener);
            let acceptor = Arc::clone(&listener);
            (Some(listener), thread::spawn(move || state.accept(&acceptor)))
        };
        Ok(Self { shared, authority, listener, thread: Some(thread) })
    }

    /// Returns the path of its authority's certificate.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Makes it hostile.
    pub fn turn_hostile(&self) {
        self.shared.is_hostile.store(true, Ordering::Relaxed);
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            // Wakes the accepting thread.
            _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

impl SharedState {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let state = Arc::clone(&self);
            // It ends with its connection; the prober's timeout bounds that.
            thread::spawn(move || state.serve(stream));
        }
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let is_hostile = self.is_hostile.load(Ordering::Relaxed);
        if self.hostility == Hostility::Chain {
            let config = Arc::clone(&self.tls[usize::from(is_hostile)]);
            let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = rustls::Stream::new(&mut tls, &mut stream);
            return answer(&mut stream, OK_BODY);
        }
        if !is_hostile {
            return answer(&mut stream, OK_BODY);
        }
        let body = r#""status":"#.repeat(BODY / 9);
        if self.hostility == Hostility::Body {
            return answer(&mut stream, &body);
        }
        read_request(&mut stream)?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        for byte in body.as_bytes() {
            stream.write_all(std::slice::from_ref(byte))?;
            thread::sleep(DRIP);
        }
        stream.shutdown(Shutdown::Both)
    }

    /// Sends floods to the prober that has sent an echo request, while hostile.
    fn flood(&self, socket: &Socket) {
        let mut prober = None;
        let mut sequence = 0_u16;
        while !self.has_ended.load(Ordering::Relaxed) {
            let began = Instant::now();
            while let Some(request) = EchoRequest::receive(socket) {
                prober = Some(request);
            }
            if let Some(request) = prober.as_ref().filter(|_| self.is_hostile.load(Ordering::Relaxed)) {
                for _ in 0..BURST {
                    sequence = sequence.wrapping_add(1);
                    let packet = match self.hostility {
                        Hostility::Replies => request.false_reply(sequence),
                        _ => request.error(sequence),
                    };
                    // A full buffer loses this packet only.
                    _ = socket.send_to(&packet, &request.from.into());
                }
            }
            thread::sleep(PAUSE.saturating_sub(began.elapsed()));
        }
    }
}

/// The properties of an echo request that a flood needs.
struct EchoRequest {
    from: SocketAddrV4,
    identifier: [u8; 2],
}

impl EchoRequest {
    /// Returns the next one that has arrived.
    fn receive(socket: &Socket) -> Option<Self> {
        let mut room = [0; 256];
        loop {
            let (length, from) = recvfrom::<SockaddrIn>(socket.as_raw_fd(), &mut room).ok()?;
            // The IP header comes first.
            let packet = room[..length].get(usize::from(room[0] & 15) * 4..)?;
            if let &[8, 0, _, _, high, low, ..] = packet {
                return Some(Self { from: from?.into(), identifier: [high, low] });
            }
        }
    }

    /// Returns an echo reply with the prober's identifier and without its cookie.
    fn false_reply(&self, sequence: u16) -> Vec<u8> {
        let mut packet = echo(0, self.identifier, sequence).to_vec();
        packet.extend([0; 32]);
        with_checksum(packet)
    }

    /// Returns an error that quotes as much of a request to another backend as RFC 792 requires.
    fn error(&self, sequence: u16) -> Vec<u8> {
        const UNREACHABLE: [u8; 8] = [3, 1, 0, 0, 0, 0, 0, 0];
        let [high, low] = 60_u16.to_be_bytes();
        let mut packet = [&UNREACHABLE[..], &[0x45, 0, high, low, 0, 0, 0, 0, 64, 1, 0, 0]].concat();
        packet.extend(self.from.ip().octets());
        packet.extend(address::of(u32::from(sequence) % 400).octets());
        packet.extend(echo(8, self.identifier, sequence));
        with_checksum(packet)
    }
}

const fn echo(kind: u8, [high, low]: [u8; 2], sequence: u16) -> [u8; 8] {
    let [first, second] = sequence.to_be_bytes();
    [kind, 0, 0, 0, high, low, first, second]
}

/// Sets the checksum of an ICMP message of even length (RFC 1071).
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let words = packet.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn read_request(stream: &mut impl Read) -> io::Result<()> {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        asked.extend(byte);
    }
    Ok(())
}

fn answer(stream: &mut (impl Read + Write), body: &str) -> io::Result<()> {
    read_request(stream)?;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

/// Returns an authority's certificate in PEM, and the TLS of a server with a valid chain and with a hostile one.
fn tls() -> anyhow::Result<(String, [Arc<ServerConfig>; 2])> {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);
    let authority = CertifiedIssuer::self_signed(issuer("authority"), key()?)?;
    let false_authority = CertifiedIssuer::self_signed(issuer("authority"), key()?)?;
    let leaf_key = KeyPair::generate()?;
    let leaf = CertificateParams::new([NAME.to_owned()])?;
    let valid = leaf.signed_by(&leaf_key, &authority)?;
    // The signature of a false issuer is verified, as its name and that of its authority are right.
    let issuers = (0..ISSUERS).map(|_| {
        let key = KeyPair::generate()?;
        Ok(issuer("issuer").signed_by(&key, &false_authority)?.der().clone())
    });
    let issuers = issuers.collect::<anyhow::Result<Vec<_>>>()?;
    let unsigned = leaf.signed_by(&leaf_key, &Issuer::new(issuer("issuer"), KeyPair::generate()?))?;
    let chains = [vec![valid.der().clone()], iter::once(unsigned.der().clone()).chain(issuers).collect()];
    let [valid, hostile] = chains.map(|chain| server_config(chain, &leaf_key));
    Ok((authority.pem(), [valid?, hostile?]))
}

fn issuer(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn server_config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> anyhow::Result<Arc<ServerConfig>> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_message_with_checksum_is_zero() {
        let request =
            EchoRequest { from: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), identifier: [0xab, 0xcd] };
        for packet in [request.false_reply(0xffff), request.error(7)] {
            assert_eq!(with_checksum(packet)[2..4], [0, 0]);
        }
    }
}
