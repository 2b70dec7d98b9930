//! The commands of VPP's command line that tests use, in VPP's own format.

use std::fmt::Write;

use maglev_vpp::message::LbEncapType;

use super::plugin::LbPlugin;
use super::state::VipState;

/// Runs `command`, and returns the return value and the text. `version` is the version that VPP reports.
#[must_use]
pub fn run(plugin: &LbPlugin, version: &str, command: &str) -> (i32, String) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let text = match words.as_slice() {
        ["show", "version"] => {
            Ok(format!("vpp v{version} built by nobody on nowhere at 2026-11-22T08:29:54\n"))
        }
        ["show", "lb"] => show_lb(plugin),
        ["show", "lb", "vips"] => show_vips(plugin),
        ["show", "lb", "vips", "verbose"] => show_vips_verbose(plugin),
        ["show", rest @ ..] => return (-1, format!("show: unknown input `{}'\n", rest.join(" "))),
        _ => return (-1, format!("unknown input `{command}'\n")),
    };
    // Writing to a string cannot fail.
    (0, text.unwrap_or_default())
}

type TextResult = Result<String, std::fmt::Error>;

fn show_lb(plugin: &LbPlugin) -> TextResult {
    let conf = &plugin.conf;
    let mut out = String::new();
    writeln!(out, "lb_main ip4-src-address: {} ", conf.ip4_src)?;
    writeln!(out, " ip6-src-address: {} ", conf.ip6_src)?;
    writeln!(out, " #vips: {}", plugin.vips.len())?;
    writeln!(out, " #ass: {}", plugin.servers.len() - 1)?;
    if !plugin.flows.is_empty() {
        writeln!(out, "[core 0\n  timeout: {}s", conf.flow_timeout)?;
        writeln!(out, "  usage: {} / {}\n]", plugin.flows.len(), conf.sticky_buckets + 3)?;
    }
    Ok(out)
}

fn show_vips(plugin: &LbPlugin) -> TextResult {
    let mut out = String::new();
    for (_, vip) in plugin.visible_vips() {
        let removed = if vip.used { "" } else { " removed" };
        write!(out, "{} {}", kind(vip), vip.key.network.fib_prefix())?;
        write!(out, " new_size:{} #as:{}{removed}", vip.table_length, vip.servers.len())?;
        if vip.key.port != 0 {
            write!(out, "  protocol:{} port:{} ", vip.key.protocol, vip.key.port)?;
        }
        match vip.family.encap {
            LbEncapType::L3dsr => writeln!(out, "  dscp:{}", vip.dscp_or_type)?,
            _ if vip.family.is_nat() => writeln!(out, " {}", nat(vip))?,
            _ => writeln!(out)?,
        }
    }
    Ok(out)
}

fn show_vips_verbose(plugin: &LbPlugin) -> TextResult {
    let mut out = String::new();
    for (index, vip) in plugin.visible_vips() {
        let removed = if vip.used { "" } else { " removed" };
        let sticky = if vip.src_ip_sticky { " src_ip_sticky" } else { "" };
        let prefix = vip.key.network.fib_prefix();
        writeln!(out, " {} [{index}] {prefix}{sticky}{removed}", kind(vip))?;
        writeln!(out, "  new_size:{}", vip.table_length)?;
        if vip.key.port != 0 {
            writeln!(out, "  protocol:{} port:{}", vip.key.protocol, vip.key.port)?;
        }
        match vip.family.encap {
            LbEncapType::L3dsr => writeln!(out, "  dscp:{}", vip.dscp_or_type)?,
            // VPP omits the end of this line.
            _ if vip.family.is_nat() => write!(out, "  {}", nat(vip))?,
            _ => {}
        }
        let [next, first, untracked, no_server] = vip.packets;
        write!(out, "  counters:\n    packet from existing sessions: {next}\n")?;
        writeln!(out, "    first session packet: {first}")?;
        write!(out, "    untracked packet: {untracked}\n    no server configured: {no_server}\n")?;
        writeln!(out, "  #as:{}", vip.servers.len())?;
        show_servers(plugin, vip, &mut out)?;
        writeln!(out)?;
    }
    Ok(out)
}

fn show_servers(plugin: &LbPlugin, vip: &VipState, out: &mut String) -> std::fmt::Result {
    for (index, buckets) in plugin.buckets(vip) {
        let Some(server) = plugin.servers.get(index) else { continue };
        let address = std::net::IpAddr::from(server.address);
        let state = if server.used { "used" } else { " removed" };
        write!(out, "    {address} weight:{} buckets:{buckets}", server.weight)?;
        writeln!(out, " flows:{} dpo:{} {state}", plugin.flow_count(index), server.stats_index)?;
    }
    Ok(())
}

fn kind(vip: &VipState) -> String {
    let family = if vip.family.is_ipv4 { "ip4" } else { "ip6" };
    let encap = match vip.family.encap {
        LbEncapType::Gre4 => "gre4",
        LbEncapType::Gre6 | LbEncapType::Other(_) => "gre6",
        LbEncapType::L3dsr => "l3dsr",
        LbEncapType::Nat4 => "nat4",
        LbEncapType::Nat6 => "nat6",
    };
    format!("{family}-{encap}")
}

fn nat(vip: &VipState) -> String {
    let kind = if vip.dscp_or_type == 0 { "clusterip" } else { "nodeport" };
    format!("type:{kind} port:{} target_port:{}", vip.key.port.swap_bytes(), vip.target_port)
}
