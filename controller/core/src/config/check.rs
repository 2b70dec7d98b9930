//! From what the file says to what is meant.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::duration::Span;
use super::file::{self, Address, File, Maglev};
use super::{Backend, Config, ForeignVips, Lb};
use crate::Name;
use crate::dataplane::LbConf;
use bundle::Bundles;
use frontend::Frontends;

mod bundle;
mod frontend;
mod healthcheck;
#[cfg(test)]
mod tests;
mod value;

/// How a `ca-file` is read: its contents by its path, or why they cannot be had.
pub type Read<'a> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'a;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where, like `maglev.frontends.web.pools[1].backends.nginx9`.
    pub path: String,
    /// What.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The longest history of transitions that can be asked for.
const MAX_HISTORY: u32 = 1000;
/// The most buckets: 4 entries and 64 bytes each, for every worker of VPP.
const MAX_BUCKETS: u32 = 1 << 22;

/// What `file` means. `read` is called for each `ca-file`.
///
/// # Errors
/// Everything that is wrong, in the order of the keys in the documentation, and of the names.
pub fn check(file: &File, read: &mut Read<'_>) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut root = Scope { path: "maglev".to_owned(), problems: &mut problems };
    match config(&mut root, &file.maglev, read) {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// A place in the file, for what is wrong there. A function that returns `None` has reported why.
struct Scope<'a> {
    path: String,
    problems: &'a mut Vec<Problem>,
}

impl Scope<'_> {
    /// The place of `key`, which is shown as it is unless that would make the path ambiguous.
    fn at(&mut self, key: &str) -> Scope<'_> {
        let path = if value::is_name(key) {
            format!("{}.{key}", self.path)
        } else {
            format!("{}.{key:?}", self.path)
        };
        Scope { path, problems: self.problems }
    }

    /// The place of the element `index`.
    fn nth(&mut self, index: usize) -> Scope<'_> {
        Scope { path: format!("{}[{index}]", self.path), problems: self.problems }
    }

    /// Reports what is wrong here.
    fn refuse<T>(&mut self, message: impl Into<String>) -> Option<T> {
        self.problems.push(Problem { path: self.path.clone(), message: message.into() });
        None
    }
}

fn config(scope: &mut Scope<'_>, file: &Maglev, read: &mut Read<'_>) -> Option<Config> {
    let history = {
        let mut scope = scope.at("healthchecker");
        let wanted = file.healthchecker.transition_history;
        value::integer(&mut scope.at("transition-history"), wanted, 5, 1..=MAX_HISTORY)
    };
    let netns = netns(&mut scope.at("healthchecker").at("netns"), file.healthchecker.netns.as_deref());
    let lb = lb(&mut scope.at("vpp").at("lb"), file);

    let mut bundles = Bundles::new(read);
    let healthchecks = {
        let mut scope = scope.at("healthchecks");
        named(&mut scope, &file.healthchecks, |scope, _, check| {
            healthcheck::healthcheck(scope, check, &mut bundles).map(Arc::new)
        })
    };
    let backends = {
        let mut scope = scope.at("backends");
        named(&mut scope, &file.backends, |scope, _, backend| self::backend(scope, backend, file))
    };
    let mut frontends = Frontends::new(file);
    let frontends = named(&mut scope.at("frontends"), &file.frontends, |scope, name, frontend| {
        frontends.check(scope, name, frontend)
    });

    Some(Config {
        transition_history: usize::try_from(history?).ok()?,
        netns: netns?,
        lb: lb?,
        healthchecks: healthchecks?,
        backends: backends?,
        frontends: frontends?,
    })
}

/// Checks each of `things`, and its name.
fn named<'a, T, U>(
    scope: &mut Scope<'_>,
    things: &'a file::Named<T>,
    mut check: impl FnMut(&mut Scope<'_>, &'a str, &'a T) -> Option<U>,
) -> Option<BTreeMap<Name, U>> {
    each(scope, things, |scope, name, thing| {
        let good_name = value::name(scope, name);
        good_name.and(check(scope, name, thing))
    })
}

/// Checks each of `things`, whose names are known to be good or are judged elsewhere.
fn each<'a, T, U>(
    scope: &mut Scope<'_>,
    things: &'a file::Named<T>,
    mut check: impl FnMut(&mut Scope<'_>, &'a str, &'a T) -> Option<U>,
) -> Option<BTreeMap<Name, U>> {
    let all = things.0.iter().map(|(name, thing)| {
        let checked = check(&mut scope.at(name), name, thing)?;
        Some((Name::from(name.as_str()), checked))
    });
    // All of them before any verdict: collecting the options at once would stop at the first that is wrong.
    let all: Vec<_> = all.collect();
    all.into_iter().collect()
}

fn netns(scope: &mut Scope<'_>, name: Option<&str>) -> Option<Option<String>> {
    match name {
        None | Some("") => Some(None),
        Some(name) => value::name(scope, name).map(|()| Some(name.to_owned())),
    }
}

fn lb(scope: &mut Scope<'_>, file: &Maglev) -> Option<Lb> {
    let lb = &file.vpp.lb;
    let any = Duration::ZERO..=Duration::MAX;
    let sync_interval = {
        let positive = Duration::from_millis(1)..=Duration::MAX;
        let mut scope = scope.at("sync-interval");
        value::span(&mut scope, lb.sync_interval, Duration::from_secs(30), positive)
    };
    let ipv4_src = source4(&mut scope.at("ipv4-src-address"), lb.ipv4_src_address, file);
    let ipv6_src = source6(&mut scope.at("ipv6-src-address"), lb.ipv6_src_address, file);
    let sticky_buckets_per_core = {
        let mut scope = scope.at("sticky-buckets-per-core");
        value::power_of_two(&mut scope, lb.sticky_buckets_per_core.unwrap_or(65536), 1..=MAX_BUCKETS)
    };
    let flow_timeout = flow_timeout(&mut scope.at("flow-timeout"), lb.flow_timeout);
    let min = {
        let mut scope = scope.at("startup-min-delay");
        value::span(&mut scope, lb.startup_min_delay, Duration::ZERO, any.clone())
    };
    let max = {
        let mut scope = scope.at("startup-max-delay");
        value::span(&mut scope, lb.startup_max_delay, Duration::from_secs(30), any)
    };
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!("{} is more than startup-max-delay, which is {}", Span(min), Span(max));
        scope.at("startup-min-delay").refuse(message)?;
    }
    let conf = LbConf {
        ipv4_src: ipv4_src?,
        ipv6_src: ipv6_src?,
        sticky_buckets_per_core: sticky_buckets_per_core?,
        flow_timeout: flow_timeout?,
    };
    let foreign_vips = match lb.foreign_vips {
        None | Some(file::ForeignVips::Remove) => ForeignVips::Remove,
        Some(file::ForeignVips::Keep) => ForeignVips::Keep,
    };
    let sync_interval = sync_interval?;
    Some(Lb { sync_interval, conf, startup_min_delay: min?, startup_max_delay: max?, foreign_vips })
}

fn source4(scope: &mut Scope<'_>, address: Option<Address>, file: &Maglev) -> Option<Ipv4Addr> {
    match (address, frontend::first_with(file, IpAddr::is_ipv4)) {
        (Some(address), _) => value::ipv4(scope, address),
        (None, Some(name)) => scope.refuse(format!("required, since frontend {name} has IPv4 backends")),
        (None, None) => Some(Ipv4Addr::BROADCAST),
    }
}

fn source6(scope: &mut Scope<'_>, address: Option<Address>, file: &Maglev) -> Option<Ipv6Addr> {
    match (address, frontend::first_with(file, IpAddr::is_ipv6)) {
        (Some(address), _) => value::ipv6(scope, address),
        (None, Some(name)) => scope.refuse(format!("required, since frontend {name} has IPv6 backends")),
        (None, None) => Some(Ipv6Addr::from_bits(u128::MAX)),
    }
}

fn flow_timeout(scope: &mut Scope<'_>, wanted: Option<Span>) -> Option<u32> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(120);
    let timeout = value::span(scope, wanted, Duration::from_secs(40), bounds)?;
    if timeout.subsec_nanos() != 0 {
        return scope.refuse(format!("{} is not a whole number of seconds", Span(timeout)));
    }
    u32::try_from(timeout.as_secs()).ok()
}

fn backend(scope: &mut Scope<'_>, backend: &file::Backend, file: &Maglev) -> Option<Backend> {
    let address = value::required_address(&mut scope.at("address"), backend.address);
    let healthcheck = value::optional(backend.healthcheck.as_deref(), |name| {
        if file.healthchecks.0.contains_key(name) {
            return Some(name.into());
        }
        scope.at("healthcheck").refuse(format!("no such healthcheck: {name}"))
    });
    Some(Backend { address: address?, healthcheck: healthcheck?, enabled: backend.enabled.unwrap_or(true) })
}
