//! The connection to the daemon.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use maglev_proto::v1::maglev_client::MaglevClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

mod address;
mod tls;

use crate::failure::Failure;
use address::HostPort;
pub use tls::TlsOptions;

/// Default path of the daemon's unix socket.
const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";

/// Default TCP address of the daemon.
const ADDRESS: &str = "127.0.0.1:9090";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of HTTP/2 keep-alive pings while watching.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Longest wait for the answer that shows a TLS port.
const TLS_ANSWER: Duration = Duration::from_secs(1);

/// First bytes of HTTP/2 without TLS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// First byte of a TLS alert.
const TLS_ALERT: u8 = 21;

/// Bound on a reply: a list of ten thousand backends takes some megabytes.
const MAX_REPLY: usize = 256 << 20;

/// A daemon's address: `HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug)]
pub struct ServerAddress {
    address: String,
    tls: TlsOptions,
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
        let has_sockets = Path::new(SOCKET).parent().is_some_and(Path::exists);
        Self { address: default_address(has_sockets), tls: TlsOptions::default() }
    }
}

/// Returns the address of a `maglevd` on this host. Where the socket's directory exists, `maglevd` is installed: while it
/// is stopped, any user could listen on the TCP port in its place.
fn default_address(has_sockets: bool) -> String {
    if has_sockets { format!("unix:{SOCKET}") } else { ADDRESS.into() }
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
        let mut endpoint = self
            .endpoint()?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(CONNECT_TIMEOUT);
        if self.speaks_tls() {
            endpoint = self.tls.configure(endpoint)?;
        }
        let connected = endpoint.connect().await;
        let channel = connected
            .map_err(|e| anyhow!("cannot reach maglevd at {self}: {}{}", reason(&e), self.remedy(&e)))?;
        Ok(MaglevClient::new(channel).max_decoding_message_size(MAX_REPLY))
    }

    fn speaks_tls(&self) -> bool {
        !self.address.starts_with("unix:") && (self.address.starts_with("https://") || self.tls.is_given())
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let uri = if self.address.starts_with("unix:") {
            self.address.clone()
        } else {
            let HostPort { host, port } = address::parse(&self.address).map_err(anyhow::Error::msg)?;
            let scheme = if self.speaks_tls() { "https" } else { "http" };
            format!("{scheme}://{host}:{port}")
        };
        Endpoint::from_shared(uri).map_err(|error| anyhow!("`{self}`: {error}"))
    }

    /// Reports whether a server that we address without TLS requires it: then its answer is a TLS alert.
    async fn requires_tls(&self) -> bool {
        if self.speaks_tls() || self.address.starts_with("unix:") {
            return false;
        }
        let Ok(HostPort { host, port }) = address::parse(&self.address) else { return false };
        let answer = async {
            let mut stream = TcpStream::connect(format!("{host}:{port}")).await?;
            stream.write_all(PREFACE).await?;
            stream.read_u8().await
        };
        matches!(timeout(TLS_ANSWER, answer).await, Ok(Ok(TLS_ALERT)))
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
    pub async fn failure(&self, status: &Status) -> Failure {
        let text = match status.source() {
            Some(_) if self.requires_tls().await => {
                format!("maglevd at {self} requires TLS; write https://{self}")
            }
            Some(cause) => format!("lost maglevd at {self}: {}", reason(cause)),
            None if status.message().is_empty() => status.code().description().into(),
            None => status.message().into(),
        };
        Failure::new(status.code(), text)
    }
}

/// Returns the cause of an error in words.
fn reason(error: &(dyn Error + 'static)) -> String {
    tls::describe(error).unwrap_or_else(|| root(error))
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
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn tcp_is_the_default_without_an_installation() {
        assert_eq!(default_address(true), format!("unix:{SOCKET}"));
        assert_eq!(default_address(false), ADDRESS);
    }

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

    #[tokio::test]
    async fn tls_port_is_recognised_without_tls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server: ServerAddress = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // It answers the preface with an alert, as TLS servers do.
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await.unwrap();
                stream.write_all(&[TLS_ALERT, 3, 3, 0, 2, 2, 50]).await.unwrap();
            }
        });
        let request = maglev_proto::v1::GetVersionRequest {};
        let lost = server.connect().await.unwrap().get_version(request).await.unwrap_err();
        let said = server.failure(&lost).await.to_string();
        assert_eq!(said, format!("maglevd at {server} requires TLS; write https://{server}"));
    }

    #[test]
    fn endpoint_has_scheme_and_port() {
        let uri = |server: &str| {
            server.parse::<ServerAddress>().unwrap().endpoint().ok().map(|one| one.uri().to_string())
        };
        assert_eq!(uri("[::1]").as_deref(), Some("http://[::1]:9090/"));
        assert_eq!(uri("https://lb1:1").as_deref(), Some("https://lb1:1/"));
        assert!(uri("unix:/run/maglevd.sock").is_some());
        assert_eq!(uri("lb1:99999"), None);
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
