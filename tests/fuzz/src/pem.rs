//! Certificates: those that operators name, and those that clients show.

use maglev_ipc::check::{MAX_BUNDLE, TlsHandshake, TlsVerify};
use maglevd::access::peer;
use maglevd::config::tls;
use maglevd_prober::probe::tls::TlsConfigs;

use crate::Target;
use crate::scraps::{Scraps, of_parts};

pub const CERTIFICATES: Target =
    Target { name: "certificates", longest: MAX_BUNDLE, memory: 8 << 20, seeds, run };

/// A certificate, a key, a bundle; each in PEM, or the certificate bare.
fn run(input: &[u8]) {
    let names = peer::names(input);
    assert!(names.iter().map(String::len).sum::<usize>() <= input.len());
    let mut input = Scraps(input);
    let (certificate, key, bundle) = (input.part(), input.part(), input.part());
    if let Err(faults) = tls::from_pem(certificate, key, (!bundle.is_empty()).then_some(bundle)) {
        assert!(!faults.is_empty());
    }
    let mut configs = TlsConfigs::new([]);
    let number = configs.add_bundle(bundle);
    assert_eq!(configs.add_bundle(bundle), number, "equal bundles have one number");
    let tls = TlsHandshake { server_name: "example.net".into(), verify: TlsVerify::Bundle(number) };
    let _ = configs.plan(&tls, None);
}

fn seeds() -> Vec<Vec<u8>> {
    let made = rcgen::generate_simple_self_signed(["example.net".into(), "www.example.net".into()])
        .expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let whole = of_parts([&certificate, &key, &certificate]);
    vec![whole, made.cert.der().to_vec(), of_parts([&certificate, &key])]
}
