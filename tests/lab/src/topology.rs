//! A prober and a server on one network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host::{Host, run};

/// Addresses of one address family.
#[derive(Clone, Copy, Debug)]
pub struct AddressFamily {
    /// Address of the prober's host.
    pub prober: IpAddr,
    /// Secondary address of the prober's host.
    pub secondary: IpAddr,
    /// Address of the server's host.
    pub server: IpAddr,
    /// Unused address on this network.
    pub unused: IpAddr,
    /// Address on a network without a route.
    pub unrouted: IpAddr,
}

/// IPv4 addresses.
pub const V4: AddressFamily = AddressFamily {
    prober: v4(10, 77, 1),
    secondary: v4(10, 77, 11),
    server: v4(10, 77, 2),
    unused: v4(10, 77, 99),
    unrouted: v4(10, 78, 1),
};

/// IPv6 addresses.
pub const V6: AddressFamily = AddressFamily {
    prober: v6(0xfd77, 1),
    secondary: v6(0xfd77, 11),
    server: v6(0xfd77, 2),
    unused: v6(0xfd77, 99),
    unrouted: v6(0xfd78, 1),
};

/// Both families.
pub const FAMILIES: [AddressFamily; 2] = [V4, V6];

/// Two hosts behind one switch.
pub struct Lab {
    /// Switch. Port `p-server` leads to the server, `p-prober` to the prober.
    pub switch: Host,
    /// Host of the prober.
    pub prober: Host,
    /// Host of the servers.
    pub server: Host,
}

impl Lab {
    /// Builds the network. Needs root.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it has side effects")]
    pub fn new() -> Self {
        let lab =
            Self { switch: Host::new("switch"), prober: Host::new("prober"), server: Host::new("server") };
        lab.switch.ip("link add br0 type bridge");
        lab.switch.ip("link set br0 up");
        lab.plug(&lab.prober, "p-prober");
        lab.plug(&lab.server, "p-server");
        for family in FAMILIES {
            let length = if family.prober.is_ipv4() { 24 } else { 64 };
            for (host, address) in
                [(&lab.prober, family.prober), (&lab.prober, family.secondary), (&lab.server, family.server)]
            {
                host.ip(&format!("address add {address}/{length} dev eth0"));
            }
        }
        lab
    }

    fn plug(&self, host: &Host, port: &str) {
        let (host_name, switch) = (host.name(), self.switch.name());
        run(&format!("ip link add eth0 netns {host_name} type veth peer name {port} netns {switch}"));
        self.switch.ip(&format!("link set {port} master br0 up"));
        host.ip("link set eth0 up");
    }
}

const fn v4(a: u8, b: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, 0, d))
}

const fn v6(first: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last))
}
