//! Identity of a peer, from the kernel (`SO_PEERCRED`) or from its certificate.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::net::UnixStream;
use tracing::warn;
use uapi::c;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::accounts::AccountDirectory;

/// Maximum number of groups read of a peer. Few systems allow an account more.
const MAX_GROUPS: usize = 4096;

/// Peer of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peer {
    /// Local process on the unix socket.
    Unix {
        /// User ID.
        uid: u32,
        /// Group IDs, the primary one included.
        groups: Vec<u32>,
    },
    /// Client over TCP.
    Tcp {
        /// Source address.
        address: IpAddr,
        /// True if the connection uses TLS.
        tls: bool,
        /// Verified client certificate.
        certificate: Option<ClientCertificate>,
    },
}

/// Client certificate that was verified in the handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// Its DNS names.
    pub names: Vec<String>,
    /// Its serial number in hexadecimal.
    serial: String,
    /// The certificate and those between it and its root, as the client sent them.
    chain: Vec<CertificateDer<'static>>,
}

impl ClientCertificate {
    /// Reads a verified certificate, the first of the `chain` that the client sent.
    #[must_use]
    pub fn new(chain: &[CertificateDer<'_>]) -> Self {
        let parsed = chain.first().and_then(|first| X509Certificate::from_der(first).ok());
        let (names, serial) =
            parsed.map(|(_, found)| (dns_names(&found), serial(&found))).unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { names, serial, chain }
    }

    /// Returns true if `verifier` still accepts the certificate at the time `now`.
    #[must_use]
    pub fn is_valid(&self, verifier: &dyn ClientCertVerifier, now: UnixTime) -> bool {
        let Some((first, others)) = self.chain.split_first() else { return false };
        verifier.verify_client_cert(first, others, now).is_ok()
    }

    /// Formats the certificate by one of its names.
    fn describe(&self, name: Option<&str>, address: IpAddr) -> String {
        let serial = &self.serial;
        match name {
            Some(name) => format!("{} (certificate {serial}, {address})", name.escape_debug()),
            None => format!("{address} (certificate {serial})"),
        }
    }
}

impl Peer {
    /// Returns the peer of `stream`. The kernel keeps the credentials after the peer has closed.
    ///
    /// # Errors
    /// Error of the system call.
    pub fn of_unix(stream: &UnixStream, accounts: &AccountDirectory) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut groups = vec![credentials.gid()];
        groups.extend(supplementary_groups(stream));
        groups.retain(|gid| !accounts.is_hidden(*gid));
        Ok(Self::Unix { uid: credentials.uid(), groups })
    }

    /// Returns a TCP peer. An IPv4-mapped address becomes IPv4.
    #[must_use]
    pub fn of_tcp(address: IpAddr, tls: bool, certificate: Option<ClientCertificate>) -> Self {
        Self::Tcp { address: address.to_canonical(), tls, certificate }
    }

    /// Formats the peer for the log and the audit trail.
    pub async fn describe(&self, accounts: &AccountDirectory) -> String {
        match self {
            Self::Unix { uid, .. } => accounts.describe(*uid).await,
            Self::Tcp { address, certificate: None, .. } => address.to_string(),
            Self::Tcp { address, certificate: Some(certificate), .. } => {
                certificate.describe(certificate.names.first().map(String::as_str), *address)
            }
        }
    }

    /// Formats a peer whose certificate has its role by `name`; `None` for a peer without a certificate.
    #[must_use]
    pub fn describe_by(&self, name: &str) -> Option<String> {
        match self {
            Self::Tcp { address, certificate: Some(certificate), .. } => {
                Some(certificate.describe(Some(name), *address))
            }
            Self::Tcp { .. } | Self::Unix { .. } => None,
        }
    }
}

fn supplementary_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups = vec![0_u32; MAX_GROUPS];
    match uapi::getsockopt(stream.as_raw_fd(), c::SOL_SOCKET, c::SO_PEERGROUPS, groups.as_mut_slice()) {
        Ok(bytes) => {
            groups.truncate(bytes / size_of::<u32>());
            groups
        }
        Err(error) => {
            warn!(%error, "cannot read the groups of a unix peer");
            Vec::new()
        }
    }
}

/// Returns the DNS names of a certificate. Its common name is none (RFC 9525 section 2.1).
fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let general = alternatives.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let dns = general.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

/// Returns the serial number, which has 20 bytes at most (RFC 5280 section 4.1.2.2).
fn serial(certificate: &X509Certificate<'_>) -> String {
    certificate.raw_serial().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}
