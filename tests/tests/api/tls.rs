//! TLS over TCP: client authentication, and effects of a reload.

use maglev_lab::certificates::{Authority, self_signed_authority};
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_proto::v1::{GetVersionRequest, ReloadConfigRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::{ApiFixture, NAME, TlsFiles, check_answers, connect, error_text};

const DEPLOY: &str = "{ certificate: deploy.example.org, role: admin }";

async fn reload(channel: Channel) -> Result<(), Status> {
    MaglevClient::new(channel).reload_config(ReloadConfigRequest::default()).await.map(drop)
}

#[test]
fn certificate_rule_grants_role() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(DEPLOY));
    fixture.maglevd.wait(async {
        let identity = files.authority.valid("deploy.example.org");
        let channel = files.connect(fixture.address, Some(&identity)).await.unwrap();
        reload(channel).await.unwrap();
        let old = files.authority.with_common_name_only("deploy.example.org");
        for identity in [None, Some(&files.authority.valid("other.example.org")), Some(&old)] {
            let channel = files.connect(fixture.address, identity).await.unwrap();
            check_answers(channel.clone()).await.unwrap();
            assert_eq!(reload(channel).await.unwrap_err().code(), Code::PermissionDenied);
        }
    });
}

#[test]
fn invalid_client_certificate_is_rejected() {
    let files = TlsFiles::new();
    let peers = Authority::new().valid("deploy.example.org");
    let expired = files.authority.expired("deploy.example.org");
    for (identity, why) in
        [(peers, "certificate has a signature that does not verify"), (expired, "certificate has expired")]
    {
        // Each case has its own daemon, because repeated failures are rate-limited in the log.
        let fixture = ApiFixture::new(files.api(DEPLOY));
        let asked = fixture.maglevd.wait(async {
            // A TLS 1.3 client can complete its handshake before the server rejects its certificate.
            match files.connect(fixture.address, Some(&identity)).await {
                Ok(channel) => check_answers(channel).await,
                Err(status) => Err(status),
            }
        });
        assert!(asked.is_err());
        fixture.maglevd.process.line(0, why);
    }
}

#[test]
fn plaintext_is_refused_with_tls_configured() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new("{}");
    let plain = Endpoint::from_shared(format!("http://{}", fixture.address)).unwrap();
    let before = fixture.maglevd.wait(plain.connect()).unwrap();
    fixture.maglevd.wait(check_answers(before.clone())).unwrap();

    fixture.reload(files.api(""));
    let status = fixture.maglevd.wait(check_answers(before)).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("plain text"), "{status}");
    let position = fixture.maglevd.process.line_count();
    fixture.maglevd.wait(async {
        let asked = match plain.connect().await {
            Ok(channel) => check_answers(channel).await.map_err(drop),
            Err(_) => Err(()),
        };
        asked.unwrap_err();
    });
    fixture.maglevd.process.line(position, "TLS handshake failed");
    fixture.maglevd.wait(fixture.maglevd.client.clone().get_version(GetVersionRequest {})).unwrap();
}

#[test]
fn reload_applies_rules_to_open_connections() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(""));
    let identity = files.authority.valid("deploy.example.org");
    let channel = fixture.maglevd.wait(files.connect(fixture.address, Some(&identity))).unwrap();
    let may_reload = || fixture.maglevd.wait(reload(channel.clone()));
    assert_eq!(may_reload().unwrap_err().code(), Code::PermissionDenied);
    fixture.reload(files.api(DEPLOY));
    may_reload().unwrap();
    // The new authority did not sign the client's certificate.
    files.dir.write("ca.pem", Authority::new().certificate());
    fixture.reload(files.api(DEPLOY));
    assert_eq!(may_reload().unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn reload_replaces_certificate_and_keeps_connections() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(""));
    let before = fixture.maglevd.wait(files.connect(fixture.address, None)).unwrap();
    let renewed = Authority::new();
    files.serve(&renewed.valid(NAME));
    fixture.reload(files.api(""));
    fixture.maglevd.wait(async {
        check_answers(connect(fixture.address, &renewed, None).await.unwrap()).await.unwrap();
        files.connect(fixture.address, None).await.unwrap_err();
        check_answers(before).await.unwrap();
    });
}

#[test]
fn reload_with_unreadable_certificate_changes_nothing() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(DEPLOY));
    let identity = files.authority.valid("deploy.example.org");
    std::fs::remove_file(files.path("server.pem")).unwrap();
    files.dir.write("ca.pem", "nonsense");
    let line = fixture.reload_invalid(files.api(""));
    assert!(line.contains("maglev.api.tls.certificate: ") && line.contains("No such file"), "{line}");
    fixture.maglevd.wait(async {
        let channel = files.connect(fixture.address, Some(&identity)).await.unwrap();
        // The previous rules remain in force, and the answer names the error.
        let mut client = MaglevClient::new(channel);
        let fault =
            client.reload_config(ReloadConfigRequest::default()).await.unwrap().into_inner().fault.unwrap();
        assert_eq!(fault.problems[0].path, "maglev.api.tls.certificate");
    });
}

#[test]
fn maglevc_connects_over_tls() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(DEPLOY));
    let identity = files.authority.valid("deploy.example.org");
    let at = |name: &str| files.path(name).display().to_string();
    files.dir.write("client.pem", &identity.certificate);
    files.dir.write("client.key", &identity.key);
    // The certificate does not contain the address, so verification must fail.
    let output = fixture.maglevc(&["--tls-ca", &at("ca.pem")], "show version");
    assert!(error_text(&output).contains("certificate is not for the name"), "{output:?}");

    files.serve(&files.authority.valid(&fixture.address.ip().to_string()));
    fixture.reload(files.api(DEPLOY));
    let output = fixture.maglevc(&["--tls-ca", &at("ca.pem")], "show version");
    assert!(output.status.success(), "{output:?}");
    let output = fixture.maglevc(&["--tls-ca", &at("ca.pem")], "config reload");
    assert!(error_text(&output).contains("requires the role admin"), "{output:?}");
    let (certificate, key) = (at("client.pem"), at("client.key"));
    let flags = ["--tls-ca", &at("ca.pem"), "--tls-cert", &certificate, "--tls-key", &key];
    let output = fixture.maglevc(&flags, "config reload");
    assert!(output.status.success(), "{output:?}");
    let output = fixture.maglevc(&flags[..4], "config reload");
    assert!(error_text(&output).contains("--tls-cert and --tls-key want each other"), "{output:?}");
    let output = fixture.maglevc(&[], "show version");
    assert!(error_text(&output).contains("maglevd at"), "{output:?}");
}

/// `openssl req -x509` makes such a certificate by default.
#[test]
fn maglevc_trusts_exactly_given_certificate() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new("{}");
    let own = self_signed_authority(&fixture.address.ip().to_string());
    files.serve(&own);
    fixture.reload(files.api(""));
    let trusting = |certificate: &str| {
        let file = files.dir.write("trusted.pem", certificate).display().to_string();
        fixture.maglevc(&["--tls-ca", &file], "show version")
    };
    assert!(trusting(&own.certificate).status.success(), "{:?}", trusting(&own.certificate));
    let other = self_signed_authority(&fixture.address.ip().to_string());
    assert!(error_text(&trusting(&other.certificate)).contains("the daemon's certificate is a CA's own"));
}

#[test]
fn audit_trail_names_matching_name_and_serial() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(DEPLOY));
    let identity = files.authority.with_names(&["first.example.org", "deploy.example.org"], "0a0b0c");
    let channel = fixture.maglevd.wait(files.connect(fixture.address, Some(&identity))).unwrap();
    let position = fixture.maglevd.process.line_count();
    fixture.maglevd.wait(reload(channel)).unwrap();
    fixture.maglevd.process.line(position, "deploy.example.org (certificate 0a0b0c, 127.0.0.1)");
}

/// Also on a connection from before the list.
#[test]
fn revoked_certificate_loses_its_role() {
    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api(DEPLOY));
    let [revoked, valid] =
        ["0a", "0b"].map(|serial| files.authority.with_names(&["deploy.example.org"], serial));
    let connect = |identity| fixture.maglevd.wait(files.connect(fixture.address, Some(identity)));
    let channels = [connect(&revoked).unwrap(), connect(&valid).unwrap()];
    files.dir.write("crl.pem", files.authority.revocation_list("0a", 4096));
    fixture.reload(files.api(DEPLOY));
    let [of_revoked, of_valid] = channels.map(|channel| fixture.maglevd.wait(reload(channel)));
    assert_eq!(of_revoked.unwrap_err().code(), Code::PermissionDenied);
    of_valid.unwrap();

    // A list that is out of date accepts nobody.
    let position = fixture.maglevd.process.line_count();
    files.dir.write("crl.pem", files.authority.revocation_list("0a", 2020));
    fixture.reload(files.api(DEPLOY));
    fixture
        .maglevd
        .process
        .line(position, "maglev.api.tls.client-crl: the list of CN=an authority is out of date");
    let refused = fixture.maglevd.wait(async {
        match files.connect(fixture.address, Some(&valid)).await {
            Ok(channel) => reload(channel).await,
            Err(status) => Err(status),
        }
    });
    refused.unwrap_err();
    fixture.maglevd.process.line(position, "certificate has a revocation list that is out of date");
}
