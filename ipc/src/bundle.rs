//! CA bundles: certificates in PEM to trust. The check of the configuration and the prober read them with one function, so the
//! prober accepts each bundle that the check accepts.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Mark of the beginning of any PEM block (RFC 7468).
const ANY_BEGIN: &str = "-----BEGIN ";
/// First line of a certificate.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Returns the certificates of a bundle, all usable as trust anchors; at least one.
///
/// # Errors
/// The cause, for an operator: another block, or a block that is no certificate. None is left out in silence.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let expected = count_blocks(&String::from_utf8_lossy(pem))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(expected).collect();
    let found = found.ok().filter(|found| found.len() == expected);
    let found = found.ok_or_else(|| "holds a truncated or invalid certificate".to_owned())?;
    for (number, certificate) in (1..).zip(&found) {
        webpki::anchor_from_trusted_cert(certificate)
            .map_err(|_| format!("certificate {number} of it is no X.509 certificate"))?;
    }
    Ok(found)
}

/// Returns the number of certificates by their first lines.
fn count_blocks(text: &str) -> Result<usize, String> {
    let mut count = 0;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.contains(ANY_BEGIN)) {
        if line.contains("PRIVATE KEY-----") {
            return Err("holds a private key, which has no place in a ca-file".to_owned());
        }
        if line.trim_end() == BEGIN {
            count += 1;
        } else if line.trim() == BEGIN {
            return Err(format!("line {number} is indented, so its certificate would be ignored"));
        } else {
            return Err(format!("line {number} does not begin a certificate: only {BEGIN} does"));
        }
    }
    if count == 0 { Err("holds no PEM certificate".to_owned()) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    const PEM: &str = include_str!("../tests/self-signed.pem");

    fn fault(pem: &str) -> String {
        certificates(pem.as_bytes()).unwrap_err()
    }

    #[test]
    fn certificates_are_read_between_comments() {
        for (pem, count) in [
            (PEM.to_owned(), 1),
            (format!("# the old one\n{PEM}\nsubject: CN = x\n{PEM}"), 2),
            (PEM.replace('\n', "\r\n"), 1),
        ] {
            assert_eq!(certificates(pem.as_bytes()).map(|found| found.len()), Ok(count), "{pem}");
        }
    }

    #[test]
    fn ignored_block_is_rejected() {
        let indented = PEM.replace("-----BEGIN", "  -----BEGIN");
        assert_eq!(fault(&indented), "line 1 is indented, so its certificate would be ignored");
        assert_eq!(fault(&(PEM.to_owned() + &indented)).split_once(' ').unwrap().0, "line");
        for other in ["TRUSTED CERTIFICATE", "X509 CERTIFICATE", "DH PARAMETERS", "X509 CRL"] {
            let pem = PEM.to_owned() + &PEM.replace("CERTIFICATE", other);
            assert!(fault(&pem).starts_with("line 11 does not begin a certificate"), "{other}");
        }
        let key = PEM.replace("CERTIFICATE", "EC PRIVATE KEY");
        assert!(fault(&key).starts_with("holds a private key"));
        assert_eq!(fault(""), "holds no PEM certificate");
    }

    #[test]
    fn damaged_certificate_is_rejected() {
        let cut = &PEM[..PEM.len() - 40];
        for pem in [
            cut.to_string(),
            format!("{cut}\n{PEM}"),
            PEM.replace("-----END", "---END"),
            PEM.replace("MIIB", "MI%B"),
        ] {
            assert_eq!(fault(&pem), "holds a truncated or invalid certificate", "{pem}");
        }
        let other = PEM.replace("MIIB", "MIIC");
        assert!(fault(&(PEM.to_owned() + &other)).starts_with("certificate 2 of it is no X.509"));
    }

    proptest! {
        #[test]
        fn edited_bundle_has_all_blocks_or_none(
            at in 0..2 * PEM.len(),
            insert in "[ \t\r\nA=-]{0,3}",
            removed in 0..3_usize,
        ) {
            let mut pem = PEM.repeat(2);
            pem.replace_range(at..(at + removed).min(pem.len().max(at)), &insert);
            if let Ok(found) = certificates(pem.as_bytes()) {
                prop_assert_eq!(found.len(), pem.matches(ANY_BEGIN).count());
            }
        }
    }
}
