use std::time::Duration;

use maglev_core::config::{Account, Rule};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::config::tls::{self, TlsPem};

const OWN: u32 = 990;

fn policy(rules: &[(Caller, Role)], tls: Option<TlsConfig>) -> AccessPolicy {
    let roles = rules.iter().map(|(caller, role)| Rule { caller: caller.clone(), role: *role }).collect();
    let api = Api { roles, ..Api::default() };
    AccessPolicy {
        tls,
        rules: resolve_rules(&api, &AccountDirectory::of_this_process()),
        loopback_role: Role::View,
        has_rules: !rules.is_empty(),
        own_uid: OWN,
    }
}

fn unix(uid: u32, groups: &[u32]) -> Peer {
    Peer::Unix { uid, groups: groups.to_vec() }
}

fn tcp(address: &str, certificate: Option<ClientCertificate>) -> Peer {
    Peer::of_tcp(address.parse::<IpAddr>().unwrap(), certificate.is_some(), certificate)
}

/// An authority of client certificates.
struct ClientAuthority(CertifiedIssuer<'static, KeyPair>);

impl ClientAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns a certificate for these names with the serial number 0x0a0b, valid until 2049.
    fn certificate(&self, names: &[&str]) -> Option<ClientCertificate> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(0x0a0b_u64.into());
        params.not_after = rcgen::date_time_ymd(2049, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.example.org");
        let key = KeyPair::generate().unwrap();
        Some(ClientCertificate::new(&[params.signed_by(&key, &*self.0).unwrap().der().clone()]))
    }

    /// Returns the configuration of a daemon that accepts these certificates.
    fn tls(&self) -> TlsConfig {
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["lb1".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let (ca, key) = (self.0.pem(), key.serialize_pem());
        let pem = TlsPem {
            certificate: own.as_bytes(),
            key: key.as_bytes(),
            client_ca: Some(ca.as_bytes()),
            client_crl: None,
        };
        tls::from_pem(pem).unwrap()
    }
}

const ALICE: Caller = Caller::User(Account::Id(1000));
const NETOPS: Caller = Caller::Group(Account::Id(500));

fn deploy() -> Caller {
    Caller::Certificate("deploy.example.org".into())
}

#[test]
fn without_rules_socket_operates_and_tcp_views() {
    let policy = policy(&[], None);
    for (peer, role, source) in [
        (unix(0, &[0]), Role::Admin, GrantSource::Root),
        (unix(OWN, &[OWN]), Role::Admin, GrantSource::Own),
        (unix(1000, &[1000]), Role::Operate, GrantSource::Socket),
        (unix(65534, &[]), Role::Operate, GrantSource::Socket),
        (tcp("127.0.0.1", None), Role::View, GrantSource::Loopback),
        (tcp("127.1.2.3", None), Role::View, GrantSource::Loopback),
        (tcp("::1", None), Role::View, GrantSource::Loopback),
        (tcp("::ffff:127.0.0.1", None), Role::View, GrantSource::Loopback),
        (tcp("192.0.2.7", None), Role::View, GrantSource::Network),
        (tcp("::ffff:192.0.2.7", None), Role::View, GrantSource::Network),
        (tcp("2001:db8::7", None), Role::View, GrantSource::Network),
    ] {
        assert_eq!(policy.grant(&peer, UnixTime::now()), RoleGrant { role: Some(role), source }, "{peer:?}");
    }
}

#[test]
fn loopback_has_the_configured_role() {
    let now = UnixTime::now();
    let view = RoleGrant { role: Some(Role::View), source: GrantSource::Loopback };
    let admin = RoleGrant { role: Some(Role::Admin), source: GrantSource::Loopback };
    for rules in [&[][..], &[(ALICE, Role::Operate)]] {
        let closed = policy(rules, None);
        let open = AccessPolicy { loopback_role: Role::Admin, ..closed.clone() };
        for address in ["127.0.0.1", "::1"] {
            assert_eq!(
                (closed.grant(&tcp(address, None), now), open.grant(&tcp(address, None), now)),
                (view, admin)
            );
        }
        assert_eq!(open.grant(&tcp("192.0.2.7", None), now).role, Some(Role::View));
    }
}

#[test]
fn unlisted_socket_peers_only_view() {
    for rule in [(ALICE, Role::Admin), (NETOPS, Role::Operate), (deploy(), Role::Operate)] {
        let policy = policy(&[rule], None);
        let unlisted = RoleGrant { role: Some(Role::View), source: GrantSource::Unlisted };
        assert_eq!(policy.grant(&unix(1001, &[1001]), UnixTime::now()), unlisted);
        assert_eq!(policy.grant(&unix(0, &[0]), UnixTime::now()).role, Some(Role::Admin));
        assert_eq!(policy.grant(&unix(OWN, &[OWN]), UnixTime::now()).role, Some(Role::Admin));
    }
}

#[test]
fn highest_matching_role_wins() {
    let rules = [(NETOPS, Role::View), (ALICE, Role::Admin), (NETOPS, Role::Operate)];
    let policy = policy(&rules, None);
    let rule = |role, index| RoleGrant { role: Some(role), source: GrantSource::Rule(index) };
    assert_eq!(policy.grant(&unix(1000, &[1000, 500]), UnixTime::now()), rule(Role::Admin, 1));
    assert_eq!(policy.grant(&unix(1001, &[500]), UnixTime::now()), rule(Role::Operate, 2));
    assert_eq!(policy.grant(&unix(1001, &[1001, 7, 500]), UnixTime::now()), rule(Role::Operate, 2));
}

#[test]
fn rule_can_lower_the_default_role() {
    let policy = policy(&[(NETOPS, Role::View)], None);
    let grant = policy.grant(&unix(1001, &[500]), UnixTime::now());
    assert_eq!(grant, RoleGrant { role: Some(Role::View), source: GrantSource::Rule(0) });
}

#[test]
fn certificates_match_name_and_current_ca() {
    let (authority, before) = (ClientAuthority::new(), ClientAuthority::new());
    let policy = policy(&[(deploy(), Role::Operate)], Some(authority.tls()));
    let role = |certificate| policy.grant(&tcp("192.0.2.7", certificate), UnixTime::now()).role;
    assert_eq!(
        role(authority.certificate(&["other.example.org", "Deploy.Example.org"])),
        Some(Role::Operate)
    );
    assert_eq!(role(authority.certificate(&["other.example.org"])), Some(Role::View));
    assert_eq!(role(before.certificate(&["deploy.example.org"])), Some(Role::View));
    assert_eq!(policy.grant(&unix(1000, &[]), UnixTime::now()).role, Some(Role::View));
}

#[test]
fn certificate_loses_role_when_it_expires() {
    let authority = ClientAuthority::new();
    let policy = policy(&[(deploy(), Role::Admin)], Some(authority.tls()));
    let peer = tcp("192.0.2.7", authority.certificate(&["deploy.example.org"]));
    let role = |at| policy.grant(&peer, UnixTime::since_unix_epoch(Duration::from_secs(at))).role;
    // 2049-01-01.
    assert_eq!([role(2_493_072_000), role(2_493_072_001)], [Some(Role::Admin), Some(Role::View)]);
}

#[test]
fn common_name_is_no_name() {
    let authority = ClientAuthority::new();
    let rule = (Caller::Certificate("common.example.org".into()), Role::Admin);
    let policy = policy(&[rule], Some(authority.tls()));
    let peer = tcp("192.0.2.7", authority.certificate(&[]));
    assert_eq!(policy.grant(&peer, UnixTime::now()).role, Some(Role::View));
}

#[test]
fn matching_name_is_named() {
    let authority = ClientAuthority::new();
    let policy = policy(&[(deploy(), Role::Operate)], Some(authority.tls()));
    let peer = tcp("192.0.2.7", authority.certificate(&["first.example.org", "deploy.example.org"]));
    let name = policy.certificate_name(policy.grant(&peer, UnixTime::now()));
    assert_eq!(name, Some("deploy.example.org"));
    let described = peer.describe_by("deploy.example.org").unwrap();
    assert_eq!(described, "deploy.example.org (certificate 0a0b, 192.0.2.7)");
}

#[test]
fn plain_text_is_refused_with_tls() {
    let policy = policy(&[], Some(ClientAuthority::new().tls()));
    let refused = RoleGrant { role: None, source: GrantSource::PlainText };
    for address in ["127.0.0.1", "192.0.2.7"] {
        assert_eq!(policy.grant(&tcp(address, None), UnixTime::now()), refused);
    }
    assert_eq!(policy.grant(&unix(1000, &[]), UnixTime::now()).role, Some(Role::Operate));
}

#[test]
fn unknown_account_matches_no_peer() {
    let nobody = Caller::User(Account::Name("no-such-user".into()));
    let policy = policy(&[(nobody, Role::Admin), (ALICE, Role::Admin)], None);
    assert_eq!(policy.rules.len(), 1);
    assert_eq!(policy.grant(&unix(1000, &[]), UnixTime::now()).source, GrantSource::Rule(1));
}

#[test]
fn hidden_users_match_no_rule() {
    let accounts = AccountDirectory::with_hidden_accounts();
    let rule = |caller| Rule { caller, role: Role::Admin };
    let roles = vec![
        rule(Caller::User(Account::Id(65534))),
        rule(Caller::User(Account::Name("nobody".into()))),
        rule(Caller::Group(Account::Name("nogroup".into()))),
    ];
    assert_eq!(resolve_rules(&Api { roles, ..Api::default() }, &accounts), []);
}

#[tokio::test]
async fn peers_are_described() {
    let accounts = AccountDirectory::of_this_process();
    let authority = ClientAuthority::new();
    for (peer, expected) in [
        (unix(0, &[]), "root"),
        (tcp("::ffff:192.0.2.7", None), "192.0.2.7"),
        (
            tcp("192.0.2.7", authority.certificate(&["deploy.example.org"])),
            "deploy.example.org (certificate 0a0b, 192.0.2.7)",
        ),
        (tcp("192.0.2.7", authority.certificate(&[])), "192.0.2.7 (certificate 0a0b)"),
    ] {
        assert_eq!(peer.describe(&accounts).await, expected);
    }
}
