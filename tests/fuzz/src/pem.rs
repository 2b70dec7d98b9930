//! Certificates of operators and of clients.

use maglev_ipc::check::{MAX_BUNDLE, TlsHandshake, TlsVerify};
use maglevd::access::ClientCertificate;
use maglevd::config::tls::{self, TlsPem};
use maglevd_prober::probe::tls::TlsConfigs;

use crate::FuzzTarget;
use crate::input_parts::{InputParts, of_parts};

pub const CERTIFICATES: FuzzTarget =
    FuzzTarget { name: "certificates", longest: MAX_BUNDLE, memory: 8 << 20, seeds, run };

/// Input: a certificate, a key, a bundle and revocation lists, in PEM; or a certificate in DER.
fn run(input: &[u8]) {
    let names = ClientCertificate::new(&[input.into()]).names;
    assert!(names.iter().map(String::len).sum::<usize>() <= input.len());
    let mut input = InputParts(input);
    let [certificate, key, bundle, lists] = [(); 4].map(|()| input.part());
    let [client_ca, client_crl] = [bundle, lists].map(|part| (!part.is_empty()).then_some(part));
    if let Err(faults) = tls::from_pem(TlsPem { certificate, key, client_ca, client_crl }) {
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
