//! Conversion of VPP's traffic counters to the API.

use std::collections::BTreeMap;

use maglev_core::dataplane::VipKey;
use maglev_core::view::View;
use maglev_proto::v1;
use maglev_vpp::stats::CombinedCounter;

use super::convert;
use crate::published::{TrafficCounters, VipCounters, VipPackets};

/// Converts the counters.
pub fn lb_counters(counters: &TrafficCounters, view: &View) -> v1::GetLbCountersResponse {
    let owners: BTreeMap<VipKey, &str> =
        view.config.frontends.iter().map(|(name, frontend)| (frontend.vip, &**name)).collect();
    let vips = counters.vips.iter().map(|(key, found)| vip(key, found, owners.get(key).copied()));
    let backends = view.backends.iter().filter_map(|backend| {
        Some(v1::LbBackendCounters {
            backend: backend.name.to_string(),
            address: backend.address.to_string(),
            traffic: Some(traffic(*counters.servers.get(&backend.address)?)),
        })
    });
    v1::GetLbCountersResponse {
        read_at: Some(counters.at.into()),
        vips: vips.collect(),
        backends: backends.collect(),
        stray_packets: counters.strays,
    }
}

fn vip(key: &VipKey, found: &VipCounters, frontend: Option<&str>) -> v1::LbVipCounters {
    v1::LbVipCounters {
        vip: Some(convert::vip(key)),
        frontend: frontend.unwrap_or_default().into(),
        packets: found.packets.map(packets),
        route: found.route.map(traffic),
        weight: found.weight,
    }
}

const fn packets(packets: VipPackets) -> v1::LbPackets {
    let VipPackets { next, first, untracked, no_server } = packets;
    v1::LbPackets { existing_flow: next, first, untracked, no_server }
}

const fn traffic(traffic: CombinedCounter) -> v1::Traffic {
    let CombinedCounter { packets, bytes } = traffic;
    v1::Traffic { packets, bytes }
}
