//! A certificate authority, and valid and invalid server certificates.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// A certificate and its key, in PEM.
pub struct Identity {
    /// Certificate.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Creates an authority with a new key.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each call returns another key")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name("an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Returns the authority's certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Returns a valid certificate for `name`.
    #[must_use]
    pub fn valid(&self, name: &str) -> Identity {
        self.sign(server(name))
    }

    /// Returns a certificate for `name` that expired in 2001.
    #[must_use]
    pub fn expired(&self, name: &str) -> Identity {
        let mut params = server(name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(params)
    }

    /// Returns an obsolete certificate with `name` only as its common name.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn with_common_name_only(&self, name: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name);
        self.sign(params)
    }

    /// Returns a valid certificate for several names, with this serial number in hexadecimal.
    ///
    /// # Panics
    /// If the names or the number are invalid.
    #[must_use]
    pub fn with_names(&self, names: &[&str], serial: &str) -> Identity {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = distinguished_name(names[0]);
        params.serial_number = Some(serial_number(serial));
        self.sign(params)
    }

    /// Returns a list, in PEM, that revokes the certificate with this serial number, and is valid until `year` begins.
    ///
    /// # Panics
    /// If the system has no randomness.
    #[must_use]
    pub fn revocation_list(&self, serial: &str, year: i32) -> String {
        let at = date_time_ymd(2019, 1, 1);
        let revoked = RevokedCertParams {
            serial_number: serial_number(serial),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at,
            next_update: date_time_ymd(year, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Returns a self-signed certificate for `name`.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn self_signed(name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = server(name).self_signed(&key).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Returns a self-signed certificate for `name` that is a CA's, as `openssl req -x509` makes it.
///
/// # Panics
/// If the system has no randomness.
#[must_use]
pub fn self_signed_authority(name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = server(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn serial_number(hexadecimal: &str) -> SerialNumber {
    u64::from_str_radix(hexadecimal, 16).unwrap().into()
}

fn server(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // With the authority's name as its subject, a foreign certificate would look self-signed.
    params.distinguished_name = distinguished_name(name);
    params
}

fn distinguished_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
