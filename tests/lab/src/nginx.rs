//! nginx on a host, with valid and invalid pages and certificates.

use std::fmt::Write as _;

use nix::sys::signal::{Signal, kill, killpg};

use super::certificates::{Authority, self_signed};
use super::host::Host;
use super::process::Process;
use super::test_dir::TestDir;

/// Answers `/` and `/healthz` with 200, `/503` and `/301` with these codes, `/body` with a sentence, and `/resumed` with `r` on
/// a resumed TLS session.
pub const HTTP: u16 = 80;
/// TLS port with a valid certificate for [`NAME`].
pub const GOOD: u16 = 443;
/// TLS port with an expired certificate.
pub const EXPIRED: u16 = 444;
/// TLS port with a valid certificate for another name.
pub const OTHER_NAME: u16 = 445;
/// TLS port with a self-signed certificate.
pub const SELF_SIGNED: u16 = 446;
/// Name of the server.
pub const NAME: &str = "www.example.org";

/// A running nginx. Ended on drop.
pub struct Nginx {
    process: Process,
    /// Root certificate of its valid certificates, in PEM.
    pub roots: String,
}

impl Nginx {
    /// Starts nginx on `host`, with its files in `dir`.
    #[must_use]
    pub fn start(host: &Host, dir: &TestDir) -> Self {
        let authority = Authority::new();
        let mut sites = listen(HTTP, "");
        for (port, identity) in [
            (GOOD, authority.valid(NAME)),
            (EXPIRED, authority.expired(NAME)),
            (OTHER_NAME, authority.valid("other.example.org")),
            (SELF_SIGNED, self_signed(NAME)),
        ] {
            let certificate = dir.write(&format!("{port}.crt"), identity.certificate);
            let key = dir.write(&format!("{port}.key"), identity.key);
            let tls =
                format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display());
            sites += &listen(port, &tls);
        }
        let config = dir.write("nginx.conf", main(&dir.path("nginx.pid").display().to_string(), &sites));
        let mut command = host.command("nginx");
        command.args(["-e", "stderr", "-c"]).arg(config);
        // Its own process group, so that signals reach its workers too.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let nginx = Self { process: Process::spawn("nginx", &mut command), roots: authority.certificate() };
        // nginx opens its ports in order and reports no readiness.
        host.wait_until_open(SELF_SIGNED);
        nginx
    }

    /// Stops all its processes. The kernel still accepts connections, but no process answers.
    ///
    /// # Panics
    /// If that fails.
    pub fn hang(&self) {
        killpg(self.process.pid(), Signal::SIGSTOP).unwrap();
    }

    /// Reloads nginx: new workers start, and the old ones close their connections.
    ///
    /// # Panics
    /// If that fails.
    pub fn reload(&self) {
        kill(self.process.pid(), Signal::SIGHUP).unwrap();
    }

    /// Resumes after [`Self::hang`].
    ///
    /// # Panics
    /// If that fails.
    pub fn resume(&self) {
        killpg(self.process.pid(), Signal::SIGCONT).unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers would outlive the master.
        _ = killpg(self.process.pid(), Signal::SIGKILL);
    }
}

fn main(pid: &str, sites: &str) -> String {
    format!(
        "daemon off; worker_processes 1; error_log stderr; pid {pid};
events {{ worker_connections 512; }}
http {{ access_log off; default_type text/plain;
{sites}}}
"
    )
}

fn listen(port: u16, tls: &str) -> String {
    let ssl = if tls.is_empty() { "" } else { " ssl" };
    let mut site = format!("server {{ listen {port}{ssl}; listen [::]:{port}{ssl}; {tls}\n");
    for (path, answer) in [
        ("/", "200 well"),
        ("/503", "503"),
        ("/301", "301 http://127.0.0.1/"),
        ("/body", "200 'all is well here'"),
        ("/resumed", "200 $ssl_session_reused"),
    ] {
        // Writing to a string cannot fail.
        _ = writeln!(site, "location = {path} {{ return {answer}; }}");
    }
    site + "}\n"
}
