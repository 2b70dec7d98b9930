//! The connection to the daemon.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use maglev_proto::v1::maglev_client::MaglevClient;
use tonic::Status;
use tonic::codegen::http::uri::Authority;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Default path of the daemon's unix socket.
const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";

/// Default TCP address of the daemon.
const ADDRESS: &str = "127.0.0.1:9090";

/// Default port of an address.
const PORT: u16 = 9090;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of HTTP/2 keep-alive pings while watching.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Bound on a reply: a list of ten thousand backends takes some megabytes.
const MAX_REPLY: usize = 256 << 20;

/// A daemon's address: `HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug)]
pub struct ServerAddress {
    address: String,
    tls: TlsOptions,
}

/// TLS options: files in PEM. Any of them enables TLS, as `https://` does.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsOptions {
    /// Use TLS, and trust servers with a certificate of these authorities [default with https://: the system's]
    #[arg(long = "tls-ca", env = "MAGLEV_TLS_CA", value_name = "FILE", value_parser = path_or_none())]
    ca: Option<PathBuf>,

    /// Use TLS, and present this certificate
    #[arg(long = "tls-cert", env = "MAGLEV_TLS_CERT", value_name = "FILE", value_parser = path_or_none())]
    certificate: Option<PathBuf>,

    /// The certificate's private key
    #[arg(long = "tls-key", env = "MAGLEV_TLS_KEY", value_name = "FILE", value_parser = path_or_none())]
    key: Option<PathBuf>,
}

/// Returns a parser of paths that accepts an empty one, unlike clap's own.
fn path_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The gRPC client.
pub type Client = MaglevClient<Channel>;

impl FromStr for ServerAddress {
    type Err = Infallible;

    fn from_str(server: &str) -> Result<Self, Infallible> {
        Ok(Self { address: server.into(), tls: TlsOptions::default() })
    }
}

impl Default for ServerAddress {
    fn default() -> Self {
        let unix = Path::new(SOCKET).exists();
        let address = if unix { format!("unix:{SOCKET}") } else { ADDRESS.into() };
        Self { address, tls: TlsOptions::default() }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl ServerAddress {
    /// Reports whether the option is set and not empty.
    pub fn is_given(&self) -> bool {
        !self.address.is_empty()
    }

    /// Returns the same server, with TLS if `tls` requires it.
    #[must_use]
    pub fn with(self, tls: TlsOptions) -> Self {
        Self { tls, ..self }
    }

    /// Connects.
    ///
    /// # Errors
    /// Returns one line with the server and the reason.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let endpoint = self
            .endpoint()
            .ok_or_else(|| anyhow!("`{self}` is none of HOST:PORT, https://HOST:PORT and unix:PATH"))?;
        let mut endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(CONNECT_TIMEOUT);
        if self.speaks_tls() {
            endpoint = endpoint.tls_config(self.tls.config()?)?;
        }
        let connected = endpoint.connect().await;
        let channel = connected
            .map_err(|e| anyhow!("cannot reach maglevd at {self}: {}{}", root(&e), self.remedy(&e)))?;
        Ok(MaglevClient::new(channel).max_decoding_message_size(MAX_REPLY))
    }

    fn speaks_tls(&self) -> bool {
        !self.address.starts_with("unix:") && (self.address.starts_with("https://") || self.tls.is_given())
    }

    fn endpoint(&self) -> Option<Endpoint> {
        if self.address.starts_with("unix:") {
            return Endpoint::from_shared(self.address.clone()).ok();
        }
        let authority: Authority = self.address.trim_start_matches("https://").parse().ok()?;
        let port = authority.port_u16().unwrap_or(PORT);
        let scheme = if self.speaks_tls() { "https" } else { "http" };
        Endpoint::from_shared(format!("{scheme}://{}:{port}", authority.host())).ok()
    }

    /// Returns advice for errors with one likely cause.
    fn remedy(&self, error: &(dyn Error + 'static)) -> &'static str {
        match kind(error) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => "; does it run?",
            Some(io::ErrorKind::PermissionDenied) if self.address.starts_with("unix:") => {
                "; are you in the group that the socket belongs to?"
            }
            _ => "",
        }
    }

    /// Formats a failed call: the server's own message, or a connection error.
    pub fn failed(&self, status: &Status) -> anyhow::Error {
        match status.source() {
            Some(cause) => anyhow!("lost maglevd at {self}: {}", root(cause)),
            None if status.message().is_empty() => anyhow!("{}", status.code().description()),
            None => anyhow!("{}", status.message().to_owned()),
        }
    }
}

impl TlsOptions {
    /// Reports whether the option is set and not empty.
    fn is_given(&self) -> bool {
        [&self.ca, &self.certificate, &self.key].into_iter().any(|path| given(path).is_some())
    }

    fn config(&self) -> anyhow::Result<ClientTlsConfig> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        let mut config = match given(&self.ca) {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match (given(&self.certificate), given(&self.key)) {
            (Some(certificate), Some(key)) => {
                config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            (None, None) => {}
            _ => bail!("--tls-cert and --tls-key want each other"),
        }
        Ok(config)
    }
}

fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// Returns the innermost error's text.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Returns the operating system's error kind, if an I/O error is the cause.
fn kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    match error.downcast_ref::<io::Error>() {
        Some(fault) => Some(fault.kind()),
        None => kind(error.source()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_error_names_likely_cause() {
        let remedy = |address: &str, kind: io::ErrorKind| {
            address.parse::<ServerAddress>().unwrap().remedy(&io::Error::from(kind))
        };
        for address in ["unix:/run/maglevd.sock", "lb1:9090"] {
            assert_eq!(remedy(address, io::ErrorKind::ConnectionRefused), "; does it run?");
            assert_eq!(remedy(address, io::ErrorKind::TimedOut), "");
        }
        let denied = io::ErrorKind::PermissionDenied;
        assert!(remedy("unix:/run/maglevd.sock", denied).contains("group"));
        assert_eq!(remedy("lb1:9090", denied), "");
    }

    fn address(server: &str) -> Option<String> {
        Some(server.parse::<ServerAddress>().unwrap().endpoint()?.uri().to_string())
    }

    #[test]
    fn address_parses_host_and_port() {
        assert_eq!(address("lb1.example.org").as_deref(), Some("http://lb1.example.org:9090/"));
        assert_eq!(address("[::1]:9190").as_deref(), Some("http://[::1]:9190/"));
        assert_eq!(address("https://lb1.example.org").as_deref(), Some("https://lb1.example.org:9090/"));
        assert!(address("unix:/run/maglevd.sock").is_some());
        for wrong in ["", "foo bar", "::1", "http://lb1:9090", "https://"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn any_tls_file_enables_tls() {
        let tls = TlsOptions { ca: Some("ca.pem".into()), ..TlsOptions::default() };
        let speaks = |address: &str, tls: &TlsOptions| {
            address.parse::<ServerAddress>().unwrap().with(tls.clone()).speaks_tls()
        };
        assert!(speaks("lb1:9090", &tls) && speaks("https://lb1:9090", &TlsOptions::default()));
        assert!(!speaks("unix:/run/maglevd.sock", &tls) && !speaks("lb1:9090", &TlsOptions::default()));
        let empty = TlsOptions { ca: Some(PathBuf::new()), ..TlsOptions::default() };
        assert!(!speaks("lb1:9090", &empty));
    }
}
