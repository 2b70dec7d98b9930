//! `api`: roles of callers. Accounts stay names here; maglevd resolves them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// `api`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Api {
    /// TLS of the TCP listeners; `None` serves plain text.
    pub tls: Option<ApiTls>,
    /// Rules that grant roles. The highest of the matching ones counts.
    pub roles: Vec<Rule>,
    /// Role of a TCP client on a loopback address that no rule matches. Such a client may be any process of the host.
    pub loopback_role: Role,
}

/// `api.tls`: absolute paths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiTls {
    /// The server's certificate chain in PEM.
    pub certificate: String,
    /// Its private key in PEM.
    pub key: String,
    /// Authorities of client certificates in PEM; `None` requests no certificate.
    pub client_ca: Option<String>,
    /// The authorities' revocation lists in PEM; `None` accepts revoked certificates.
    pub client_crl: Option<String>,
}

/// Role of a caller. Each role includes the previous ones.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Read only.
    #[default]
    View,
    /// Changes traffic.
    Operate,
    /// Changes the configuration.
    Admin,
}

/// One of `api.roles`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The caller.
    pub caller: Caller,
    /// The granted role.
    pub role: Role,
}

/// Caller that a rule matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Peers on the unix socket that run as this user.
    User(Account),
    /// Peers on the unix socket with this primary or supplementary group.
    Group(Account),
    /// Clients with a certificate for this name.
    Certificate(String),
}

/// A user or a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

impl Role {
    /// Returns the role as users write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
