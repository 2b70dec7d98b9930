//! The one text of VPP's command line that is read: nothing else tells the numbers under which VPP counts for VIPs, nor
//! their src-ip-sticky.

use std::net::IpAddr;

use crate::message::{Prefix, Vip};

/// The command that prints what [`vips`] reads. VPP's workers stand still while it runs, for about as long as while
/// all servers are dumped.
pub const SHOW_VIPS: &str = "show lb vips verbose";

/// A VIP, as the command line has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShownVip {
    /// Its name.
    pub vip: Vip,
    /// Its place in the vectors of counters per VIP.
    pub index: u32,
    /// Flows are told apart by addresses alone. No message of the API tells.
    pub src_ip_sticky: bool,
    /// Its servers, those that were removed included.
    pub servers: Vec<ShownServer>,
}

/// A server, as the command line has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShownServer {
    /// Its address.
    pub address: IpAddr,
    /// The places that its flows take, flows that have expired included.
    pub flows: u64,
    /// The stats index of its route.
    pub index: u32,
    /// It was not removed.
    pub in_use: bool,
}

/// The VIPs in what [`SHOW_VIPS`] prints; those that were removed are left out, and so is whatever does not read as
/// expected. VPP's answer has a bound, and there are never more VIPs than it has lines.
#[must_use]
pub fn vips(text: &str) -> Vec<ShownVip> {
    let mut vips: Vec<ShownVip> = Vec::new();
    // Whether what comes is of the last of them.
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

/// `ip4-gre4 [1] 203.0.113.1/32 src_ip_sticky removed`, the last two perhaps.
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

/// `protocol:17 port:80`, which a VIP of all ports has not.
fn port(line: &str) -> Option<(u8, u16)> {
    let (protocol, port) = line.split_once(' ')?;
    Some((
        protocol.strip_prefix("protocol:")?.parse().ok()?,
        port.strip_prefix("port:")?.trim().parse().ok()?,
    ))
}

/// `10.0.2.9 weight:100 buckets:674 flows:1 dpo:16 used`.
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

    /// As a real VPP 26.10 prints it; the line of the NAT VIP's type lacks its end there, too.
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
    fn vips_have_numbers_and_so_have_servers() {
        assert_eq!(
            vips(SHOWN),
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
    fn what_does_not_read_as_expected_is_left_out() {
        assert_eq!(vips("show: unknown input `lb vips verbose'\n"), []);
        assert_eq!(vips(" ip4-gre4 [x] 203.0.113.1/32\n ip4-gre4 [1] 203.0.113/32\n ip4-gre4\n \n"), []);
        let orphans = "  protocol:6 port:80\n    10.0.2.9 weight:1 buckets:1 flows:0 dpo:1 used\n";
        assert_eq!(vips(orphans), []);
        assert_eq!(vips(&format!(" ip4-gre4 [1] 1.2.3.4/32\n ip4-gre4 [?]\n{orphans}"))[0].servers, []);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ \\n\\[\\]:/.0-9a-fp-]{0,200}", at in 0usize..900) {
            let _ = vips(&text);
            let _ = vips(&SHOWN[at.min(SHOWN.len())..]);
        }
    }
}
