use maglev_core::config::{Account, Rule};

use super::*;

const OWN: u32 = 990;

fn policy(rules: &[(Caller, Role)], tls: Option<TlsConfig>) -> AccessPolicy {
    let roles = rules.iter().map(|(caller, role)| Rule { caller: caller.clone(), role: *role }).collect();
    let api = Api { tls: None, roles };
    let names_accounts = rules.iter().any(|(caller, _)| !matches!(caller, Caller::Certificate(_)));
    AccessPolicy {
        tls,
        rules: resolve_rules(&api, &AccountDirectory::of_this_process()),
        names_accounts,
        own_uid: OWN,
    }
}

fn unix(uid: u32, groups: &[u32]) -> Peer {
    Peer::Unix { uid, groups: groups.to_vec() }
}

fn tcp(address: &str, certificate: Option<ClientCertificate>) -> Peer {
    Peer::of_tcp(address.parse::<IpAddr>().unwrap(), certificate.is_some(), certificate)
}

fn shown(name: &str, authority: &[u8]) -> Option<ClientCertificate> {
    Some(ClientCertificate { names: vec![name.into()], authority: authority.into() })
}

fn tls(client_ca: &[u8]) -> TlsConfig {
    let server =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    TlsConfig { server: Arc::new(server), client_ca: Some(client_ca.into()), refusal: String::new() }
}

const ALICE: Caller = Caller::User(Account::Id(1000));
const NETOPS: Caller = Caller::Group(Account::Id(500));

fn deploy() -> Caller {
    Caller::Certificate("deploy.example.org".into())
}

#[test]
fn without_rules_local_operates_remote_views() {
    let policy = policy(&[], None);
    for (peer, role, source) in [
        (unix(0, &[0]), Role::Admin, GrantSource::Root),
        (unix(OWN, &[OWN]), Role::Admin, GrantSource::Own),
        (unix(1000, &[1000]), Role::Operate, GrantSource::Socket),
        (unix(65534, &[]), Role::Operate, GrantSource::Socket),
        (tcp("127.0.0.1", None), Role::Operate, GrantSource::Loopback),
        (tcp("127.1.2.3", None), Role::Operate, GrantSource::Loopback),
        (tcp("::1", None), Role::Operate, GrantSource::Loopback),
        (tcp("::ffff:127.0.0.1", None), Role::Operate, GrantSource::Loopback),
        (tcp("192.0.2.7", None), Role::View, GrantSource::Network),
        (tcp("::ffff:192.0.2.7", None), Role::View, GrantSource::Network),
        (tcp("2001:db8::7", None), Role::View, GrantSource::Network),
    ] {
        assert_eq!(policy.grant(&peer), RoleGrant { role: Some(role), source }, "{peer:?}");
    }
}

#[test]
fn unlisted_local_peers_only_view() {
    for rule in [(ALICE, Role::Admin), (NETOPS, Role::Operate)] {
        let policy = policy(&[rule], None);
        let unlisted = RoleGrant { role: Some(Role::View), source: GrantSource::Unlisted };
        assert_eq!(policy.grant(&unix(1001, &[1001])), unlisted);
        assert_eq!(policy.grant(&tcp("127.0.0.1", None)), unlisted);
        assert_eq!(policy.grant(&unix(0, &[0])).role, Some(Role::Admin));
        assert_eq!(policy.grant(&unix(OWN, &[OWN])).role, Some(Role::Admin));
    }
}

#[test]
fn highest_matching_role_wins() {
    let rules = [(NETOPS, Role::View), (ALICE, Role::Admin), (NETOPS, Role::Operate)];
    let policy = policy(&rules, None);
    let rule = |role, index| RoleGrant { role: Some(role), source: GrantSource::Rule(index) };
    assert_eq!(policy.grant(&unix(1000, &[1000, 500])), rule(Role::Admin, 1));
    assert_eq!(policy.grant(&unix(1001, &[500])), rule(Role::Operate, 2));
    assert_eq!(policy.grant(&unix(1001, &[1001, 7, 500])), rule(Role::Operate, 2));
}

#[test]
fn rule_can_lower_the_default_role() {
    let policy = policy(&[(NETOPS, Role::View)], None);
    let grant = policy.grant(&unix(1001, &[500]));
    assert_eq!(grant, RoleGrant { role: Some(Role::View), source: GrantSource::Rule(0) });
}

#[test]
fn certificates_match_name_and_current_ca() {
    let policy = policy(&[(deploy(), Role::Operate)], Some(tls(b"now")));
    let role = |peer: Peer| policy.grant(&peer).role;
    assert_eq!(role(tcp("192.0.2.7", shown("Deploy.Example.org", b"now"))), Some(Role::Operate));
    assert_eq!(role(tcp("192.0.2.7", shown("other.example.org", b"now"))), Some(Role::View));
    assert_eq!(role(tcp("192.0.2.7", shown("deploy.example.org", b"before"))), Some(Role::View));
    assert_eq!(role(unix(1000, &[])), Some(Role::Operate));
}

#[test]
fn plain_text_is_refused_with_tls() {
    let policy = policy(&[], Some(tls(b"")));
    let refused = RoleGrant { role: None, source: GrantSource::PlainText };
    for address in ["127.0.0.1", "192.0.2.7"] {
        assert_eq!(policy.grant(&tcp(address, None)), refused);
    }
    assert_eq!(policy.grant(&unix(1000, &[])).role, Some(Role::Operate));
}

#[test]
fn unknown_account_matches_no_peer() {
    let nobody = Caller::User(Account::Name("no-such-user".into()));
    let policy = policy(&[(nobody, Role::Admin), (ALICE, Role::Admin)], None);
    assert_eq!(policy.rules.len(), 1);
    assert_eq!(policy.grant(&unix(1000, &[])).source, GrantSource::Rule(1));
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
    assert_eq!(resolve_rules(&Api { tls: None, roles }, &accounts), []);
}

#[tokio::test]
async fn peers_are_described() {
    let accounts = AccountDirectory::of_this_process();
    for (peer, expected) in [
        (unix(0, &[]), "root"),
        (tcp("::ffff:192.0.2.7", None), "192.0.2.7"),
        (tcp("192.0.2.7", shown("deploy.example.org", b"")), "deploy.example.org (192.0.2.7)"),
        (tcp("192.0.2.7", shown("a\nb", b"")), "a\\nb (192.0.2.7)"),
    ] {
        assert_eq!(peer.describe(&accounts).await, expected);
    }
}
