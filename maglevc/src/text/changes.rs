//! Overrides and their changes.

use std::time::SystemTime;

use maglev_proto::v1::{Backend, BackendState, ListOverridesResponse, Override, PoolBackend};

use crate::result::{ActionResult, WeightResult};
use crate::screen::{Screen, TextStyle, of_state, printable};
use crate::table::{Table, styled, text};
use crate::time::{age, left, second, written};
use crate::words;

/// Formats all overrides.
pub fn overrides(listed: &ListOverridesResponse, now: SystemTime, screen: Screen) -> String {
    let ListOverridesResponse { overrides: all, persist_error } = listed;
    let warning = warning("changes", persist_error, screen);
    if all.is_empty() {
        return format!("nothing is overridden\n{warning}");
    }
    let headings = ["backend", "frontend", "pool", "override", "actor", "age", "left", "reason"];
    let mut table = Table::new(&headings).names(&["backend", "frontend", "pool"]).prose(&["reason", "actor"]);
    for one in all {
        let mark = if one.dangling { "*" } else { "" };
        table.row([
            text(&one.backend),
            text(&one.frontend),
            text(&one.pool),
            styled(TextStyle::Odd, format!("{}{mark}", words::overriding(one))),
            text(&one.actor),
            text(age(one.at.as_ref(), now)),
            text(left(one.expires.as_ref(), now)),
            text(&one.reason),
        ]);
    }
    let dangling = all.iter().any(|one| one.dangling);
    let legend = if dangling { "\n* of something that is not in the configuration now\n" } else { "" };
    let gap = if warning.is_empty() { "" } else { "\n" };
    format!("{}{legend}{gap}{warning}", table.render(screen))
}

/// Returns the warning that `what` is not on disk; empty if it is.
fn warning(what: &str, persist_error: &str, screen: Screen) -> String {
    if persist_error.is_empty() {
        return String::new();
    }
    let warning = format!("warning: a restart of maglevd would forget {what}: {persist_error}");
    screen.apply(TextStyle::Odd, &printable(&warning)) + "\n"
}

/// Formats an override as one sentence.
pub fn sentence(one: &Override, now: SystemTime) -> String {
    let mut told = format!("{} by {}, {} ago", words::overriding(one), one.actor, age(one.at.as_ref(), now));
    if one.expires.is_some() {
        let until = second(one.expires.as_ref());
        told += &format!(", until {until} ({} left)", left(one.expires.as_ref(), now));
    }
    if !one.reason.is_empty() {
        told += &format!(": {}", one.reason);
    }
    told
}

/// Formats the result of an action on a backend.
pub fn action_result(done: &ActionResult, screen: Screen) -> String {
    let told = match &done.after {
        Some(after) => is_now(done.before.as_ref(), after, screen),
        None => gone(&done.name),
    };
    told + &warning("this", &done.persist_error, screen)
}

/// Returns the text for an override of a removed item.
fn gone(what: &str) -> String {
    format!("{} is not in the configuration; its override is undone\n", printable(what))
}

fn is_now(before: Option<&Backend>, after: &Backend, screen: Screen) -> String {
    let state = words::backend_state(after.state());
    let until = match ends(after, &state) {
        Some(expires) => format!(" until {expires}"),
        None if after.state() == BackendState::Unknown => " until it is probed".into(),
        None => String::new(),
    };
    let was = match before.map(|before| words::backend_state(before.state())) {
        Some(was) if was == state => " (as before)".into(),
        Some(was) => format!(" (was {was})"),
        None => String::new(),
    };
    let enabled = ends(after, "enabled").map(|expires| format!("; enabled until {expires}"));
    let told = format!("{until}{was}{}", enabled.unwrap_or_default());
    format!("{} is {}{told}\n", printable(&after.name), screen.apply(of_state(&state), &state))
}

/// Returns the expiry of the override of this kind.
fn ends(backend: &Backend, kind: &str) -> Option<String> {
    let mut overrides = backend.overrides.iter();
    let expires = overrides.find(|one| words::override_kind(one.kind()) == kind)?.expires.as_ref();
    expires.map(|expires| second(Some(expires)))
}

/// Formats the result of a change of weight.
pub fn weight_result(done: &WeightResult, screen: Screen) -> String {
    let told = match &done.after {
        Some(after) => has_now(done, after),
        None => gone(&format!("{} in pool {} of {}", done.backend, done.pool, done.frontend)),
    };
    told + &warning("this", &done.persist_error, screen)
}

fn has_now(done: &WeightResult, after: &PoolBackend) -> String {
    let whose = if after.overridden { "weight" } else { "its configured weight" };
    let lifetime = done.lifetime.map(|lifetime| format!(" for {}", written(lifetime))).unwrap_or_default();
    let was = match &done.before {
        None => String::new(),
        Some(before) if before.weight == after.weight && before.overridden == after.overridden => {
            " (as before)".into()
        }
        Some(before) => format!(" (was {})", before.weight),
    };
    let rounded = match after.rounded_weight {
        0 => String::new(),
        same if same == after.weight => String::new(),
        rounded => format!("; rounding gives it the effect of {rounded}"),
    };
    format!(
        "{} has {whose} {} in pool {} of {}{lifetime}{was}{rounded}\n",
        printable(&after.name),
        after.weight,
        printable(&done.pool),
        printable(&done.frontend),
    )
}
