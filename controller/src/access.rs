//! Access control: matches the configured roles against the peer of a connection.

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use maglev_core::config::{Api, Caller, Role};
use maglev_tls::describe;
use nix::unistd::getuid;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tracing::warn;

mod accounts;
mod limiter;
pub mod peer;
#[cfg(test)]
mod tests;

pub use accounts::AccountDirectory;
pub use peer::{ClientCertificate, Peer};

use crate::config::{LoadedConfig, TlsConfig};
use crate::metrics::Metrics;
use limiter::LogLimiter;

/// Access rules in force. Clones share them.
#[derive(Clone)]
pub struct AccessControl {
    policy: watch::Sender<Arc<AccessPolicy>>,
    accounts: AccountDirectory,
    metrics: Arc<Metrics>,
    refusals: Arc<Mutex<LogLimiter>>,
    handshakes: Arc<Mutex<LogLimiter>>,
}

/// Resolved access rules and the TLS configuration.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// TLS configuration; `None` serves plain text over TCP.
    pub tls: Option<TlsConfig>,
    /// Rules with their index in the configuration. A rule that no peer can match is left out.
    rules: Vec<(usize, RoleSubject, Role)>,
    /// Role of loopback clients that no rule matches.
    loopback_role: Role,
    /// True if the configuration has any rule.
    has_rules: bool,
    /// User ID of this process.
    own_uid: u32,
}

/// Subject of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
enum RoleSubject {
    User(u32),
    Group(u32),
    Certificate(String),
}

/// Role of a peer, and the reason for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoleGrant {
    /// Role; `None` permits no call.
    pub role: Option<Role>,
    /// Reason.
    pub source: GrantSource,
}

/// Reason for a peer's role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrantSource {
    /// The peer is root.
    Root,
    /// The peer runs as the daemon's own user.
    Own,
    /// Index of the matching rule.
    Rule(usize),
    /// The unix socket's mode admitted the peer, and there are no rules.
    Socket,
    /// The peer is any process of this host.
    Loopback,
    /// The unix socket's mode admitted the peer, and no rule matches it.
    Unlisted,
    /// The peer uses TCP, and no rule names its certificate.
    Network,
    /// The peer uses plain text although TLS is configured.
    PlainText,
}

impl AccessControl {
    /// Puts the rules of `loaded` in force.
    #[must_use]
    pub fn new(loaded: &LoadedConfig, metrics: Arc<Metrics>) -> Self {
        let accounts = AccountDirectory::of_this_process();
        let policy = AccessPolicy::new(loaded, &accounts);
        let policy = watch::Sender::new(Arc::new(policy));
        Self { policy, accounts, metrics, refusals: Arc::default(), handshakes: Arc::default() }
    }

    /// Returns the policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<AccessPolicy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Resolves the rules of `loaded`. Blocks on the system's user and group databases.
    #[must_use]
    pub fn resolve_policy(&self, loaded: &LoadedConfig) -> AccessPolicy {
        AccessPolicy::new(loaded, &self.accounts)
    }

    /// Replaces the policy, also for calls on open connections.
    pub fn set(&self, policy: AccessPolicy) {
        self.policy.send_replace(Arc::new(policy));
    }

    /// Returns the system's users and groups.
    #[must_use]
    pub const fn accounts(&self) -> &AccountDirectory {
        &self.accounts
    }

    /// Creates the refusal counter of `call` with the value 0.
    pub fn register_method(&self, call: &str) {
        self.metrics.count_refusals(call, 0);
    }

    /// Counts and logs a refused call. The log is rate-limited, so a client that retries cannot fill it.
    pub fn refused(&self, who: &str, call: &str, role: Role, grant: RoleGrant) {
        self.metrics.count_refusals(call, 1);
        if let Some(suppressed) = take_log_token(&self.refusals) {
            let (takes, has) = (role.as_str(), grant.as_str());
            warn!(who, call, takes, has, why = grant.source.to_string(), suppressed, "call refused");
        }
    }

    /// Logs a failed TLS handshake, rate-limited.
    pub fn log_failed_handshake(&self, address: IpAddr, error: &io::Error) {
        if let Some(suppressed) = take_log_token(&self.handshakes) {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let error = tls.map_or_else(|| error.to_string().into(), |fault| describe(fault, "client"));
            warn!(%address, %error, suppressed, "TLS handshake failed");
        }
    }
}

/// Takes a token to log one message. Returns `None` if it must be suppressed; else the number of suppressed ones, if
/// any.
fn take_log_token(limiter: &Mutex<LogLimiter>) -> Option<Option<u64>> {
    // A poisoned lock is safe to use: no holder leaves a partial update.
    let suppressed = limiter.lock().unwrap_or_else(PoisonError::into_inner).take_log_token(Instant::now())?;
    Some((suppressed > 0).then_some(suppressed))
}

impl RoleGrant {
    /// Returns the role as users write it.
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
                "maglev.api.roles names users or groups, but this process cannot see other accounts, so these rules \
                 match only root and maglevd itself: run it outside of a user namespace, under systemd by PrivateUsers=no"
            );
        }
        let rules = resolve_rules(api, accounts);
        Self {
            tls: loaded.tls.clone(),
            rules,
            loopback_role: api.loopback_role,
            has_rules: !api.roles.is_empty(),
            own_uid: getuid().as_raw(),
        }
    }

    /// Returns the role of `peer` at the time `now`.
    #[must_use]
    pub fn grant(&self, peer: &Peer, now: UnixTime) -> RoleGrant {
        let default = self.default_for(peer);
        // Rules cannot demote root, which has other ways, and cannot permit plain text.
        if matches!(default.source, GrantSource::Root | GrantSource::Own | GrantSource::PlainText) {
            return default;
        }
        let matching = self.rules.iter().filter(|(_, subject, _)| self.is(peer, subject, now));
        let highest = matching.max_by_key(|(index, _, role)| (*role, Reverse(*index)));
        highest.map_or(default, |(index, _, role)| RoleGrant {
            role: Some(*role),
            source: GrantSource::Rule(*index),
        })
    }

    fn default_for(&self, peer: &Peer) -> RoleGrant {
        let (role, source) = match peer {
            Peer::Unix { uid: 0, .. } => (Role::Admin, GrantSource::Root),
            Peer::Unix { uid, .. } if *uid == self.own_uid => (Role::Admin, GrantSource::Own),
            Peer::Tcp { tls: false, .. } if self.tls.is_some() => {
                return RoleGrant { role: None, source: GrantSource::PlainText };
            }
            Peer::Tcp { address, .. } if !address.is_loopback() => (Role::View, GrantSource::Network),
            // Any process of this host can connect, and the kernel does not name it.
            Peer::Tcp { .. } => (self.loopback_role, GrantSource::Loopback),
            Peer::Unix { .. } if self.has_rules => (Role::View, GrantSource::Unlisted),
            Peer::Unix { .. } => (Role::Operate, GrantSource::Socket),
        };
        RoleGrant { role: Some(role), source }
    }

    /// Returns the DNS name by which a certificate has its role; `None` if it does not have it by a rule.
    #[must_use]
    pub fn certificate_name(&self, grant: RoleGrant) -> Option<&str> {
        let GrantSource::Rule(granted) = grant.source else { return None };
        self.rules.iter().find_map(|(index, subject, _)| match subject {
            RoleSubject::Certificate(name) if *index == granted => Some(&**name),
            _ => None,
        })
    }

    fn is(&self, peer: &Peer, subject: &RoleSubject, now: UnixTime) -> bool {
        match (peer, subject) {
            (Peer::Unix { uid, .. }, RoleSubject::User(user)) => uid == user,
            (Peer::Unix { groups, .. }, RoleSubject::Group(group)) => groups.contains(group),
            (Peer::Tcp { certificate: Some(certificate), .. }, RoleSubject::Certificate(name)) => {
                // Since the handshake it may have expired, and a reload may have replaced the CA or the revocation lists.
                let verifier = self.tls.as_ref().and_then(|tls| tls.client_verifier.as_deref());
                certificate.names.iter().any(|found| found.eq_ignore_ascii_case(name))
                    && verifier.is_some_and(|verifier| certificate.is_valid(verifier, now))
            }
            (Peer::Unix { .. } | Peer::Tcp { .. }, _) => false,
        }
    }
}

/// Resolves accounts to IDs. A missing account must not fail a reload: no peer can match it.
fn resolve_rules(api: &Api, accounts: &AccountDirectory) -> Vec<(usize, RoleSubject, Role)> {
    let mut rules = Vec::new();
    for (index, rule) in api.roles.iter().enumerate() {
        let subject = match &rule.caller {
            Caller::User(account) => accounts::user(account).map(RoleSubject::User),
            Caller::Group(account) => accounts::group(account).map(RoleSubject::Group),
            Caller::Certificate(name) => Ok(RoleSubject::Certificate(name.clone())),
        };
        match subject {
            // The overflow ID stands for every unmapped account, so it must match none.
            Ok(RoleSubject::User(id) | RoleSubject::Group(id)) if accounts.is_hidden(id) => {}
            Ok(subject) => rules.push((index, subject, rule.role)),
            Err(why) => warn!(why, "maglev.api.roles[{index}] matches no account"),
        }
    }
    rules
}

impl GrantSource {
    /// Returns the way to a higher role, for the peer or for an administrator; empty if the reason says it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Loopback => {
                "use the unix socket, `maglevc` without --server or with `unix:/run/vpp-maglev/maglevd.sock`; or set \
                 maglev.api.loopback-role, for every process of the host"
            }
            Self::Socket | Self::Unlisted | Self::Rule(_) => "become root, or add a rule to maglev.api.roles",
            Self::Network => "add a rule for a client certificate to maglev.api.roles",
            Self::PlainText => "connect by TLS",
            Self::Root | Self::Own => "",
        }
    }
}

impl fmt::Display for GrantSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "as root",
            Self::Own => "as maglevd's own user",
            Self::Rule(index) => return write!(f, "by maglev.api.roles[{index}]"),
            Self::Socket => "as a peer on the unix socket",
            Self::Loopback => "by maglev.api.loopback-role",
            Self::Unlisted => "as no rule of maglev.api.roles matches",
            Self::Network => "by TCP without a certificate that a rule of maglev.api.roles names",
            Self::PlainText => "as maglev.api.tls is set, and this connection is plain text",
        })
    }
}
