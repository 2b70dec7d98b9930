//! Many frontends, each with its own backends.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// Numbers of frontends and backends.
#[derive(Clone, Copy, Debug)]
pub struct ManyFrontends {
    /// Frontends.
    pub frontends: u16,
    /// Backends of each frontend, at most 254.
    pub backends: u8,
}

impl ManyFrontends {
    /// Returns the total number of backends.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.frontends) * usize::from(self.backends)
    }

    /// True if there are no backends.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the address of a frontend.
    #[must_use]
    pub fn vip(frontend: u16) -> IpAddr {
        let [high, low] = frontend.to_be_bytes();
        Ipv4Addr::new(172, 16, high, low).into()
    }

    /// Returns the address of a frontend's backend.
    #[must_use]
    pub fn server(frontend: u16, backend: u8) -> IpAddr {
        let [high, low] = frontend.to_be_bytes();
        Ipv4Addr::new(10, high, low, backend + 1).into()
    }

    /// Returns the addresses of all backends, grouped by frontend.
    pub fn servers(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let backends = self.backends;
        (0..self.frontends).flat_map(move |f| (0..backends).map(move |backend| Self::server(f, backend)))
    }

    /// Returns a configuration in which a single outcome changes a backend, and no probe repeats.
    #[must_use]
    pub fn config(&self) -> String {
        self.config_with("")
    }

    /// Same as [`Self::config`], with further keys of each frontend, each followed by a comma.
    #[must_use]
    pub fn config_with(&self, keys: &str) -> String {
        // These tests fail all backends at once, so mass-failure detection is off.
        let mut text = "maglev:
  healthchecker: { mass-failure-threshold: 0 }
  vpp: { lb: { ipv4-src-address: 192.0.2.1 } }
  healthchecks:
    ping: { type: icmp, interval: 1h, rise: 1, fall: 1 }
"
        .to_owned();
        let all = || (0..self.frontends).flat_map(|f| (0..self.backends).map(move |backend| (f, backend)));
        text += "  backends:\n";
        for (frontend, backend) in all() {
            let address = Self::server(frontend, backend);
            _ = writeln!(text, "    s{frontend}-{backend}: {{ address: {address}, healthcheck: ping }}");
        }
        text += "  frontends:\n";
        for frontend in 0..self.frontends {
            let backends: Vec<_> = (0..self.backends).map(|b| format!("s{frontend}-{b}: {{}}")).collect();
            let (vip, backends) = (Self::vip(frontend), backends.join(", "));
            _ = writeln!(
                text,
                "    f{frontend}: {{ address: {vip}, {keys} pools: [ {{ name: all, backends: {{ {backends} }} }} ] }}"
            );
        }
        text
    }
}
