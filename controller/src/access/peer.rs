//! Who is at the other end of a connection: as the kernel says, or a certificate.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use tokio::net::UnixStream;
use tracing::warn;
use uapi::c;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::accounts::AccountDirectory;

/// How many groups of a peer are looked at. Few systems let an account have more than this many.
const MAX_GROUPS: usize = 4096;

/// Whoever is at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A process of this host, by the unix socket.
    Unix {
        /// Its user.
        uid: u32,
        /// Its groups, the first one too.
        groups: Vec<u32>,
    },
    /// Somebody by TCP.
    Tcp {
        /// Their address.
        address: IpAddr,
        /// Whether they speak TLS.
        tls: bool,
        /// What they have proved to be.
        certificate: Option<ClientCertificate>,
    },
}

/// A client's certificate that was found good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// What it is for: the DNS names in it, or else its common name.
    pub names: Vec<String>,
    /// What it was held against.
    pub authority: Arc<[u8]>,
}

impl Peer {
    /// The peer of `stream`. A socket that has lost its peer since has kept who it was.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn of_unix(stream: &UnixStream, accounts: &AccountDirectory) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut groups = vec![credentials.gid()];
        groups.extend(supplementary_groups(stream));
        groups.retain(|gid| !accounts.is_hidden(*gid));
        Ok(Self::Unix { uid: credentials.uid(), groups })
    }

    /// A peer by TCP. IPv4 is told as IPv4 on a socket for both.
    #[must_use]
    pub fn of_tcp(address: IpAddr, tls: bool, certificate: Option<ClientCertificate>) -> Self {
        Self::Tcp { address: address.to_canonical(), tls, certificate }
    }

    /// In words, for the log and the audit trail.
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
            warn!(%error, "the groups of a unix peer are not known");
            Vec::new()
        }
    }
}

/// What the certificate `der` is for: its DNS names, or, in one of old that has none, its common name.
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
