//! `api`: who may call what. Names stay names here: what they stand for is known where the system can be asked.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// `api`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Api {
    /// What proves who is who over TCP; `None` serves it as plain text.
    pub tls: Option<ApiTls>,
    /// Who has which role. Of those that match, the highest counts.
    pub roles: Vec<Rule>,
}

/// `api.tls`: absolute paths.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiTls {
    /// The server's certificate and what leads to its root, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
    /// What the certificates of clients are held against, in PEM; `None` asks for none.
    pub client_ca: Option<String>,
}

/// What a caller may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Look.
    View,
    /// Change what traffic does.
    Operate,
    /// Change what is in force.
    Admin,
}

/// One of `api.roles`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Whom it is about.
    pub caller: Caller,
    /// What they may do.
    pub role: Role,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Peers on the unix socket that run as this user.
    User(Account),
    /// Peers on the unix socket that run in this group, as their first or another.
    Group(Account),
    /// Clients whose certificate is for this name.
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
    /// The role as users write it.
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
