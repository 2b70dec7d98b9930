//! VPP, and the state of its load balancer.

use std::time::SystemTime;

use maglev_proto::v1::{GetLbStateResponse, GetVppInfoResponse, LbVip};

use crate::screen::{Screen, TextStyle, printable};
use crate::table::{Table, maybe, number, text};
use crate::time::{age, duration, second};
use crate::words;

/// Lists the properties of the connected VPP.
pub fn info(info: &GetVppInfoResponse, now: SystemTime) -> Table {
    let mut list = Table::list();
    list.entry("version", text(&info.version));
    list.entry("built", text(&info.build_date));
    list.entry("pid", text(info.pid.to_string()));
    let (boot, since) = (info.boot_time.as_ref(), info.connected_since.as_ref());
    list.entry("started", text(format!("{} ({})", second(boot), age(boot, now))));
    list.entry("connected", text(format!("{} ({})", second(since), age(since, now))));
    list
}

/// Formats the state of its load balancer.
pub fn lb_state(state: &GetLbStateResponse, screen: Screen) -> String {
    let mut out = String::new();
    if let Some(conf) = &state.conf {
        let mut list = Table::list();
        list.entry("ipv4-src-address", text(&conf.ipv4_src_address));
        list.entry("ipv6-src-address", text(&conf.ipv6_src_address));
        list.entry("sticky-buckets-per-core", text(conf.sticky_buckets_per_core.to_string()));
        list.entry("flow-timeout", text(duration(conf.flow_timeout.as_ref())));
        out.push_str(&list.render(screen));
    }
    for vip in &state.vips {
        let gap = if out.is_empty() { "" } else { "\n" };
        let heading = screen.apply(TextStyle::Heading, &printable(&words::vip(vip.vip.as_ref())));
        out.extend([gap, &heading, &printable(&about(vip)), "\n"]);
        if !vip.failure.is_empty() {
            out.extend([&screen.error(&format!("  the newest change failed: {}", vip.failure)), "\n"]);
        }
        if vip.servers.is_empty() {
            out.push_str("  no servers\n");
        } else {
            out.push_str(&servers(vip).render(screen));
        }
    }
    out
}

fn about(vip: &LbVip) -> String {
    let frontend = match vip.frontend.as_str() {
        "" => ": of no frontend".into(),
        name => format!(": frontend {name}"),
    };
    let sticky = if vip.src_ip_sticky == Some(true) { ", src-ip-sticky" } else { "" };
    format!("{frontend}, {}{}{sticky}", words::encap(vip.encap()), table_length(vip))
}

/// Returns the length of a VIP's table, and that of a table created now, if it is another.
fn table_length(vip: &LbVip) -> String {
    match (vip.table_length, vip.desired_table_length) {
        (Some(length), Some(desired)) => {
            format!(", table length {length} (other table: {desired} if created now)")
        }
        (None, Some(desired)) => format!(", other table (length {desired} if created now)"),
        (Some(length), None) => format!(", table length {length}"),
        (None, None) => String::new(),
    }
}

fn servers(vip: &LbVip) -> Table {
    let total: u64 = vip.servers.iter().map(|server| u64::from(server.buckets)).sum();
    let mut table =
        Table::new(&["server", "backend", "weight", "buckets", "share"]).names(&["backend"]).indented();
    for server in &vip.servers {
        table.row([
            text(&server.address),
            text(&server.backend),
            number(server.weight),
            number(server.buckets),
            maybe(share(server.buckets, total)),
        ]);
    }
    table
}

fn share(buckets: u32, total: u64) -> Option<String> {
    // The number of buckets is far below 2^52.
    (total > 0).then(|| format!("{:.1}%", f64::from(buckets) * 100.0 / total as f64))
}
