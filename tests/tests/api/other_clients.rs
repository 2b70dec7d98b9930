//! A third-party client: gRPC's own Python implementation.

use std::process::Command;

use maglev_lab::skip;

use crate::{ApiFixture, NAME, TlsFiles};

/// Debian's Python, which sees Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

fn has_grpc() -> bool {
    let import = Command::new(PYTHON).args(["-c", "import grpc, google.protobuf"]).output();
    import.is_ok_and(|output| output.status.success())
}

fn run(name: &str, target: &str, arguments: &[String]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/client.py");
    let output = Command::new(PYTHON).arg(script).arg(target).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().last(), Some("ok"), "{text}");
}

#[test]
fn python_grpc_client_calls_every_method() {
    let name = "python_grpc_client_calls_every_method";
    if skip(name, &["python3"]) {
        return;
    }
    if !has_grpc() {
        println!("SKIP {name}: needs python3-grpcio and python3-protobuf");
        return;
    }
    let fixture = ApiFixture::new("{}");
    run("unix", &format!("unix:{}", fixture.maglevd.socket().display()), &["admin".to_owned()]);
    fixture.reload("{ roles: [{ user: root, role: admin }] }");
    run("plain text", &fixture.address.to_string(), &["view".to_owned()]);

    let files = TlsFiles::new();
    let fixture = ApiFixture::new(files.api("{ certificate: deploy.example.org, role: admin }"));
    let identity = files.authority.valid("deploy.example.org");
    files.dir.write("client.pem", &identity.certificate);
    files.dir.write("client.key", &identity.key);
    let [ca, certificate, key] =
        ["ca.pem", "client.pem", "client.key"].map(|name| files.path(name).display().to_string());
    run("TLS", &fixture.address.to_string(), &["view".into(), NAME.into(), ca.clone()]);
    run("mTLS", &fixture.address.to_string(), &["admin".into(), NAME.into(), ca, certificate, key]);
}
