//! The shape of the file: what can be written, not yet what it means. What has the wrong shape is refused by the
//! parser, with line and column; everything else is for [`check`](super::check()) to judge.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::IpAddr;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use maglev_time::TextDuration;

/// A whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct File {
    /// Everything is below this one key.
    #[serde(deserialize_with = "or_empty")]
    pub maglev: Maglev,
}

/// `maglev`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Maglev {
    /// What concerns all probes.
    #[serde(default, deserialize_with = "or_empty")]
    pub healthchecker: Healthchecker,
    /// What concerns VPP.
    #[serde(default, deserialize_with = "or_empty")]
    pub vpp: Vpp,
    /// By name.
    #[serde(default, deserialize_with = "or_empty")]
    pub healthchecks: Named<Healthcheck>,
    /// By name.
    #[serde(default, deserialize_with = "or_empty")]
    pub backends: Named<Backend>,
    /// By name.
    #[serde(default, deserialize_with = "or_empty")]
    pub frontends: Named<Frontend>,
    /// Who may call what.
    #[serde(default, deserialize_with = "or_empty")]
    pub api: Api,
}

/// `maglev.healthchecker`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Healthchecker {
    /// How many transitions are kept per backend.
    pub transition_history: Option<i64>,
    /// How many of the backends that were up have to fail at once for verdicts to wait, in percent.
    pub mass_failure_threshold: Option<i64>,
    /// The network namespace that probes run in.
    pub netns: Option<String>,
}

/// `maglev.vpp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Vpp {
    /// The load balancer plugin.
    #[serde(default, deserialize_with = "or_empty")]
    pub lb: Lb,
}

/// `maglev.vpp.lb`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lb {
    /// The period of the full comparison.
    pub sync_interval: Option<TextDuration>,
    /// The outer source address of GRE over IPv4.
    pub ipv4_src_address: Option<Address>,
    /// The outer source address of GRE over IPv6.
    pub ipv6_src_address: Option<Address>,
    /// The size of each worker's table of known flows.
    pub sticky_buckets_per_core: Option<i64>,
    /// How long a silent flow is remembered.
    pub flow_timeout: Option<TextDuration>,
    /// How long weights stay untouched after a start.
    pub startup_min_delay: Option<TextDuration>,
    /// How long a frontend may wait for its backends after a start.
    pub startup_max_delay: Option<TextDuration>,
    /// What becomes of VIPs that no frontend names.
    pub foreign_vips: Option<ForeignVips>,
}

/// `foreign-vips`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignVips {
    /// They are removed.
    Remove,
    /// They are left alone.
    Keep,
}

/// One of `maglev.healthchecks`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Healthcheck {
    /// What is sent.
    #[serde(rename = "type")]
    pub kind: Option<Kind>,
    /// The destination port.
    pub port: Option<i64>,
    /// The ordinary pace.
    pub interval: Option<TextDuration>,
    /// The pace while degraded or unknown.
    pub fast_interval: Option<TextDuration>,
    /// The pace while down.
    pub down_interval: Option<TextDuration>,
    /// The bound on one probe.
    pub timeout: Option<Timeout>,
    /// The least that a derived one can be.
    pub timeout_min: Option<TextDuration>,
    /// The most that a derived one can be.
    pub timeout_max: Option<TextDuration>,
    /// How many passes bring a backend up.
    pub rise: Option<i64>,
    /// How many failures take a backend down.
    pub fall: Option<i64>,
    /// The address that IPv4 backends are probed from.
    pub probe_ipv4_src: Option<Address>,
    /// The address that IPv6 backends are probed from.
    pub probe_ipv6_src: Option<Address>,
    /// What only some types have.
    #[serde(default, deserialize_with = "or_empty")]
    pub params: Params,
}

/// `timeout`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timeout {
    /// That long.
    Fixed(TextDuration),
    /// `auto`: derived from how long probes take.
    Auto,
}

/// `type`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An echo request.
    Icmp,
    /// A connection.
    Tcp,
    /// A request over a plain connection.
    Http,
    /// A request over TLS.
    Https,
}

/// `params`: of all types together, since which belong to which is not a matter of shape.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Params {
    /// The request target.
    pub path: Option<String>,
    /// The `Host` header.
    pub host: Option<String>,
    /// The status codes that pass.
    pub response_code: Option<String>,
    /// What the body must match.
    pub response_regexp: Option<String>,
    /// Whether the connection is kept for the next probe.
    pub keep_alive: Option<bool>,
    /// Every how many probes there is a fresh connection all the same.
    pub keep_alive_requests: Option<i64>,
    /// How far a connection goes.
    pub mode: Option<Mode>,
    /// Whether a TLS handshake follows the connection.
    pub tls: Option<bool>,
    /// The name asked for and expected in the certificate.
    pub server_name: Option<String>,
    /// Whether any certificate passes.
    pub insecure_skip_verify: Option<bool>,
    /// The file of the certificates that vouch for the server's.
    pub ca_file: Option<String>,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All the way.
    Full,
    /// Until the server has agreed to it.
    HalfOpen,
}

/// One of `maglev.backends`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Backend {
    /// Its address.
    pub address: Option<Address>,
    /// The name of its healthcheck.
    pub healthcheck: Option<String>,
    /// Whether it starts enabled.
    pub enabled: Option<bool>,
}

/// One of `maglev.frontends`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Frontend {
    /// For people.
    pub description: Option<String>,
    /// The VIP's address.
    pub address: Option<Address>,
    /// The VIP's protocol.
    pub protocol: Option<Protocol>,
    /// The VIP's port.
    pub port: Option<i64>,
    /// Whether flows are told apart by their addresses alone.
    pub src_ip_sticky: Option<bool>,
    /// Whether a server that goes down loses its flows at once.
    pub flush_on_down: Option<bool>,
    /// The length of the new-flow table.
    pub table_length: Option<i64>,
    /// By descending priority.
    #[serde(default, deserialize_with = "or_empty")]
    pub pools: Vec<Pool>,
}

/// `protocol`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One of a frontend's `pools`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: Option<String>,
    /// By name.
    #[serde(default, deserialize_with = "or_empty")]
    pub backends: Named<PoolMember>,
}

/// One of a pool's `backends`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct PoolMember {
    /// Its share of the pool's new flows, relative to the others'.
    pub weight: Option<i64>,
}

/// `maglev.api`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Api {
    /// TLS on TCP. Left without a value it is wrong, and not absent: nobody shall take plain text for TLS.
    #[serde(default, deserialize_with = "present")]
    pub tls: Option<ApiTls>,
    /// Who has which role.
    #[serde(default, deserialize_with = "or_empty")]
    pub roles: Vec<Rule>,
}

/// `maglev.api.tls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiTls {
    /// The file of the server's certificate.
    pub certificate: Option<String>,
    /// The file of its key.
    pub key: Option<String>,
    /// The file of the certificates that vouch for clients'.
    pub client_ca: Option<String>,
}

/// One of `maglev.api.roles`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Rule {
    /// A user of the system.
    pub user: Option<Account>,
    /// A group of the system.
    pub group: Option<Account>,
    /// A name in a client's certificate.
    pub certificate: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
}

/// A user or a group: its number, or its name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
pub enum Account {
    /// Its number.
    Id(i64),
    /// Its name.
    Name(String),
}

/// `role`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    View,
    /// Change what traffic does.
    Operate,
    /// Change what is in force.
    Admin,
}

/// Things by their names, each given once.
#[derive(Clone, Debug)]
pub struct Named<T>(pub BTreeMap<String, T>);

/// An IP address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address(pub IpAddr);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut things = BTreeMap::new();
        while let Some(name) = map.next_key_seed(NewName(&things))? {
            things.insert(name, map.next_value::<Option<T>>()?.unwrap_or_default());
        }
        Ok(Named(things))
    }
}

/// Reads a key that is not there yet. Refusing it here, and not when the map is whole, is what makes the error point
/// at the key.
struct NewName<'a, T>(&'a BTreeMap<String, T>);

impl<'de, T> DeserializeSeed<'de> for NewName<'_, T> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for NewName<'_, T> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        if self.0.contains_key(name) {
            return Err(E::custom(format_args!("duplicate key `{name}`")));
        }
        Ok(name.into())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text.parse() {
            Ok(address) => Ok(Self(address)),
            Err(_) => Err(format!("{text:?} is no IP address (names are not looked up)")),
        };
        deserializer.deserialize_str(Scalar { what: "an IP address", parse })
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text {
            "auto" => Ok(Self::Auto),
            other => TextDuration::parse(other).map(Self::Fixed),
        };
        deserializer.deserialize_str(Scalar { what: "auto, or a duration such as 500ms or 1m30s", parse })
    }
}

/// Reads a value from its text.
struct Scalar<P> {
    what: &'static str,
    parse: P,
}

impl<T, P: Fn(&str) -> Result<T, String>> Visitor<'_> for Scalar<P> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Takes a key without a value for an empty section.
fn or_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Takes a key without a value for an empty section that is there.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    or_empty(deserializer).map(Some)
}
