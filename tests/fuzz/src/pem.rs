//! Certificates of operators and of clients.

use maglev_ipc::check::{MAX_BUNDLE, TlsHandshake, TlsVerify};
use maglevd::access::peer;
use maglevd::config::tls;
use maglevd_prober::probe::tls::TlsConfigs;

use crate::FuzzTarget;
use crate::input_parts::{InputParts, of_parts};

pub const CERTIFICATES: FuzzTarget =
    FuzzTarget { name: "certificates", longest: MAX_BUNDLE, memory: 8 << 20, seeds, run };

/// Input: a certificate, a key and a bundle, in PEM; or a certificate in DER.
fn run(input: &[u8]) {
    let names = peer::names(input);
    assert!(names.iter().map(String::len).sum::<usize>() <= input.len());
    let mut input = InputParts(input);
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
