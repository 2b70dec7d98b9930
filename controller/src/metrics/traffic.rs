//! Families of VPP's traffic counters. They reset when VPP restarts, as counters may.

use maglev_core::view::View;
use maglev_vpp::stats::CombinedCounter;

use super::text::{FamilyType, TextEncoder};
use crate::published::TrafficCounters;

/// Writes the families of VPP's counters.
pub fn render(view: &View, counters: &TrafficCounters, text: &mut TextEncoder) {
    vips(counters, text);
    weights(counters, text);
    strays(counters, text);
    routes(counters, text);
    backends(view, counters, text);
}

fn vips(counters: &TrafficCounters, text: &mut TextEncoder) {
    let mut family = text.family(
        "maglev_vpp_vip_packets_total",
        FamilyType::Counter,
        "Packets to a VIP, by their treatment.",
    );
    for (vip, found) in &counters.vips {
        let Some(packets) = found.packets else { continue };
        let (prefix, protocol, port) = (vip.prefix(), vip.protocol_name(), vip.port.to_string());
        let kinds = [
            ("existing_flow", packets.next),
            ("first", packets.first),
            ("untracked", packets.untracked),
            ("no_server", packets.no_server),
        ];
        for (kind, count) in kinds {
            let labels = [("prefix", &*prefix), ("protocol", &protocol), ("port", &port), ("kind", kind)];
            family.sample(&labels, count);
        }
    }
}

fn weights(counters: &TrafficCounters, text: &mut TextEncoder) {
    let help = "Sum of the weights of a VIP's servers in VPP.";
    let mut family = text.family("maglev_vpp_vip_weight", FamilyType::Gauge, help);
    for (vip, found) in &counters.vips {
        let (prefix, protocol, port) = (vip.prefix(), vip.protocol_name(), vip.port.to_string());
        family.sample(&[("prefix", &*prefix), ("protocol", &protocol), ("port", &port)], found.weight);
    }
}

fn strays(counters: &TrafficCounters, text: &mut TextEncoder) {
    let Some(strays) = counters.strays else { return };
    let help = "Dropped packets to the address of a VIP, of no VIP's protocol and port.";
    text.family("maglev_vpp_stray_packets_total", FamilyType::Counter, help).sample(&[], strays);
}

/// Writes one series per prefix. VIPs of a prefix are adjacent, and share a route.
fn routes(counters: &TrafficCounters, text: &mut TextEncoder) {
    let vips: Vec<_> = counters.vips.iter().collect();
    let prefixes = vips.chunk_by(|(a, _), (b, _)| a.same_prefix(b)).map(|vips| vips[0]);
    let routes: Vec<_> = prefixes.filter_map(|(vip, found)| Some((vip.prefix(), found.route?))).collect();
    let mut family = |name, help, of: fn(&CombinedCounter) -> u64| {
        let mut family = text.family(name, FamilyType::Counter, help);
        for (prefix, route) in &routes {
            family.sample(&[("prefix", prefix)], of(route));
        }
    };
    let packets = "Packets to all VIPs of a prefix, before encapsulation.";
    family("maglev_vpp_vip_route_packets_total", packets, |route| route.packets);
    let bytes = "Bytes to all VIPs of a prefix, before encapsulation.";
    family("maglev_vpp_vip_route_bytes_total", bytes, |route| route.bytes);
}

fn backends(view: &View, counters: &TrafficCounters, text: &mut TextEncoder) {
    let mut family = |name, help, of: fn(&CombinedCounter) -> u64| {
        let mut family = text.family(name, FamilyType::Counter, help);
        for backend in &view.backends {
            if let Some(traffic) = counters.servers.get(&backend.address) {
                let labels = [("backend", &*backend.name), ("address", &*backend.address.to_string())];
                family.sample(&labels, of(traffic));
            }
        }
    };
    let packets = "Packets to a backend's address, from all VIPs, encapsulated.";
    family("maglev_vpp_backend_packets_total", packets, |traffic| traffic.packets);
    let bytes = "Bytes to a backend's address, from all VIPs, encapsulated.";
    family("maglev_vpp_backend_bytes_total", bytes, |traffic| traffic.bytes);
}
