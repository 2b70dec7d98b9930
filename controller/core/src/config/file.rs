//! The shape of the file. The parser rejects wrong shapes with line and column; [`check`](super::check()) judges the
//! values.

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
    /// The only top-level key.
    #[serde(deserialize_with = "or_empty")]
    pub maglev: Maglev,
}

/// `maglev`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Maglev {
    /// Settings of all probes.
    #[serde(default, deserialize_with = "or_empty")]
    pub healthchecker: Healthchecker,
    /// Settings of VPP.
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
    /// Roles of callers.
    #[serde(default, deserialize_with = "or_empty")]
    pub api: Api,
}

/// `maglev.healthchecker`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Healthchecker {
    /// Number of transitions kept per backend.
    pub transition_history: Option<i64>,
    /// Share of the backends that fail at once in a suspected mass failure, in percent.
    pub mass_failure_threshold: Option<i64>,
    /// Network namespace of the probes.
    pub netns: Option<String>,
}

/// `maglev.vpp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Vpp {
    /// Settings of the load balancer plugin.
    #[serde(default, deserialize_with = "or_empty")]
    pub lb: Lb,
}

/// `maglev.vpp.lb`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lb {
    /// Period of the full reconciliation.
    pub sync_interval: Option<TextDuration>,
    /// Outer source address of GRE over IPv4.
    pub ipv4_src_address: Option<Address>,
    /// Outer source address of GRE over IPv6.
    pub ipv6_src_address: Option<Address>,
    /// Length of each worker's table of established flows.
    pub sticky_buckets_per_core: Option<i64>,
    /// Idle time after which a flow expires.
    pub flow_timeout: Option<TextDuration>,
    /// Minimum startup hold.
    pub startup_min_delay: Option<TextDuration>,
    /// Maximum startup hold.
    pub startup_max_delay: Option<TextDuration>,
    /// Treatment of VIPs without a frontend.
    pub foreign_vips: Option<ForeignVips>,
    /// Consent to a file without frontends.
    pub allow_no_frontends: Option<bool>,
}

/// `foreign-vips`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignVips {
    /// Remove them.
    Remove,
    /// Leave them.
    Keep,
}

/// One of `maglev.healthchecks`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Healthcheck {
    /// Kind of probe.
    #[serde(rename = "type")]
    pub kind: Option<ProbeType>,
    /// Destination port.
    pub port: Option<i64>,
    /// Interval of steady probes.
    pub interval: Option<TextDuration>,
    /// Interval while degraded or unknown.
    pub fast_interval: Option<TextDuration>,
    /// Interval while down.
    pub down_interval: Option<TextDuration>,
    /// Timeout of one probe.
    pub timeout: Option<Timeout>,
    /// Minimum of a derived timeout.
    pub timeout_min: Option<TextDuration>,
    /// Maximum of a derived timeout.
    pub timeout_max: Option<TextDuration>,
    /// Number of passes that bring a backend up.
    pub rise: Option<i64>,
    /// Number of failures that take a backend down.
    pub fall: Option<i64>,
    /// Source address for IPv4 backends.
    pub probe_ipv4_src: Option<Address>,
    /// Source address for IPv6 backends.
    pub probe_ipv6_src: Option<Address>,
    /// Settings of some types.
    #[serde(default, deserialize_with = "or_empty")]
    pub params: Params,
}

/// `timeout`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Timeout {
    /// A fixed timeout.
    Fixed(TextDuration),
    /// `auto`: derived from the duration of probes.
    Auto,
}

/// `type`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum ProbeType {
    /// ICMP echo.
    Icmp,
    /// TCP connection.
    Tcp,
    /// HTTP request.
    Http,
    /// HTTP request over TLS.
    Https,
}

/// `params` of all types; the check rejects those of other types.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Params {
    /// Request target.
    pub path: Option<String>,
    /// `Host` header.
    pub host: Option<String>,
    /// Accepted status codes.
    pub response_code: Option<String>,
    /// Regular expression for the body.
    pub response_regexp: Option<String>,
    /// True to keep the connection for the next probe.
    pub keep_alive: Option<bool>,
    /// Number of probes after which one uses a fresh connection.
    pub keep_alive_requests: Option<i64>,
    /// Extent of the connection.
    pub mode: Option<Mode>,
    /// True to make a TLS handshake.
    pub tls: Option<bool>,
    /// SNI, and expected name in the certificate.
    pub server_name: Option<String>,
    /// True to accept any certificate.
    pub insecure_skip_verify: Option<bool>,
    /// File of the trusted authorities.
    pub ca_file: Option<String>,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Complete handshake.
    Full,
    /// SYN and SYN-ACK only.
    HalfOpen,
}

/// One of `maglev.backends`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Backend {
    /// Its address.
    pub address: Option<Address>,
    /// Name of its healthcheck.
    pub healthcheck: Option<String>,
    /// False to start disabled.
    pub enabled: Option<bool>,
}

/// One of `maglev.frontends`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Frontend {
    /// Free text.
    pub description: Option<String>,
    /// The VIP's address.
    pub address: Option<Address>,
    /// The VIP's protocol.
    pub protocol: Option<Protocol>,
    /// The VIP's port.
    pub port: Option<i64>,
    /// True to hash flows by source address only.
    pub src_ip_sticky: Option<bool>,
    /// True to flush flows of a server that goes down.
    pub flush_on_down: Option<bool>,
    /// Length of the new-flow table.
    pub table_length: Option<i64>,
    /// Weight that is one unit in VPP.
    pub weight_step: Option<i64>,
    /// Pools by descending priority.
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
    pub backends: Named<PoolEntry>,
}

/// One of a pool's `backends`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct PoolEntry {
    /// Weight in the pool.
    pub weight: Option<i64>,
}

/// `maglev.api`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct Api {
    /// TLS of the TCP listeners. An empty value is an error, as plain text must not be taken for TLS.
    #[serde(default, deserialize_with = "present")]
    pub tls: Option<ApiTls>,
    /// Rules that grant roles.
    #[serde(default, deserialize_with = "or_empty")]
    pub roles: Vec<Rule>,
    /// Role of TCP clients on loopback addresses.
    pub loopback_role: Option<Role>,
}

/// `maglev.api.tls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiTls {
    /// File of the server's certificate.
    pub certificate: Option<String>,
    /// File of its private key.
    pub key: Option<String>,
    /// File of the authorities of client certificates.
    pub client_ca: Option<String>,
    /// File of the authorities' revocation lists.
    pub client_crl: Option<String>,
}

/// One of `maglev.api.roles`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(expecting = "a map of keys", deny_unknown_fields)]
pub struct Rule {
    /// A system user.
    pub user: Option<Account>,
    /// A system group.
    pub group: Option<Account>,
    /// A name in a client certificate.
    pub certificate: Option<String>,
    /// The granted role.
    pub role: Option<Role>,
}

/// A user or a group, by number or name.
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
    /// Read only.
    View,
    /// Changes traffic.
    Operate,
    /// Changes the configuration.
    Admin,
}

/// Items by unique name.
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

/// Deserializes a new key. Rejecting a duplicate here makes the error point at the key.
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
            Err(_) => Err(no_address(text)),
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

/// Says why a text is no address, and how it would be one.
fn no_address(text: &str) -> String {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let whole = format!("{text}:");
    match text.split_once('/') {
        Some((address, length)) if is_address(address) => {
            format!("{text:?} is a prefix: write the address without /{length}")
        }
        _ if is_address(&whole) => {
            format!("{text:?} is no IP address: YAML takes a colon at the end away, so quote \"{whole}\"")
        }
        _ => format!("{text:?} is no IP address (names are not looked up)"),
    }
}

/// Deserializes a value from its text.
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

/// Treats a key without a value as an empty section.
fn or_empty<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Treats a key without a value as a present, empty section.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    or_empty(deserializer).map(Some)
}
