//! The connection to the daemon.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use maglev_proto::v1::maglev_client::MaglevClient;
use tonic::Status;
use tonic::codegen::http::uri::Authority;
use tonic::transport::{Channel, Endpoint};

/// Where the daemon's unix socket is, as it comes.
const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";

/// Where the daemon listens for TCP, as it comes.
const ADDRESS: &str = "127.0.0.1:9090";

/// The port of an address that has none.
const PORT: u16 = 9090;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is watched is asked this often whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A list of ten thousand backends is some megabytes.
const MAX_REPLY: usize = 256 << 20;

/// A daemon's address: `HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug)]
pub struct Server(String);

/// What is called.
pub type Client = MaglevClient<Channel>;

impl FromStr for Server {
    type Err = Infallible;

    fn from_str(server: &str) -> Result<Self, Infallible> {
        Ok(Self(server.into()))
    }
}

impl Default for Server {
    fn default() -> Self {
        if Path::new(SOCKET).exists() { Self(format!("unix:{SOCKET}")) } else { Self(ADDRESS.into()) }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Server {
    /// Whether it is more than a variable that was left empty.
    pub fn is_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// Connects.
    ///
    /// # Errors
    /// One line that names the server and the reason.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let endpoint =
            self.endpoint().ok_or_else(|| anyhow!("`{self}` is neither HOST:PORT nor unix:PATH"))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(CONNECT_TIMEOUT);
        let connected = endpoint.connect().await;
        let channel = connected.map_err(|e| anyhow!("cannot reach maglevd at {self}: {}", root(&e)))?;
        Ok(MaglevClient::new(channel).max_decoding_message_size(MAX_REPLY))
    }

    fn endpoint(&self) -> Option<Endpoint> {
        if self.0.starts_with("unix:") {
            return Endpoint::from_shared(self.0.clone()).ok();
        }
        let authority: Authority = self.0.parse().ok()?;
        let port = authority.port_u16().unwrap_or(PORT);
        Endpoint::from_shared(format!("http://{}:{port}", authority.host())).ok()
    }

    /// What to say of a call that failed: the server's own words, if it was the server that failed it.
    pub fn failed(&self, status: &Status) -> anyhow::Error {
        match status.source() {
            Some(cause) => anyhow!("lost maglevd at {self}: {}", root(cause)),
            None if status.message().is_empty() => anyhow!("{}", status.code().description()),
            None => anyhow!("{}", status.message().to_owned()),
        }
    }
}

/// The reason behind the reasons.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(server: &str) -> Option<String> {
        Some(Server(server.into()).endpoint()?.uri().to_string())
    }

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(address("lb1.example.org").as_deref(), Some("http://lb1.example.org:9090/"));
        assert_eq!(address("[::1]:9190").as_deref(), Some("http://[::1]:9190/"));
        assert!(address("unix:/run/maglevd.sock").is_some());
        for wrong in ["", "foo bar", "::1", "http://lb1:9090"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
