//! Traffic of VPP's load balancer.

use std::time::SystemTime;

use maglev_proto::v1::{GetLbCountersResponse, LbBackendCounters, LbVipCounters};

use crate::screen::Screen;
use crate::table::{Table, maybe, text};
use crate::time::{age, second};
use crate::words;

/// Formats the time of the read, a table of VIPs with notes, a table of backends, and the number of strays.
pub fn render(counters: &GetLbCountersResponse, now: SystemTime, screen: Screen) -> String {
    let read = counters.read_at.as_ref();
    let (vips, notes, backends) =
        (vips(&counters.vips), weightless(&counters.vips), backends(&counters.backends));
    let strays = counters.stray_packets.map(|strays| format!("\nstray packets  {strays}\n"));
    format!(
        "read {} ({} ago)\n\n{}{notes}\n{}{}",
        second(read),
        age(read, now),
        vips.render(screen),
        backends.render(screen),
        strays.unwrap_or_default()
    )
}

/// Returns a note for each VIP without weight. Most of its dropped packets count as untracked.
fn weightless(all: &[LbVipCounters]) -> String {
    let note = |one: &LbVipCounters| {
        let vip = words::vip(one.vip.as_ref());
        format!("{vip} has no weight: VPP drops its new flows, and counts them as no-server and untracked\n")
    };
    all.iter().filter(|one| one.weight == 0 && one.packets.is_some()).map(note).collect()
}

fn vips(all: &[LbVipCounters]) -> Table {
    let headings = [
        "vip",
        "frontend",
        "existing-flow",
        "first",
        "untracked",
        "no-server",
        "prefix-packets",
        "prefix-bytes",
    ];
    let mut table = Table::new(&headings).names(&["frontend"]);
    for one in all {
        table.row([
            text(words::vip(one.vip.as_ref())),
            text(&one.frontend),
            maybe(one.packets.map(|packets| packets.existing_flow)),
            maybe(one.packets.map(|packets| packets.first)),
            maybe(one.packets.map(|packets| packets.untracked)),
            maybe(one.packets.map(|packets| packets.no_server)),
            maybe(one.route.map(|route| route.packets)),
            maybe(one.route.map(|route| route.bytes)),
        ]);
    }
    table
}

fn backends(all: &[LbBackendCounters]) -> Table {
    let mut table = Table::new(&["backend", "address", "packets", "bytes"]).names(&["backend"]);
    for one in all {
        table.row([
            text(&one.backend),
            text(&one.address),
            maybe(one.traffic.map(|traffic| traffic.packets)),
            maybe(one.traffic.map(|traffic| traffic.bytes)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::screen::ColorChoice;

    #[test]
    fn unknown_counters_show_a_dash() {
        assert_eq!(
            render(&fixture::lb_counters(), fixture::now(), Screen::new(ColorChoice::Never, false)),
            "\
read 2026-11-22T12:10:28Z (2s ago)

vip                 frontend  existing-flow  first  untracked  no-server  prefix-packets  prefix-bytes
192.0.2.80 tcp/80   web                   9      1          3          4              18          1800
192.0.2.80 tcp/443  -                     -      -          -          -              18          1800
192.0.2.80 tcp/80 has no weight: VPP drops its new flows, and counts them as no-server and untracked

backend  address     packets  bytes
nginx0   192.0.2.10       15   1860

stray packets  5
"
        );
    }
}
