//! The servers of a configuration, at the addresses that it names.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use maglev_core::config::{Config, Probe, check};
use maglevd::config::parse;

use maglev_lab::container::machine::Machine;
use maglev_lab::http_server::Site;

/// What is answered by whoever is well, and by whoever is not.
const WELL: u16 = 200;
const SICK: u16 = 503;

/// A server for each backend that is probed by TCP or HTTP, by the backend's name.
pub struct Servers {
    sites: BTreeMap<String, Site>,
}

impl Servers {
    /// Starts them on that machine, which gets the addresses of all backends.
    ///
    /// # Panics
    /// The configuration is not good, or wants certificates.
    #[must_use]
    pub fn start(machine: &Machine, config: &str) -> Self {
        let config = read(config);
        let mut sites = BTreeMap::new();
        for (name, backend) in &config.backends {
            let (address, length) = (backend.address, if backend.address.is_ipv4() { 32 } else { 128 });
            // Several backends may be one server, probed in several ways.
            machine.run(&format!("ip address replace {address}/{length} dev lo"));
            let healthcheck = backend.healthcheck.as_ref().map(|name| &config.healthchecks[name]);
            let port = match healthcheck.map(|healthcheck| &healthcheck.probe) {
                Some(Probe::Tcp { port, tls: None, .. } | Probe::Http { port, tls: None, .. }) => *port,
                Some(Probe::Tcp { .. } | Probe::Http { .. }) => panic!("{name} wants a certificate"),
                Some(Probe::Icmp) | None => continue,
            };
            let site = machine.inside(|| Site::start(SocketAddr::new(address, port)));
            sites.insert(name.to_string(), site);
        }
        Self { sites }
    }

    /// A server refuses connections from now on.
    pub fn stop(&mut self, name: &str) {
        self.site(name).close();
    }

    /// A server answers that it is not well from now on.
    pub fn fail(&mut self, machine: &Machine, name: &str) {
        self.answer(machine, name, SICK);
    }

    /// A server is well again.
    pub fn recover(&mut self, machine: &Machine, name: &str) {
        self.answer(machine, name, WELL);
    }

    fn answer(&mut self, machine: &Machine, name: &str, code: u16) {
        let site = self.site(name);
        site.close();
        site.answer(code);
        machine.inside(|| site.open());
    }

    fn site(&mut self, name: &str) -> &mut Site {
        self.sites.get_mut(name).unwrap_or_else(|| panic!("no server is there for {name}"))
    }
}

/// What a text means.
///
/// # Panics
/// Nothing.
#[must_use]
pub fn read(config: &str) -> Config {
    let file = parse(config.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?} in\n{config}"));
    check(&file, &mut |path| Err(format!("{path} is not read here")))
        .unwrap_or_else(|problems| panic!("{problems:?} in\n{config}"))
}
