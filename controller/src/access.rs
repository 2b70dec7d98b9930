//! Who may do what: the configuration's rules, held against who is at the other end of a connection.

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use maglev_core::config::{Api, Caller, Role};
use nix::unistd::getuid;
use tokio::sync::watch;
use tracing::warn;

mod accounts;
mod limiter;
pub mod peer;
#[cfg(test)]
mod tests;

pub use accounts::AccountDirectory;
pub use peer::{ClientCertificate, Peer, names};

use crate::config::{LoadedConfig, TlsConfig};
use crate::metrics::Metrics;
use limiter::Limiter;

/// What is in force, for all who ask. Clones share it.
#[derive(Clone)]
pub struct AccessControl {
    policy: watch::Sender<Arc<AccessPolicy>>,
    accounts: AccountDirectory,
    metrics: Arc<Metrics>,
    refusals: Arc<Mutex<Limiter>>,
    handshakes: Arc<Mutex<Limiter>>,
}

/// The rules in force, and what TLS takes.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// What TLS takes; `None` serves TCP as plain text.
    pub tls: Option<TlsConfig>,
    /// By their place in the configuration, without those that nobody can match.
    rules: Vec<(usize, RoleSubject, Role)>,
    /// Whether any rule is about users or groups.
    names_accounts: bool,
    /// The user that this process runs as.
    own: u32,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
enum RoleSubject {
    User(u32),
    Group(u32),
    Certificate(String),
}

/// What a peer may do, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoleGrant {
    /// The role; `None` may not even look.
    pub role: Option<Role>,
    /// Why.
    pub source: GrantSource,
}

/// Why a peer has its role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrantSource {
    /// It is root.
    Root,
    /// It runs as the daemon's own user.
    Own,
    /// By the rule of this index.
    Rule(usize),
    /// It was let in by the unix socket's mode, and no rule is about users or groups.
    Socket,
    /// It is of this host, and no rule is about users or groups.
    Loopback,
    /// It is of this host, and there are rules about users or groups.
    Unlisted,
    /// It comes by TCP and no rule is about its certificate.
    Network,
    /// It speaks plain text where TLS is wanted.
    PlainText,
}

impl AccessControl {
    /// With what was `loaded` in force.
    #[must_use]
    pub fn new(loaded: &LoadedConfig, metrics: Arc<Metrics>) -> Self {
        let accounts = AccountDirectory::of_this_process();
        let policy = AccessPolicy::new(loaded, &accounts);
        let policy = watch::Sender::new(Arc::new(policy));
        Self { policy, accounts, metrics, refusals: Arc::default(), handshakes: Arc::default() }
    }

    /// What is in force.
    #[must_use]
    pub fn policy(&self) -> Arc<AccessPolicy> {
        Arc::clone(&self.policy.borrow())
    }

    /// What `loaded` comes to. May wait for the system's directories of users and groups.
    #[must_use]
    pub fn prepare(&self, loaded: &LoadedConfig) -> AccessPolicy {
        AccessPolicy::new(loaded, &self.accounts)
    }

    /// Puts `policy` in force, for calls on connections that are there already as well.
    pub fn set(&self, policy: AccessPolicy) {
        self.policy.send_replace(Arc::new(policy));
    }

    /// The system's users and groups.
    #[must_use]
    pub const fn accounts(&self) -> &AccountDirectory {
        &self.accounts
    }

    /// Shows that nobody has been refused `call` yet.
    pub fn register_method(&self, call: &str) {
        self.metrics.refused(call, 0);
    }

    /// Tells that `who` was refused `call`, which takes `role`. Whoever asks again and again does not fill the log.
    pub fn refused(&self, who: &str, call: &str, role: Role, grant: RoleGrant) {
        self.metrics.refused(call, 1);
        if let Some(suppressed) = admit(&self.refusals) {
            let (takes, has) = (role.as_str(), grant.as_str());
            warn!(who, call, takes, has, why = grant.source.to_string(), suppressed, "call refused");
        }
    }

    /// Tells that no TLS was to be had with somebody at `address`, as often as it is worth.
    pub fn no_handshake(&self, address: IpAddr, error: &io::Error) {
        if let Some(suppressed) = admit(&self.handshakes) {
            warn!(%address, %error, suppressed, "no TLS handshake");
        }
    }
}

/// Whether one more may be told; inside, how many before it were not, if any.
fn admit(limiter: &Mutex<Limiter>) -> Option<Option<u64>> {
    // No holder of this lock leaves anything half done.
    let suppressed = limiter.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())?;
    Some((suppressed > 0).then_some(suppressed))
}

impl RoleGrant {
    /// The role as users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.role.map_or("no role", Role::as_str)
    }
}

impl AccessPolicy {
    fn new(loaded: &LoadedConfig, accounts: &AccountDirectory) -> Self {
        let api = &loaded.config.api;
        let names_accounts = api.roles.iter().any(|rule| !matches!(rule.caller, Caller::Certificate(_)));
        if names_accounts && accounts.hidden {
            warn!(
                "maglev.api.roles names users or groups, which cannot be told apart here, so these rules match nobody \
                 but root and maglevd itself: under systemd, `systemctl edit vpp-maglevd` and add the two lines \
                 `[Service]` and `PrivateUsers=no`"
            );
        }
        let rules = resolve(api, accounts);
        Self { tls: loaded.tls.clone(), rules, names_accounts, own: getuid().as_raw() }
    }

    /// What `peer` may do.
    #[must_use]
    pub fn grant(&self, peer: &Peer) -> RoleGrant {
        let default = self.default_for(peer);
        // No rule takes from root what root can have in other ways, or opens plain text.
        if matches!(default.source, GrantSource::Root | GrantSource::Own | GrantSource::PlainText) {
            return default;
        }
        let matching = self.rules.iter().filter(|(_, subject, _)| self.is(peer, subject));
        let highest = matching.max_by_key(|(index, _, role)| (*role, Reverse(*index)));
        highest.map_or(default, |(index, _, role)| RoleGrant {
            role: Some(*role),
            source: GrantSource::Rule(*index),
        })
    }

    fn default_for(&self, peer: &Peer) -> RoleGrant {
        let (role, source) = match peer {
            Peer::Unix { uid: 0, .. } => (Role::Admin, GrantSource::Root),
            Peer::Unix { uid, .. } if *uid == self.own => (Role::Admin, GrantSource::Own),
            Peer::Tcp { tls: false, .. } if self.tls.is_some() => {
                return RoleGrant { role: None, source: GrantSource::PlainText };
            }
            Peer::Tcp { address, .. } if !address.is_loopback() => (Role::View, GrantSource::Network),
            // Whoever is on this host can come by loopback, so that it must not be worth more than the socket.
            Peer::Unix { .. } | Peer::Tcp { .. } if self.names_accounts => {
                (Role::View, GrantSource::Unlisted)
            }
            Peer::Unix { .. } => (Role::Operate, GrantSource::Socket),
            Peer::Tcp { .. } => (Role::Operate, GrantSource::Loopback),
        };
        RoleGrant { role: Some(role), source }
    }

    fn is(&self, peer: &Peer, subject: &RoleSubject) -> bool {
        match (peer, subject) {
            (Peer::Unix { uid, .. }, RoleSubject::User(user)) => uid == user,
            (Peer::Unix { groups, .. }, RoleSubject::Group(group)) => groups.contains(group),
            (Peer::Tcp { certificate: Some(certificate), .. }, RoleSubject::Certificate(name)) => {
                // A reload may have put another authority in force since the handshake.
                let authority = self.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
                authority == Some(&certificate.authority)
                    && certificate.names.iter().any(|found| found.eq_ignore_ascii_case(name))
            }
            (Peer::Unix { .. } | Peer::Tcp { .. }, _) => false,
        }
    }
}

/// An account that is not there must not hold up a reload: nobody can have it.
fn resolve(api: &Api, accounts: &AccountDirectory) -> Vec<(usize, RoleSubject, Role)> {
    let mut rules = Vec::new();
    for (index, rule) in api.roles.iter().enumerate() {
        let subject = match &rule.caller {
            Caller::User(account) => accounts::user(account).map(RoleSubject::User),
            Caller::Group(account) => accounts::group(account).map(RoleSubject::Group),
            Caller::Certificate(name) => Ok(RoleSubject::Certificate(name.clone())),
        };
        match subject {
            // What stands for everybody who is not known stands for nobody.
            Ok(RoleSubject::User(id) | RoleSubject::Group(id)) if accounts.is_hidden(id) => {}
            Ok(subject) => rules.push((index, subject, rule.role)),
            Err(why) => warn!(why, "maglev.api.roles[{index}] matches nobody"),
        }
    }
    rules
}

impl fmt::Display for GrantSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "as root",
            Self::Own => "as maglevd's own user",
            Self::Rule(index) => return write!(f, "by maglev.api.roles[{index}]"),
            Self::Socket => "as a peer on the unix socket",
            Self::Loopback => "as a peer of this host",
            Self::Unlisted => "as maglev.api.roles names users or groups, and no rule matches",
            Self::Network => "by TCP without a certificate that a rule of maglev.api.roles names",
            Self::PlainText => "as maglev.api.tls is set, and this connection is plain text",
        })
    }
}
