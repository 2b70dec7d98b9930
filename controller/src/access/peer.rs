//! Identity of a peer, from the kernel (`SO_PEERCRED`) or from its certificate.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

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

/// Verified client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// DNS names of the certificate, or else its common name.
    pub names: Vec<String>,
    /// CA bundle that it was verified against, in PEM.
    pub authority: Arc<[u8]>,
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
            Self::Tcp { address, certificate, .. } => {
                match certificate.as_ref().and_then(|certificate| certificate.names.first()) {
                    Some(name) => format!("{} ({address})", name.escape_debug()),
                    None => address.to_string(),
                }
            }
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

/// Returns the DNS names of the certificate `der`, or the common name of an old one without DNS names.
#[must_use]
pub fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let general = alternatives.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let dns = general.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let dns: Vec<_> = dns.collect();
    if !dns.is_empty() {
        return dns;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_owned).collect()
}
