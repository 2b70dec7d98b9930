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

pub use accounts::Accounts;
pub use peer::{Certificate, Peer, names};

use crate::config::{Loaded, Tls};
use crate::metrics::Metrics;
use limiter::Limiter;

/// What is in force, for all who ask. Clones share it.
#[derive(Clone)]
pub struct Access {
    policy: watch::Sender<Arc<Policy>>,
    accounts: Accounts,
    metrics: Arc<Metrics>,
    refusals: Arc<Mutex<Limiter>>,
    handshakes: Arc<Mutex<Limiter>>,
}

/// The rules in force, and what TLS takes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What TLS takes; `None` serves TCP as plain text.
    pub tls: Option<Tls>,
    /// By their place in the configuration, without those that nobody can match.
    rules: Vec<(usize, Subject, Role)>,
    /// Whether any rule is about users or groups.
    names_accounts: bool,
    /// The user that this process runs as.
    own: u32,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Subject {
    User(u32),
    Group(u32),
    Certificate(String),
}

/// What a peer may do, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The role; `None` may not even look.
    pub role: Option<Role>,
    /// Why.
    pub ground: Ground,
}

/// Why a peer has its role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ground {
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

impl Access {
    /// With what was `loaded` in force.
    #[must_use]
    pub fn new(loaded: &Loaded, metrics: Arc<Metrics>) -> Self {
        let accounts = Accounts::of_this_process();
        let policy = Policy::new(loaded, &accounts);
        let policy = watch::Sender::new(Arc::new(policy));
        Self { policy, accounts, metrics, refusals: Arc::default(), handshakes: Arc::default() }
    }

    /// What is in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// What `loaded` comes to. May wait for the system's directories of users and groups.
    #[must_use]
    pub fn prepare(&self, loaded: &Loaded) -> Policy {
        Policy::new(loaded, &self.accounts)
    }

    /// Puts `policy` in force, for calls on connections that are there already as well.
    pub fn set(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }

    /// The system's users and groups.
    #[must_use]
    pub const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Shows that nobody has been refused `call` yet.
    pub fn announce(&self, call: &str) {
        self.metrics.refused(call, 0);
    }

    /// Tells that `who` was refused `call`, which takes `role`. Whoever asks again and again does not fill the log.
    pub fn refused(&self, who: &str, call: &str, role: Role, grant: Grant) {
        self.metrics.refused(call, 1);
        if let Some(untold) = admit(&self.refusals) {
            let (takes, has) = (role.as_str(), grant.as_str());
            warn!(who, call, takes, has, why = grant.ground.to_string(), untold, "call refused");
        }
    }

    /// Tells that no TLS was to be had with somebody at `address`, as often as it is worth.
    pub fn no_handshake(&self, address: IpAddr, error: &io::Error) {
        if let Some(untold) = admit(&self.handshakes) {
            warn!(%address, %error, untold, "no TLS handshake");
        }
    }
}

/// Whether one more may be told; inside, how many before it were not, if any.
fn admit(limiter: &Mutex<Limiter>) -> Option<Option<u64>> {
    // No holder of this lock leaves anything half done.
    let untold = limiter.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())?;
    Some((untold > 0).then_some(untold))
}

impl Grant {
    /// The role as users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.role.map_or("no role", Role::as_str)
    }
}

impl Policy {
    fn new(loaded: &Loaded, accounts: &Accounts) -> Self {
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
    pub fn grant(&self, peer: &Peer) -> Grant {
        let default = self.default_for(peer);
        // No rule takes from root what root can have in other ways, or opens plain text.
        if matches!(default.ground, Ground::Root | Ground::Own | Ground::PlainText) {
            return default;
        }
        let matching = self.rules.iter().filter(|(_, subject, _)| self.is(peer, subject));
        let highest = matching.max_by_key(|(index, _, role)| (*role, Reverse(*index)));
        highest.map_or(default, |(index, _, role)| Grant { role: Some(*role), ground: Ground::Rule(*index) })
    }

    fn default_for(&self, peer: &Peer) -> Grant {
        let (role, ground) = match peer {
            Peer::Unix { uid: 0, .. } => (Role::Admin, Ground::Root),
            Peer::Unix { uid, .. } if *uid == self.own => (Role::Admin, Ground::Own),
            Peer::Tcp { tls: false, .. } if self.tls.is_some() => {
                return Grant { role: None, ground: Ground::PlainText };
            }
            Peer::Tcp { address, .. } if !address.is_loopback() => (Role::View, Ground::Network),
            // Whoever is on this host can come by loopback, so that it must not be worth more than the socket.
            Peer::Unix { .. } | Peer::Tcp { .. } if self.names_accounts => (Role::View, Ground::Unlisted),
            Peer::Unix { .. } => (Role::Operate, Ground::Socket),
            Peer::Tcp { .. } => (Role::Operate, Ground::Loopback),
        };
        Grant { role: Some(role), ground }
    }

    fn is(&self, peer: &Peer, subject: &Subject) -> bool {
        match (peer, subject) {
            (Peer::Unix { uid, .. }, Subject::User(user)) => uid == user,
            (Peer::Unix { groups, .. }, Subject::Group(group)) => groups.contains(group),
            (Peer::Tcp { certificate: Some(certificate), .. }, Subject::Certificate(name)) => {
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
fn resolve(api: &Api, accounts: &Accounts) -> Vec<(usize, Subject, Role)> {
    let mut rules = Vec::new();
    for (index, rule) in api.roles.iter().enumerate() {
        let subject = match &rule.caller {
            Caller::User(account) => accounts::user(account).map(Subject::User),
            Caller::Group(account) => accounts::group(account).map(Subject::Group),
            Caller::Certificate(name) => Ok(Subject::Certificate(name.clone())),
        };
        match subject {
            // What stands for everybody who is not known stands for nobody.
            Ok(Subject::User(id) | Subject::Group(id)) if accounts.is_hidden(id) => {}
            Ok(subject) => rules.push((index, subject, rule.role)),
            Err(why) => warn!(why, "maglev.api.roles[{index}] matches nobody"),
        }
    }
    rules
}

impl fmt::Display for Ground {
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
