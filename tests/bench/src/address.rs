//! Addresses of the backends: 200 of each 127.x.y.0/24, from 127.10.0.1 on. The C programs use the same sequence.

use std::net::Ipv4Addr;

const FIRST: u32 = 0x7f0a_0000;
const PER_NET: u32 = 200;

/// Returns the address of a backend.
#[must_use]
pub const fn of(backend: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + backend / PER_NET * 256 + 1 + backend % PER_NET)
}

/// Returns the backend at an address, if any can have it.
#[must_use]
pub const fn backend(address: Ipv4Addr) -> Option<u32> {
    let Some(rest) = address.to_bits().checked_sub(FIRST) else { return None };
    let (net, host) = (rest / 256, rest % 256);
    if host == 0 || host > PER_NET { None } else { Some(net * PER_NET + host - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_map_to_backends_and_back() {
        for number in 0..50_000 {
            assert_eq!(backend(of(number)), Some(number));
        }
        assert_eq!(of(10_000), Ipv4Addr::new(127, 10, 50, 1));
        assert_eq!(backend(Ipv4Addr::LOCALHOST), None);
    }
}
