//! Parser of `show lb vips verbose`. The API has neither the counter indexes of VIPs and servers nor src-ip-sticky.

use std::net::IpAddr;

use crate::message::{Prefix, Vip};

/// Command whose output [`parse_vips`] parses. It stops VPP's workers for about as long as a dump of all servers.
pub const SHOW_VIPS: &str = "show lb vips verbose";

/// A VIP in the output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShownVip {
    /// The VIP.
    pub vip: Vip,
    /// Index in the per-VIP vectors of counters.
    pub index: u32,
    /// True if flows are identified by addresses alone. The API has no such field.
    pub src_ip_sticky: bool,
    /// All servers, including removed ones.
    pub servers: Vec<ShownServer>,
}

/// A server in the output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShownServer {
    /// Address of the server.
    pub address: IpAddr,
    /// Number of its entries in the flow tables, including expired ones.
    pub flows: u64,
    /// Stats index of its route.
    pub index: u32,
    /// False for a removed server.
    pub in_use: bool,
}

/// Parses the output of [`SHOW_VIPS`]. Omits removed VIPs, and all lines that do not parse. The size of VPP's reply bounds the
/// number of VIPs.
#[must_use]
pub fn parse_vips(text: &str) -> Vec<ShownVip> {
    let mut vips: Vec<ShownVip> = Vec::new();
    // True while lines belong to the last VIP in `vips`.
    let mut open = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("    ") {
            if open && let (Some(last), Some(server)) = (vips.last_mut(), server(rest)) {
                last.servers.push(server);
            }
        } else if let Some(rest) = line.strip_prefix("  ") {
            if open && let (Some(last), Some((protocol, port))) = (vips.last_mut(), port(rest)) {
                (last.vip.protocol, last.vip.port) = (protocol, port);
            }
        } else if let Some(rest) = line.strip_prefix(' ') {
            let head = head(rest);
            open = head.is_some();
            vips.extend(head);
        }
    }
    vips
}

/// Parses `ip4-gre4 [1] 203.0.113.1/32 src_ip_sticky removed`. The last two words are optional.
fn head(line: &str) -> Option<ShownVip> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let index = words.next()?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    let (address, len) = words.next()?.split_once('/')?;
    let prefix = Prefix { address: address.parse().ok()?, len: len.parse().ok()? };
    let vip = Vip::all_ports(prefix);
    let mut shown = ShownVip { vip, index, src_ip_sticky: false, servers: Vec::new() };
    for word in words {
        match word {
            "src_ip_sticky" => shown.src_ip_sticky = true,
            "removed" => return None,
            _ => {}
        }
    }
    Some(shown)
}

/// Parses `protocol:17 port:80`, which is missing for a VIP of all ports.
fn port(line: &str) -> Option<(u8, u16)> {
    let (protocol, port) = line.split_once(' ')?;
    Some((
        protocol.strip_prefix("protocol:")?.parse().ok()?,
        port.strip_prefix("port:")?.trim().parse().ok()?,
    ))
}

/// Parses `10.0.2.9 weight:100 buckets:674 flows:1 dpo:16 used`.
fn server(line: &str) -> Option<ShownServer> {
    let mut words = line.split_ascii_whitespace();
    let address = words.next()?.parse().ok()?;
    let flows = words.find_map(|word| word.strip_prefix("flows:"))?.parse().ok()?;
    let index = words.find_map(|word| word.strip_prefix("dpo:"))?.parse().ok()?;
    Some(ShownServer { address, flows, index, in_use: words.next() == Some("used") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Output of VPP 26.10. Its line for the NAT type lacks the newline, too.
    const SHOWN: &str = " ip4-gre4 [1] 203.0.113.1/32 src_ip_sticky
  new_size:1024
  protocol:17 port:80
  counters:
    packet from existing sessions: 9
    first session packet: 1
    untracked packet: 0
    no server configured: 0
  #as:2
    10.0.2.9 weight:100 buckets:674 flows:1 dpo:16 used
    10.0.2.8 weight:50 buckets:350 flows:0 dpo:17  removed

 ip6-gre6 [2] 2001:db8::1/128 removed
  new_size:1024
  counters:
    packet from existing sessions: 0
  #as:1
    2001:db8:1::9 weight:100 buckets:1024 flows:0 dpo:18  removed

 ip4-nat4 [5] 203.0.113.4/32
  new_size:1024
  protocol:6 port:53
  type:clusterip port:13568 target_port:5353  counters:
    packet from existing sessions: 0
  #as:0

 ip6-gre6 [4] 2001:db8::/64
  new_size:1024
  counters:
    packet from existing sessions: 0
  #as:1
    2001:db8:1::9 weight:100 buckets:1024 flows:0 dpo:19 used

";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn shown(prefix: (&str, u8), protocol: u8, port: u16, index: u32, servers: &[ShownServer]) -> ShownVip {
        let prefix = Prefix { address: ip(prefix.0), len: prefix.1 };
        let src_ip_sticky = index == 1;
        ShownVip { vip: Vip { prefix, protocol, port }, index, src_ip_sticky, servers: servers.to_vec() }
    }

    fn server(address: &str, flows: u64, index: u32, in_use: bool) -> ShownServer {
        ShownServer { address: ip(address), flows, index, in_use }
    }

    #[test]
    fn vips_and_servers_have_indexes() {
        assert_eq!(
            parse_vips(SHOWN),
            [
                shown(
                    ("203.0.113.1", 32),
                    17,
                    80,
                    1,
                    &[server("10.0.2.9", 1, 16, true), server("10.0.2.8", 0, 17, false)]
                ),
                shown(("203.0.113.4", 32), 6, 53, 5, &[]),
                shown(("2001:db8::", 64), 255, 0, 4, &[server("2001:db8:1::9", 0, 19, true)]),
            ]
        );
    }

    #[test]
    fn malformed_lines_are_skipped() {
        assert_eq!(parse_vips("show: unknown input `lb vips verbose'\n"), []);
        assert_eq!(
            parse_vips(" ip4-gre4 [x] 203.0.113.1/32\n ip4-gre4 [1] 203.0.113/32\n ip4-gre4\n \n"),
            []
        );
        let orphans = "  protocol:6 port:80\n    10.0.2.9 weight:1 buckets:1 flows:0 dpo:1 used\n";
        assert_eq!(parse_vips(orphans), []);
        assert_eq!(parse_vips(&format!(" ip4-gre4 [1] 1.2.3.4/32\n ip4-gre4 [?]\n{orphans}"))[0].servers, []);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ \\n\\[\\]:/.0-9a-fp-]{0,200}", at in 0usize..900) {
            let _ = parse_vips(&text);
            let _ = parse_vips(&SHOWN[at.min(SHOWN.len())..]);
        }
    }
}
