//! Access control and transports of the API: `maglevd` as a process, with clients of every kind.

#![cfg(test)]

mod bounds;
mod identity;
mod other_clients;
mod roles;
mod sockets;
mod tls;

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};

use maglev_lab::certificates::{Authority, Identity};
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::programs::program;
use maglev_lab::servers;
use maglev_lab::test_dir::TestDir;
use maglev_proto::v1::GetVersionRequest;
use maglev_proto::v1::maglev_client::MaglevClient;
use maglev_sandbox::ServiceUser;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Name in the server's certificate.
const NAME: &str = "maglevd.example.org";

/// `maglevd` on a unix socket and on TCP, with an empty configuration.
struct ApiFixture {
    maglevd: Maglevd,
    address: SocketAddr,
    dir: TestDir,
}

/// Returns a configuration with this `api` section.
fn config(api: impl Display) -> String {
    format!("maglev:\n  api: {api}\n")
}

impl ApiFixture {
    fn new(api: impl Display) -> Self {
        Self::in_dir(TestDir::new(), api)
    }

    /// Starts `maglevd` with the files that exist in `dir`.
    fn in_dir(dir: TestDir, api: impl Display) -> Self {
        let address = SocketAddr::new(servers::loopback_address(), 9090);
        let maglevd = MaglevdSetup::new(&dir, &config(api)).flag("--grpc-addr", address).start();
        Self { maglevd, address, dir }
    }

    /// Reloads with another `api` section and waits until it is in force.
    fn reload(&self, api: impl Display) {
        self.dir.write("maglev.yaml", config(api));
        let position = self.maglevd.process.line_count();
        self.maglevd.process.signal(Signal::SIGHUP);
        self.maglevd.process.line(position, "configuration in force");
    }

    /// Reloads with an invalid `api` section and returns the log line.
    fn reload_invalid(&self, api: impl Display) -> String {
        self.dir.write("maglev.yaml", config(api));
        let position = self.maglevd.process.line_count();
        self.maglevd.process.signal(Signal::SIGHUP);
        self.maglevd.process.line(position, "reload failed")
    }

    /// Runs `maglevc` over TCP.
    fn maglevc(&self, flags: &[&str], words: &str) -> Output {
        let mut command = Command::new(program("maglevc").unwrap());
        command.arg("--server").arg(self.address.to_string()).args(flags);
        command.args(words.split(' ')).output().unwrap()
    }
}

/// Certificates and keys for TLS.
struct TlsFiles {
    authority: Authority,
    dir: TestDir,
}

impl TlsFiles {
    /// Writes `server.pem`, `server.key` and the authority's `ca.pem` to a new directory.
    fn new() -> Self {
        let files = Self { authority: Authority::new(), dir: TestDir::new() };
        files.dir.write("ca.pem", files.authority.certificate());
        files.serve(&files.authority.valid(NAME));
        files
    }

    /// Writes the server's certificate and key.
    fn serve(&self, identity: &Identity) {
        self.dir.write("server.pem", &identity.certificate);
        // maglevd refuses a key that others may read, and is no longer root when it reloads.
        let key = self.dir.write("server.key", &identity.key);
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            let user = ServiceUser::controller().map(|user| user.uid.as_raw());
            chown(&key, user, None).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path(name)
    }

    /// Returns an `api` section with TLS, the authority as client CA, and these roles.
    fn api(&self, roles: &str) -> String {
        let [certificate, key, ca] =
            ["server.pem", "server.key", "ca.pem"].map(|name| self.path(name).display().to_string());
        let crl = self.path("crl.pem");
        let crl = if crl.exists() { format!(", client-crl: {}", crl.display()) } else { String::new() };
        format!(
            "{{ tls: {{ certificate: {certificate}, key: {key}, client-ca: {ca}{crl} }}, roles: [{roles}] }}"
        )
    }

    /// Connects a client that trusts the authority and presents `identity`.
    async fn connect(&self, address: SocketAddr, identity: Option<&Identity>) -> Result<Channel, Status> {
        connect(address, &self.authority, identity).await
    }
}

async fn connect(
    address: SocketAddr,
    trusted: &Authority,
    identity: Option<&Identity>,
) -> Result<Channel, Status> {
    let mut tls =
        ClientTlsConfig::new().domain_name(NAME).ca_certificate(Certificate::from_pem(trusted.certificate()));
    if let Some(identity) = identity {
        tls = tls.identity(tonic::transport::Identity::from_pem(&identity.certificate, &identity.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    endpoint.connect().await.map_err(|error| Status::unknown(format!("{error:?}")))
}

/// Calls `GetVersion` over `channel`.
async fn check_answers(channel: Channel) -> Result<(), Status> {
    MaglevClient::new(channel).get_version(GetVersionRequest {}).await.map(drop)
}

/// Returns the error text of a failed `maglevc`.
fn error_text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
