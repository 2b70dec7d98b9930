//! `openssl s_server` on a host: certificates as the openssl program makes them, and servers that ask for much or little.

use std::process::Command;

use super::host::Host;
use super::nginx::NAME;
use super::process::Process;
use super::test_dir::TestDir;

/// Port of the server.
pub const PORT: u16 = 4433;

/// Arguments for openssl's commands, in the notation of a shell without quotes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpensslArgs {
    /// Of `genpkey`; P-256 if empty.
    pub key: &'static str,
    /// Of `req -x509`; a subjectAltName for [`NAME`] if empty.
    pub certificate: &'static str,
    /// Of `s_server`.
    pub server: &'static str,
}

/// A running server with a self-signed certificate. Ended on drop.
pub struct OpensslServer {
    _process: Process,
    /// Its certificate, in PEM.
    pub certificate: String,
}

impl OpensslServer {
    /// Creates the key and the certificate in `dir`, and starts the server on `host`. It answers HTTP with 200.
    ///
    /// # Panics
    /// If openssl refuses.
    #[must_use]
    pub fn start(host: &Host, dir: &TestDir, args: OpensslArgs) -> Self {
        let (key, certificate) = (dir.path("openssl.key"), dir.path("openssl.crt"));
        let request = if args.certificate.is_empty() {
            format!("-subj /CN=openssl -addext subjectAltName=DNS:{NAME}")
        } else {
            args.certificate.to_owned()
        };
        let kind = if args.key.is_empty() { "EC -pkeyopt ec_paramgen_curve:P-256" } else { args.key };
        run(Command::new("openssl").args(["genpkey", "-algorithm"]).args(words(kind)).arg("-out").arg(&key));
        let mut req = Command::new("openssl");
        run(req.args(["req", "-x509", "-key"]).arg(&key).arg("-out").arg(&certificate).args(words(&request)));
        let mut server = host.command("openssl");
        server.args(["s_server", "-4", "-www", "-accept", &PORT.to_string()]).args(words(args.server));
        server.arg("-key").arg(&key).arg("-cert").arg(&certificate);
        let process = Process::spawn("openssl", &mut server);
        host.wait_until_open(PORT);
        Self { _process: process, certificate: std::fs::read_to_string(certificate).unwrap() }
    }
}

fn words(args: &str) -> impl Iterator<Item = &str> {
    args.split_whitespace()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
