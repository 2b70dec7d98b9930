use std::num::NonZeroU32;
use std::sync::Arc;

use maglev_ipc::{HttpCheck, TlsHandshake, TlsVerify};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ProducesTickets;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::super::{TlsConfigs, TlsPlan, describe};
use super::*;

const SECOND: Nanos = 1_000_000_000;

/// A server that can change its certificate while its tickets stay valid.
struct TicketServer {
    authority: CertifiedIssuer<'static, KeyPair>,
    ticketer: Arc<dyn ProducesTickets>,
    version: &'static SupportedProtocolVersion,
    config: Arc<ServerConfig>,
}

impl TicketServer {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        let config = config(&authority, &ticketer, version, 4096);
        Self { authority, ticketer, version, config }
    }

    /// Changes to an expired certificate.
    fn expire(&mut self) {
        self.config = config(&self.authority, &self.ticketer, self.version, 2020);
    }

    /// Returns the plan of a check; 0 disables keep-alive.
    fn plan(&self, keep_alive: u32) -> TlsPlan {
        let mut configs = TlsConfigs::new([]);
        let verify = TlsVerify::Bundle(configs.add_bundle(self.authority.pem().as_bytes()));
        let keep_alive = NonZeroU32::new(keep_alive);
        let http =
            HttpCheck { path: "/".into(), host: "h".into(), codes: Vec::new(), body: None, keep_alive };
        configs.plan(&TlsHandshake { server_name: "good.test".into(), verify }, Some(&http)).unwrap()
    }

    /// Runs a handshake, and delivers the server's tickets.
    fn handshake(&self, plan: &TlsPlan, now: Nanos) -> Result<HandshakeKind, String> {
        let mut client = plan.begin(now).unwrap();
        let mut server = ServerConnection::new(self.config.clone()).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            // Its reaction to an alert is irrelevant.
            let _ = server.process_new_packets();
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets().map_err(|error| describe(&error).into_owned())?;
        }
        if let Some(session) = plan.session.as_ref().filter(|_| !client.has_resumed()) {
            session.mark_verified(now);
        }
        Ok(client.handshake_kind().unwrap())
    }
}

fn config(
    authority: &CertifiedIssuer<'static, KeyPair>,
    ticketer: &Arc<dyn ProducesTickets>,
    version: &'static SupportedProtocolVersion,
    until: i32,
) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["good.test".into()]).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    let builder = builder.unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.ticketer = ticketer.clone();
    Arc::new(config)
}

#[test]
fn expired_certificate_is_noticed_within_max_age() {
    for version in [&TLS12, &TLS13] {
        let mut server = TicketServer::new(version);
        let plan = server.plan(10);
        assert_eq!(server.handshake(&plan, 100 * SECOND), Ok(HandshakeKind::Full));
        assert_eq!(server.handshake(&plan, 130 * SECOND), Ok(HandshakeKind::Resumed));
        server.expire();
        // Resuming does not extend the session's age.
        assert_eq!(server.handshake(&plan, 160 * SECOND - 1), Ok(HandshakeKind::Resumed));
        assert_eq!(server.handshake(&plan, 160 * SECOND), Err("certificate has expired".to_owned()));
        assert_eq!(server.handshake(&plan, 161 * SECOND), Err("certificate has expired".to_owned()));
    }
}

#[test]
fn handshakes_without_keep_alive_are_full() {
    for version in [&TLS12, &TLS13] {
        let server = TicketServer::new(version);
        let plan = server.plan(0);
        for now in 1..4 {
            assert_eq!(server.handshake(&plan, now), Ok(HandshakeKind::Full));
        }
    }
}

#[test]
fn servers_of_one_name_keep_separate_sessions() {
    for version in [&TLS12, &TLS13] {
        let server = TicketServer::new(version);
        let (one, other) = (server.plan(10), server.plan(10));
        assert_eq!(server.handshake(&one, SECOND), Ok(HandshakeKind::Full));
        assert_eq!(server.handshake(&other, SECOND), Ok(HandshakeKind::Full));
        assert_eq!(server.handshake(&one, SECOND), Ok(HandshakeKind::Resumed));
    }
}
