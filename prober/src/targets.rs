//! Addresses that the prober takes as targets (`--targets`).

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use maglev_ipc::RejectReason;

/// Word of the list for all addresses that are targets without one.
const DEFAULT: &str = "default";

/// Networks that are targets only if the list has them: a controller in other hands could read their services through probes.
const RESERVED: [(Network, &str); 9] = [
    (Network::v4([127, 0, 0, 0], 8), "a loopback address"),
    (Network::host(IpAddr::V6(Ipv6Addr::LOCALHOST)), "a loopback address"),
    (Network::v4([169, 254, 0, 0], 16), "a link-local address"),
    // The services of clouds outside of link-local networks: Azure, Alibaba, AWS, Google, Oracle, Scaleway.
    (Network::v4([168, 63, 129, 16], 32), CLOUD),
    (Network::v4([100, 100, 100, 200], 32), CLOUD),
    (Network::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), CLOUD),
    (Network::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), CLOUD),
    (Network::v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), CLOUD),
    (Network::v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), CLOUD),
];
const CLOUD: &str = "a metadata service of a cloud";

/// A network of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    /// Number of leading bits that all addresses share.
    length: u8,
}

impl Network {
    const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length }
    }

    const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), length }
    }

    const fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns true if the address is in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => ours.to_bits() ^ theirs.to_bits(),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                return differing.leading_zeros() >= self.length.into();
            }
            _ => return false,
        };
        differing.leading_zeros() >= self.length.into()
    }

    /// Returns the first address, whose other bits are 0.
    fn first(self) -> IpAddr {
        let mask = |bits: u32| u128::MAX.checked_shl(bits - u32::from(self.length)).unwrap_or_default();
        match self.address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & mask(32) as u32).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & mask(128)).into(),
        }
    }
}

impl FromStr for Network {
    type Err = String;

    /// Parses `192.0.2.0/24`, or an address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("`{text}` is neither a network, such as 192.0.2.0/24, nor an address"))?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let max = Self::host(address).length;
        let length = length.parse().ok().filter(|length| *length <= max);
        let length = length.ok_or_else(|| format!("`{text}`: the prefix length is 0 to {max}"))?;
        let network = Self { address, length };
        match network.first() {
            first if first == address => Ok(network),
            first => Err(format!("`{text}` has bits beyond its length: write {first}/{length}")),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self == Self::host(self.address) {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.length),
        }
    }
}

/// The value of `--targets`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Targets {
    has_default: bool,
    networks: Cow<'static, [Network]>,
}

impl Targets {
    /// All addresses but the reserved ones.
    pub const DEFAULT: Self = Self { has_default: true, networks: Cow::Borrowed(&[]) };
    /// All addresses.
    pub const ANY: Self = Self {
        has_default: false,
        networks: Cow::Borrowed(&[Network::v4([0; 4], 0), Network::v6([0; 8], 0)]),
    };

    /// Accepts a target.
    ///
    /// # Errors
    /// The reason, with the flag that would allow the address.
    pub fn check(&self, address: IpAddr) -> Result<(), RejectReason> {
        if self.networks.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        let reserved = RESERVED.iter().find(|(network, _)| network.contains(address));
        let why = match reserved {
            None if self.has_default => return Ok(()),
            Some((_, kind)) if *self == Self::DEFAULT => format!(
                "{kind}; to probe it, set MAGLEVD_PROBER_ARGS='--targets {DEFAULT},{address}' for the prober"
            ),
            _ => "not in --targets of the prober (MAGLEVD_PROBER_ARGS)".to_owned(),
        };
        Err(RejectReason::Target(address, why))
    }
}

impl FromStr for Targets {
    type Err = String;

    /// Parses a list of networks, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let (defaults, networks): (Vec<_>, Vec<_>) = text.split(',').partition(|word| *word == DEFAULT);
        let networks = networks.into_iter().map(str::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { has_default: !defaults.is_empty(), networks: networks.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Targets {
        text.parse().unwrap()
    }

    fn is_target(targets: &Targets, address: &str) -> bool {
        targets.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn reserved_addresses_are_targets_only_by_name() {
        for (reserved, next) in [
            ("127.0.0.1", "128.0.0.0"),
            ("127.255.255.255", "126.255.255.255"),
            ("::1", "::2"),
            ("169.254.169.254", "169.255.0.0"),
            ("169.254.0.0", "169.253.255.255"),
            ("168.63.129.16", "168.63.129.17"),
            ("100.100.100.200", "100.100.100.201"),
            ("fd00:ec2::254", "fd00:ec3::254"),
            ("fd00:ec2:ffff::", "fd00:ec1:ffff::"),
            ("fd20:ce::254", "fd20:ce::255"),
            ("fd00:c1::a9fe:a9fe", "fd00:c1::a9fe:a9ff"),
            ("fd00:42::42", "fd00:42::43"),
        ] {
            assert!(!is_target(&Targets::DEFAULT, reserved), "{reserved}");
            assert!(is_target(&Targets::DEFAULT, next), "{next}");
            let named = targets(&format!("default,{reserved}"));
            assert!(is_target(&named, reserved) && is_target(&named, next), "{reserved}");
            assert!(is_target(&targets("::/0,0.0.0.0/0"), reserved) && is_target(&Targets::ANY, reserved));
        }
        assert_eq!((targets("default"), targets("0.0.0.0/0,::/0")), (Targets::DEFAULT, Targets::ANY));
    }

    #[test]
    fn list_without_default_is_the_whole_set() {
        let set = targets("192.0.2.0/25,2001:db8::/33,198.51.100.7");
        for (inside, outside) in [
            ("192.0.2.0", "192.0.1.255"),
            ("192.0.2.127", "192.0.2.128"),
            ("2001:db8:7fff::1", "2001:db8:8000::"),
            ("198.51.100.7", "198.51.100.6"),
        ] {
            assert!(is_target(&set, inside) && !is_target(&set, outside), "{inside} {outside}");
        }
        assert!(
            !is_target(&targets("0.0.0.0/0"), "2001:db8::1") && !is_target(&targets("::/0"), "192.0.2.1")
        );
    }

    #[test]
    fn refusal_names_address_kind_and_flag() {
        let refusal = |targets: &str, address: &str| {
            let refusal = targets.parse::<Targets>().unwrap().check(address.parse().unwrap());
            refusal.unwrap_err().to_string()
        };
        assert_eq!(
            refusal("default", "127.0.0.1"),
            "127.0.0.1 is no target: a loopback address; \
             to probe it, set MAGLEVD_PROBER_ARGS='--targets default,127.0.0.1' for the prober"
        );
        let lacks = "is no target: not in --targets of the prober (MAGLEVD_PROBER_ARGS)";
        assert_eq!(refusal("127.0.0.0/8", "192.0.2.1"), format!("192.0.2.1 {lacks}"));
        assert_eq!(refusal("default,127.0.0.1", "169.254.1.1"), format!("169.254.1.1 {lacks}"));
        let longest = refusal("default", "fd00:ec2:1111:1111:1111:1111:1111:1111");
        assert!(longest.len() <= maglev_ipc::outcome::MAX_DETAIL, "{}", longest.len());
    }

    #[test]
    fn malformed_lists_are_refused() {
        for (text, words) in [
            ("", "`` is neither a network"),
            ("default,", "`` is neither a network"),
            ("localhost", "`localhost` is neither a network"),
            ("192.0.2.0/33", "`192.0.2.0/33`: the prefix length is 0 to 32"),
            ("::/129", "`::/129`: the prefix length is 0 to 128"),
            ("::/", "`::/`: the prefix length is 0 to 128"),
            ("192.0.2.1/24", "`192.0.2.1/24` has bits beyond its length: write 192.0.2.0/24"),
            ("10.0.0.1/0", "write 0.0.0.0/0"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
        ] {
            let error = text.parse::<Targets>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!("::1/128".parse::<Network>().unwrap().to_string(), "::1");
    }
}
