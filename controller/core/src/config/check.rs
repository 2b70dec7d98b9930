//! Checks a parsed file and builds the configuration.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::file::{self, File, Maglev};
use super::{Backend, Config};
use crate::Name;
use frontend::Frontends;
use healthcheck::SharedParts;

mod api;
mod bundle;
mod frontend;
mod healthcheck;
mod lb;
#[cfg(test)]
mod tests;
mod value;

/// Reader of `ca-file`s: returns the contents of a path, or the error.
pub type Read<'a> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'a;

/// An error in a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Path of the value, such as `maglev.frontends.web.pools[1].backends.nginx9`.
    pub path: String,
    /// Description of the error.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Longest history of transitions.
const MAX_HISTORY: u32 = 1000;

/// Number of reported errors, so that repeated aliases do not report millions.
const MAX_PROBLEMS: usize = 1000;

/// Checks `file` and returns the configuration. Calls `read` for each `ca-file`.
///
/// # Errors
/// Returns all errors, ordered by section and name and not by their position in the file; at most the first
/// [`MAX_PROBLEMS`].
pub fn check(file: &File, read: &mut Read<'_>) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut root = Scope { place: Place::Root("maglev"), problems: &mut problems };
    match config(&mut root, &file.maglev, read) {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// A position in the file that collects errors. A function that returns `None` has reported one.
struct Scope<'a> {
    place: Place<'a>,
    problems: &'a mut Vec<Problem>,
}

/// A position in the file. Formatted only for errors, as there are tens of thousands.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root(&'a str),
    Key(&'a Place<'a>, &'a str),
    Nth(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            // Quoted only if the path would be ambiguous.
            Self::Key(place, key) if value::is_name(key) => write!(f, "{place}.{key}"),
            Self::Key(place, key) => write!(f, "{place}.{key:?}"),
            Self::Nth(place, index) => write!(f, "{place}[{index}]"),
        }
    }
}

impl Scope<'_> {
    /// Returns the scope of `key`.
    fn at<'b>(&'b mut self, key: &'b str) -> Scope<'b> {
        Scope { place: Place::Key(&self.place, key), problems: self.problems }
    }

    /// Returns the scope of the element `index`.
    fn nth(&mut self, index: usize) -> Scope<'_> {
        Scope { place: Place::Nth(&self.place, index), problems: self.problems }
    }

    /// Reports an error here.
    fn refuse<T>(&mut self, message: impl Into<String>) -> Option<T> {
        let told = self.problems.len();
        if told < MAX_PROBLEMS {
            self.problems.push(Problem { path: self.place.to_string(), message: message.into() });
        } else if told == MAX_PROBLEMS {
            let message = format!("more is wrong than these {MAX_PROBLEMS} things");
            self.problems.push(Problem { path: "maglev".to_owned(), message });
        }
        None
    }
}

fn config(scope: &mut Scope<'_>, file: &Maglev, read: &mut Read<'_>) -> Option<Config> {
    let mut probes = scope.at("healthchecker");
    let wanted = file.healthchecker.transition_history;
    let history = value::integer(&mut probes.at("transition-history"), wanted, 5, 1..=MAX_HISTORY);
    let wanted = file.healthchecker.mass_failure_threshold;
    let mass_failure_threshold =
        value::integer(&mut probes.at("mass-failure-threshold"), wanted, 100, 0..=100);
    let netns = netns(&mut probes.at("netns"), file.healthchecker.netns.as_deref());
    let lb = lb::lb(&mut scope.at("vpp").at("lb"), file);

    let mut shared = SharedParts::new(read);
    let healthchecks = named(&mut scope.at("healthchecks"), &file.healthchecks, |scope, _, check| {
        healthcheck::healthcheck(scope, check, &mut shared).map(Arc::new)
    });
    let backends = named(&mut scope.at("backends"), &file.backends, |scope, _, backend| {
        self::backend(scope, backend, file)
    });
    let mut frontends = Frontends::new(file);
    let frontends = named(&mut scope.at("frontends"), &file.frontends, |scope, name, frontend| {
        frontends.check(scope, name, frontend).map(Arc::new)
    });
    let api = api::api(&mut scope.at("api"), &file.api);

    Some(Config {
        transition_history: usize::try_from(history?).ok()?,
        mass_failure_threshold: u8::try_from(mass_failure_threshold?).ok()?,
        netns: netns?,
        lb: lb?,
        healthchecks: healthchecks?,
        backends: backends?,
        frontends: frontends?,
        api: api?,
    })
}

/// Checks each of `things` and its name.
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

/// Checks each of `things`, whose names are valid or are checked elsewhere.
fn each<'a, T, U>(
    scope: &mut Scope<'_>,
    things: &'a file::Named<T>,
    mut check: impl FnMut(&mut Scope<'_>, &'a str, &'a T) -> Option<U>,
) -> Option<BTreeMap<Name, U>> {
    let all = things.0.iter().map(|(name, thing)| {
        let checked = check(&mut scope.at(name), name, thing)?;
        Some((Name::from(name.as_str()), checked))
    });
    // Collect first: collecting into an `Option` would stop at the first error.
    let all: Vec<_> = all.collect();
    all.into_iter().collect()
}

fn netns(scope: &mut Scope<'_>, name: Option<&str>) -> Option<Option<String>> {
    match name {
        None | Some("") => Some(None),
        Some(name) => value::name(scope, name).map(|()| Some(name.to_owned())),
    }
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
