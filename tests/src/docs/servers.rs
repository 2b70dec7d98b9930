//! Servers of a configuration, at their configured addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use maglev_core::config::{Config, Probe, check};
use maglevd::config::parse;

use maglev_lab::container::machine::Machine;
use maglev_lab::http_server::HttpServer;

/// Statuses of healthy and failing servers.
const OK_STATUS: u16 = 200;
const FAILING_STATUS: u16 = 503;

/// Servers of all backends with TCP or HTTP checks, by backend name.
pub struct DocumentedServers {
    http: BTreeMap<String, HttpServer>,
}

impl DocumentedServers {
    /// Starts the servers on a machine, which gets the addresses of all backends.
    ///
    /// # Panics
    /// If the configuration is invalid or needs certificates.
    #[must_use]
    pub fn start(machine: &Machine, config: &str) -> Self {
        let config = read(config);
        let mut http = BTreeMap::new();
        for (name, backend) in &config.backends {
            let (address, length) = (backend.address, if backend.address.is_ipv4() { 32 } else { 128 });
            // Several backends may be one server with different checks.
            machine.run(&format!("ip address replace {address}/{length} dev lo"));
            let healthcheck = backend.healthcheck.as_ref().map(|name| &config.healthchecks[name]);
            let port = match healthcheck.map(|healthcheck| &healthcheck.probe) {
                Some(Probe::Tcp { port, tls: None, .. } | Probe::Http { port, tls: None, .. }) => *port,
                Some(Probe::Tcp { .. } | Probe::Http { .. }) => panic!("{name} wants a certificate"),
                Some(Probe::Icmp) | None => continue,
            };
            let server = machine.inside(|| HttpServer::start(SocketAddr::new(address, port)));
            http.insert(name.to_string(), server);
        }
        Self { http }
    }

    /// Makes a server refuse connections.
    pub fn stop(&mut self, name: &str) {
        self.server(name).close();
    }

    /// Makes a server answer as failing.
    pub fn fail(&mut self, machine: &Machine, name: &str) {
        self.answer(machine, name, FAILING_STATUS);
    }

    /// Makes a server healthy again.
    pub fn recover(&mut self, machine: &Machine, name: &str) {
        self.answer(machine, name, OK_STATUS);
    }

    fn answer(&mut self, machine: &Machine, name: &str, code: u16) {
        let server = self.server(name);
        server.close();
        server.answer(code);
        machine.inside(|| server.open());
    }

    fn server(&mut self, name: &str) -> &mut HttpServer {
        self.http.get_mut(name).unwrap_or_else(|| panic!("no server is there for {name}"))
    }
}

/// Parses and checks a configuration.
///
/// # Panics
/// If it is invalid.
#[must_use]
pub fn read(config: &str) -> Config {
    let file = parse(config.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?} in\n{config}"));
    check(&file, &mut |path| Err(format!("{path} is not read here")))
        .unwrap_or_else(|problems| panic!("{problems:?} in\n{config}"))
}
