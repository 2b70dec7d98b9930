//! Tables for people.

use std::time::SystemTime;

use maglev_proto::Timestamp;
use maglev_proto::v1::{
    Backend, Frontend, GetVersionResponse, Healthcheck, HttpParams, Pool, PoolBackend, Reason, TlsParams,
    Transition,
};

use crate::result::CommandResult;
use crate::screen::{Screen, TextStyle, of_state, printable};
use crate::table::{Table, TableCell, maybe, number, styled, text};
use crate::time::{age, duration, left, second};
use crate::{BUILD_DATE, COMMIT, VERSION, help, words};

mod changes;
mod counters;
mod plan;
#[cfg(test)]
mod tests;
mod vpp;

/// Formats a result, as of `now`.
pub fn render(shown: &CommandResult, now: SystemTime, screen: Screen) -> String {
    match shown {
        CommandResult::Help(topic) => help::commands(topic.as_deref()),
        CommandResult::Version(daemon) => version(daemon, screen),
        CommandResult::Frontends(all) if all.is_empty() => none("frontends"),
        CommandResult::Frontends(all) => frontends(all, now).render(screen),
        CommandResult::Frontend(one) => frontend(one, now, screen),
        CommandResult::Backends(all) if all.is_empty() => none("backends"),
        CommandResult::Backends(all) => backends(all, now).render(screen),
        CommandResult::Backend(one) => backend(one, now, screen),
        CommandResult::Healthchecks(all) if all.is_empty() => none("healthchecks"),
        CommandResult::Healthchecks(all) => healthchecks(all).render(screen),
        CommandResult::Healthcheck(one) => healthcheck(one).render(screen),
        CommandResult::Overrides(all) => changes::overrides(all, now, screen),
        CommandResult::VppInfo(info) => vpp::info(info, now).render(screen),
        CommandResult::VppLbState(state) => vpp::lb_state(state, screen),
        CommandResult::VppLbCounters(found) => counters::render(found, now, screen),
        CommandResult::Action(done) => changes::action_result(done, screen),
        CommandResult::Weight(done) => changes::weight_result(done, screen),
        CommandResult::Explained(reasons) => explained(reasons).render(screen),
        CommandResult::Synced { plan: planned, dry_run } => plan::synced(planned, *dry_run, screen),
        CommandResult::Checked(answer) => plan::checked(answer, screen),
        CommandResult::Reloaded(answer) => plan::reloaded(answer, screen),
    }
}

/// Returns the text for an empty list, as a bare heading would be ambiguous.
fn none(what: &str) -> String {
    format!("the configuration has no {what}\n")
}

fn version(daemon: &GetVersionResponse, screen: Screen) -> String {
    let mut table = Table::new(&["program", "version", "commit", "built"]);
    table.row([text("maglevd"), text(&daemon.version), text(&daemon.commit), text(&daemon.build_date)]);
    let own = [VERSION, COMMIT.unwrap_or_default(), BUILD_DATE.unwrap_or_default()];
    table.row([text("maglevc")].into_iter().chain(own.map(text)));
    table.render(screen)
}

fn frontends(all: &[Frontend], now: SystemTime) -> Table {
    let mut table =
        Table::new(&["name", "vip", "state", "pool", "since", "note"]).names(&["name"]).prose(&["note"]);
    for one in all {
        table.row([
            text(&one.name),
            text(words::vip(one.vip.as_ref())),
            state(&words::frontend_state(one.state())),
            text(&one.active_pool),
            text(age(one.since.as_ref(), now)),
            text(note(one)),
        ]);
    }
    table
}

/// Returns the notes of a frontend: reasons to look at its details.
fn note(frontend: &Frontend) -> String {
    let mut notes = Vec::new();
    if !frontend.startup_done {
        notes.push("startup hold".into());
    }
    if frontend.weights_exceed_table {
        notes.push("weights exceed table".into());
    }
    match frontend.warnings.len() {
        0 => {}
        1 => notes.push("1 warning".into()),
        n => notes.push(format!("{n} warnings")),
    }
    notes.join(", ")
}

fn frontend(one: &Frontend, now: SystemTime, screen: Screen) -> String {
    let mut list = Table::list();
    list.entry("name", text(&one.name));
    list.entry("description", text(&one.description));
    list.entry("vip", text(words::vip(one.vip.as_ref())));
    list.entry("state", state(&words::frontend_state(one.state())));
    list.entry("since", text(format!("{} ({})", second(one.since.as_ref()), age(one.since.as_ref(), now))));
    list.entry("active pool", text(&one.active_pool));
    list.entry("encapsulation", text(words::encap(one.encap())));
    list.entry("src-ip-sticky", text(yes(one.src_ip_sticky)));
    list.entry("flush-on-down", text(yes(one.flush_on_down)));
    list.entry("table length", text(one.table_length.to_string()));
    if !one.startup_done {
        list.entry(
            "startup hold",
            styled(TextStyle::Odd, "some weights in VPP do not follow health yet, see explain"),
        );
    }
    if one.weights_exceed_table {
        list.entry(
            "weights",
            styled(TextStyle::Odd, "in VPP exceed the table length: the shares are distorted"),
        );
    }
    for warning in &one.warnings {
        list.entry("warning", styled(TextStyle::Odd, warning));
    }
    let set = one.pools.iter().flat_map(|pool| &pool.backends).any(|member| member.overridden);
    let legend = if set {
        "\n(N) is configured: `show overrides` shows who set another, and the reason\n"
    } else {
        ""
    };
    format!("{}\n{}{legend}", list.render(screen), members(&one.pools).render(screen))
}

fn members(pools: &[Pool]) -> Table {
    let headings = ["pool", "backend", "address", "state", "weight", "effective", "in-vpp", "buckets"];
    let mut table = Table::new(&headings).names(&["pool", "backend"]);
    for pool in pools {
        for member in &pool.backends {
            table.row(member_cells(pool, member));
        }
    }
    table
}

fn member_cells(pool: &Pool, member: &PoolBackend) -> [TableCell; 8] {
    let configured =
        if member.overridden { format!(" ({})", member.configured_weight) } else { String::new() };
    [
        text(&pool.name),
        text(&member.name),
        text(&member.address),
        state(&words::backend_state(member.state())),
        number(format!("{}{configured}", member.weight)),
        number(member.effective_weight),
        maybe(member.vpp_weight),
        maybe(member.vpp_buckets),
    ]
}

fn backends(all: &[Backend], now: SystemTime) -> Table {
    let mut table = Table::new(&["name", "address", "healthcheck", "state", "counter", "since", "last"])
        .names(&["name"])
        .prose(&["last"]);
    for one in all {
        table.row([
            text(&one.name),
            text(&one.address),
            text(&one.healthcheck),
            backend_state(one),
            number(counter(one)),
            text(age(one.since.as_ref(), now)),
            text(last(one)),
        ]);
    }
    table
}

fn backend(one: &Backend, now: SystemTime, screen: Screen) -> String {
    let mut list = Table::list();
    list.entry("name", text(&one.name));
    list.entry("address", text(&one.address));
    list.entry("healthcheck", text(&one.healthcheck));
    list.entry("type", text(words::probe_type(one.r#type())));
    list.entry("state", backend_state(one));
    list.entry("since", text(format!("{} ({})", second(one.since.as_ref()), age(one.since.as_ref(), now))));
    list.entry("enabled", text(yes(one.enabled)));
    list.entry("counter", text(format!("{} (rise {}, fall {})", counter(one), one.rise, one.fall)));
    if let Some(timeout) = &one.derived_timeout {
        let (min, max) = (duration(timeout.min.as_ref()), duration(timeout.max.as_ref()));
        let now = duration(timeout.now.as_ref());
        list.entry("timeout", text(format!("auto: now {now} ({min} to {max})")));
    }
    list.entry("last", text(last(one)));
    if let Some(outcome) = &one.last {
        let ago = age(outcome.at.as_ref(), now);
        list.entry("probed", text(format!("{ago} ago, in {}", duration(outcome.duration.as_ref()))));
    }
    if let Some(end) = &one.certificate_expires {
        list.entry("certificate", certificate(end, now));
        if let Some(chain) = one.certificate_chain_expires.as_ref().filter(|chain| *chain != end) {
            list.entry("issuer", certificate(chain, now));
        }
    }
    for set in &one.overrides {
        list.entry("override", styled(TextStyle::Odd, changes::sentence(set, now)));
    }
    let details = list.render(screen);
    if one.transitions.is_empty() {
        return details;
    }
    format!("{details}\n{}", transitions(&one.transitions, now).render(screen))
}

fn certificate(end: &Timestamp, now: SystemTime) -> TableCell {
    let moment = second(Some(end));
    if SystemTime::try_from(*end).is_ok_and(|end| end <= now) {
        return styled(TextStyle::Odd, format!("expired {moment} ({} ago)", age(Some(end), now)));
    }
    text(format!("expires {moment} (in {})", left(Some(end), now)))
}

fn transitions(all: &[Transition], now: SystemTime) -> Table {
    let mut table = Table::new(&["when", "age", "from", "to", "why"]).prose(&["why"]);
    for one in all {
        table.row([
            text(second(one.at.as_ref())),
            text(age(one.at.as_ref(), now)),
            state(&words::backend_state(one.from())),
            state(&words::backend_state(one.to())),
            text(words::cause(one)),
        ]);
    }
    table
}

fn backend_state(one: &Backend) -> TableCell {
    let word = words::backend_state(one.state());
    if one.stale { styled(TextStyle::Odd, format!("{word} (stale)")) } else { state(&word) }
}

fn counter(one: &Backend) -> String {
    format!("{}/{}", one.counter, (one.rise + one.fall).saturating_sub(1))
}

fn last(one: &Backend) -> String {
    if !one.rejection.is_empty() {
        return format!("not probed: {}", one.rejection);
    }
    let verdict = one.last.as_ref().and_then(|outcome| outcome.verdict.as_ref());
    verdict.map(words::verdict).unwrap_or_default()
}

fn healthchecks(all: &[Healthcheck]) -> Table {
    let headings = ["name", "type", "port", "interval", "fast", "down", "timeout", "rise", "fall"];
    let mut table = Table::new(&headings).names(&["name"]);
    for one in all {
        table.row([
            text(&one.name),
            text(words::probe_type(one.r#type())),
            maybe((one.port != 0).then_some(one.port)),
            number(duration(one.interval.as_ref())),
            number(duration(one.fast_interval.as_ref())),
            number(duration(one.down_interval.as_ref())),
            number(timeout(one)),
            number(one.rise),
            number(one.fall),
        ]);
    }
    table
}

/// Formats a timeout; a derived one by its bounds.
fn timeout(one: &Healthcheck) -> String {
    let longest = duration(one.timeout.as_ref());
    match &one.timeout_min {
        None => longest,
        Some(min) => format!("auto, {} to {longest}", duration(Some(min))),
    }
}

fn healthcheck(one: &Healthcheck) -> Table {
    let mut list = Table::list();
    list.entry("name", text(&one.name));
    list.entry("type", text(words::probe_type(one.r#type())));
    if one.port != 0 {
        list.entry("port", text(one.port.to_string()));
    }
    list.entry("interval", text(duration(one.interval.as_ref())));
    list.entry("fast-interval", text(duration(one.fast_interval.as_ref())));
    list.entry("down-interval", text(duration(one.down_interval.as_ref())));
    list.entry("timeout", text(timeout(one)));
    list.entry("rise", text(one.rise.to_string()));
    list.entry("fall", text(one.fall.to_string()));
    list.entry("probe-ipv4-src", text(&one.probe_ipv4_src));
    list.entry("probe-ipv6-src", text(&one.probe_ipv6_src));
    if let Some(tcp) = &one.tcp {
        list.entry("mode", text(words::tcp_mode(tcp.mode())));
    }
    if let Some(http) = &one.http {
        http_entries(&mut list, http);
    }
    if let Some(tls) = &one.tls {
        tls_entries(&mut list, tls);
    }
    list
}

fn http_entries(list: &mut Table, http: &HttpParams) {
    list.entry("path", text(&http.path));
    list.entry("host", text(&http.host));
    list.entry("response-code", text(words::codes(&http.response_codes)));
    list.entry("response-regexp", text(&http.response_regexp));
    list.entry("keep-alive", text(http.keep_alive_requests.is_some().to_string()));
    if let Some(every) = http.keep_alive_requests {
        list.entry("keep-alive-requests", text(every.to_string()));
    }
}

fn tls_entries(list: &mut Table, tls: &TlsParams) {
    list.entry("server-name", text(&tls.server_name));
    list.entry("verified by", text(words::tls_verify(tls.verify())));
}

fn explained(reasons: &[Reason]) -> Table {
    let mut list = Table::list();
    for reason in reasons {
        list.entry(&printable(&reason.topic), text(&reason.text));
    }
    list
}

fn state(word: &str) -> TableCell {
    styled(of_state(word), word)
}

const fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
