//! Chains of certificates: their expiry, and which of them counts.

use maglev_ipc::{CertificateExpiry, TlsVerify};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, date_time_ymd};

use super::tls::{BUNDLE, TlsServer, authority, first_outcome, tls_server};
use super::*;

/// 2048-01-01, 2049-01-01 and 2020-01-01.
const EARLIER: u64 = 2_461_449_600;
const LATER: u64 = 2_493_072_000;
const PAST: u64 = 1_577_836_800;

/// Returns an authority below `issuer` that is valid until the first day of `year`.
fn intermediate(issuer: &Issuer<'_, KeyPair>, name: &str, year: i32) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(year, 1, 1);
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

/// Starts a server whose certificate is valid until 2049, with an intermediate one until `year`, and an expired one that
/// leads nowhere.
fn chain_server(year: i32) -> TlsServer {
    let root = authority("root");
    let middle = intermediate(&root, "middle", year);
    let unused = intermediate(&authority("elsewhere"), "unused", 2020);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["good.test".into()]).unwrap();
    params.not_after = date_time_ymd(2049, 1, 1);
    let leaf = params.signed_by(&key, &*middle).unwrap();
    let chain = vec![leaf.der().clone(), middle.der().clone(), unused.der().clone()];
    TlsServer { address: tls_server(chain, &key), pem: root.pem() }
}

fn seen(server: &TlsServer, verify: TlsVerify) -> (OutcomeCode, String, Option<CertificateExpiry>) {
    let outcome = first_outcome(server, "good.test", verify, None);
    (outcome.code, outcome.detail.to_string(), outcome.not_after)
}

#[test]
fn chain_expiry_is_earliest_of_used_certificates() {
    let expiry = |chain| Some(CertificateExpiry { leaf: LATER, chain });
    let passed = |chain| (OutcomeCode::L6Ok, String::new(), expiry(chain));
    let server = chain_server(2048);
    assert_eq!(seen(&server, BUNDLE), passed(EARLIER));
    // Nobody knows which of them a client would use.
    assert_eq!(seen(&server, TlsVerify::Nothing), passed(LATER));
    assert_eq!(seen(&chain_server(2050), BUNDLE), passed(LATER));
}

#[test]
fn expired_issuer_is_told_from_expired_certificate() {
    let (code, detail, expiry) = seen(&chain_server(2020), BUNDLE);
    let words = "certificate is valid, but an intermediate certificate that the server sent has expired";
    assert_eq!((code, detail.as_str()), (OutcomeCode::L6Rsp, words));
    assert_eq!(expiry, Some(CertificateExpiry { leaf: LATER, chain: PAST }));
}
