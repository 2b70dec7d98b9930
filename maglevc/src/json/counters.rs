//! Traffic of VPP's load balancer.

use maglev_proto::v1::{GetLbCountersResponse, LbBackendCounters, LbVipCounters, Traffic};
use serde_json::{Value, json};

use super::{given, list, time, vip};

/// Renders the traffic counters.
pub fn render(counters: &GetLbCountersResponse) -> Value {
    json!({
        "read_at": time(counters.read_at.as_ref()),
        "vips": list(&counters.vips, vip_counters),
        "backends": list(&counters.backends, backend_counters),
        "stray_packets": counters.stray_packets,
    })
}

fn vip_counters(one: &LbVipCounters) -> Value {
    let packets = one.packets.map(|packets| {
        json!({
            "existing_flow": packets.existing_flow,
            "first": packets.first,
            "untracked": packets.untracked,
            "no_server": packets.no_server,
        })
    });
    json!({
        "vip": one.vip.as_ref().map(vip),
        "frontend": given(&one.frontend),
        "packets": packets,
        "route": one.route.as_ref().map(traffic),
        "weight": one.weight,
    })
}

fn backend_counters(one: &LbBackendCounters) -> Value {
    json!({
        "backend": one.backend,
        "address": one.address,
        "traffic": one.traffic.as_ref().map(traffic),
    })
}

fn traffic(traffic: &Traffic) -> Value {
    json!({ "packets": traffic.packets, "bytes": traffic.bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn unknown_counter_is_null() {
        let counters = render(&fixture::lb_counters());
        assert_eq!(
            counters["vips"][1].to_string(),
            concat!(
                r#"{"vip":{"prefix":"192.0.2.80","protocol":"tcp","port":443},"frontend":null,"#,
                r#""packets":null,"route":{"packets":18,"bytes":1800},"weight":3}"#
            )
        );
        assert_eq!(counters["vips"][0]["packets"]["no_server"], 4);
        assert_eq!(counters["backends"][0]["traffic"]["bytes"], 1860);
    }
}
