//! Roles and TLS of the API.

use std::os::unix::fs::PermissionsExt;

use maglev_core::config::{Account, Caller, Role, Rule};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::config::tls::TlsPem;

#[test]
fn roles() {
    let one = "exactly one of user, group and certificate is required";
    cases(
        "maglev: { api: { tls: { certificate: /c, key: /k, client-ca: /ca }, roles: [ @ ] } }",
        "api.roles[0]",
        &[
            ("{ user: alice, role: admin }", ""),
            ("{ user: 1000, role: view }", ""),
            ("{ group: 'domain admins', role: operate }", ""),
            ("{ certificate: deploy.example.org, role: operate }", ""),
            ("{ role: view }", &format!(": {one}")),
            ("{ user: a, group: b, role: view }", &format!(": {one}")),
            ("{ user: a }", ".role: required: view, operate or admin"),
            ("{}", &format!(": {one}\n.role: required: view, operate or admin")),
            ("{ user: -1, role: view }", ".user: -1 is not within 0 to 4294967294"),
            ("{ group: 4294967295, role: view }", ".group: 4294967295 is not within 0 to 4294967294"),
            ("{ user: '', role: view }", ".user: \"\" is not a name of a user or a group"),
            ("{ user: 'a:b', role: view }", ".user: \"a:b\" is not a name of a user or a group"),
            ("{ group: '1000', role: view }", ".group: \"1000\" is not a name of a user or a group"),
            (
                "{ certificate: \"a\\n\", role: view }",
                ".certificate: \"a\\n\" is not a name in a certificate",
            ),
        ],
    );
    cases(
        "maglev: { api: { roles: [ { user: a, role: view }, @ ] } }",
        "api.roles[1]",
        &[(
            "{ certificate: deploy.example.org, role: operate }",
            ".certificate: client certificates are not requested: maglev.api.tls.client-ca is missing",
        )],
    );
    let many = vec!["{ user: a, role: view }"; 257].join(", ");
    let all = problems(&format!("maglev: {{ api: {{ roles: [{many}] }} }}"));
    assert_eq!(all, ["api.roles: more than 256 rules"]);
}

#[test]
fn role_rules_are_parsed() {
    let text = "maglev: { api: { roles: [ { group: netops, role: operate }, { user: 0, role: admin } ] } }";
    let config = check(&parse(text.as_bytes()).unwrap(), &mut |_| Err(String::new())).unwrap();
    let rules = [
        Rule { caller: Caller::Group(Account::Name("netops".into())), role: Role::Operate },
        Rule { caller: Caller::User(Account::Id(0)), role: Role::Admin },
    ];
    assert_eq!(config.api.roles, rules);
}

#[test]
fn paths_of_tls() {
    cases(
        "maglev: { api: { tls: @ } }",
        "api.tls.",
        &[
            ("{ certificate: /c, key: /k }", ""),
            ("", "certificate: required\nkey: required"),
            ("{ certificate: c.pem }", "certificate: \"c.pem\": not an absolute path\nkey: required"),
            ("{ certificate: /c, key: /k, client-ca: '' }", "client-ca: \"\": not an absolute path"),
        ],
    );
}

/// Directory of valid and invalid TLS files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for name in ["one", "other"] {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new(vec!["lb1".to_owned()]).unwrap().self_signed(&key).unwrap();
            files.write(&format!("{name}.pem"), &certificate.pem());
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files.write("empty", "nothing here");
        files.write("cut", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Returns the problems of a configuration that names these files.
    fn reported(&self, certificate: &str, key: &str, client_ca: &str) -> Vec<String> {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        let text = format!(
            "maglev: {{ api: {{ tls: {{ certificate: {}, key: {}, client-ca: {} }} }} }}",
            path(certificate),
            path(key),
            path(client_ca)
        );
        let (_, lines) = super::super::reported(text.as_bytes());
        let directory = format!("{}/", self.0.path().display());
        lines
            .iter()
            .map(|line| line.trim_start().replace(&directory, "").replace("maglev.api.tls.", ""))
            .collect()
    }
}

#[test]
fn files_of_tls() {
    let files = Files::new();
    assert_eq!(files.reported("one.pem", "one.key", "other.pem"), [""; 0]);
    for (certificate, key, client_ca, expected) in [
        (
            "none",
            "one.key",
            "none",
            &[
                "certificate: \"none\": No such file or directory (os error 2)",
                "client-ca: \"none\": No such file or directory (os error 2)",
            ][..],
        ),
        (
            "empty",
            "empty",
            "empty",
            &[
                "certificate: \"empty\": holds no PEM certificate",
                "key: \"empty\": holds no PEM private key without a passphrase",
                "client-ca: \"empty\": holds no PEM certificate",
            ],
        ),
        (
            "one.pem",
            "other.key",
            "one.pem",
            &["key: \"other.key\": cannot be used: the key is not that of the certificate"],
        ),
    ] {
        assert_eq!(files.reported(certificate, key, client_ca), expected, "{certificate} {key} {client_ca}");
    }
    let [cut] = &files.reported("cut", "one.key", "one.pem")[..] else { panic!("one problem") };
    assert!(cut.starts_with("certificate: \"cut\": holds a truncated or invalid certificate"), "{cut}");
}

#[test]
fn certificate_that_clients_refuse_is_warned_of() {
    let warning = |change: fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["lb1".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let pem = TlsPem { certificate: certificate.as_bytes(), key: key.as_bytes(), ..TlsPem::default() };
        let warnings = tls::from_pem(pem).unwrap().warnings;
        warnings.into_iter().map(|(key, words)| format!("{key}: {words}")).collect::<String>()
    };
    let refusal = |words| format!("certificate: maglevc refuses it: certificate {words}");
    assert_eq!(warning(|_| {}), "");
    // As `openssl req -x509` makes it: maglevc takes it with exactly this file.
    assert_eq!(warning(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "");
    assert_eq!(warning(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)), refusal("has expired"));
    let clients = warning(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(clients, refusal("is for another purpose (extendedKeyUsage)"));
    assert_eq!(warning(|params| params.subject_alt_names.clear()), refusal("has no subjectAltName"));
}
