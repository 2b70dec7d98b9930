//! The connection to the daemon.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use maglev_proto::v1::maglev_client::MaglevClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// Where the daemon's unix socket is, as it comes.
const SOCKET: &str = "/run/vpp-maglev/maglevd.sock";

/// Where the daemon listens for TCP, as it comes.
const ADDRESS: &str = "127.0.0.1:9090";

/// The port of an address that has none.
const PORT: u16 = 9090;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Connects.
    ///
    /// # Errors
    /// One line that names the server and the reason.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let endpoint = self.endpoint().with_context(|| format!("`{self}` is no address of a server"))?;
        let connected = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
        let channel = connected.map_err(|e| anyhow!("cannot reach maglevd at {self}: {}", root(&e)))?;
        Ok(MaglevClient::new(channel).max_decoding_message_size(MAX_REPLY))
    }

    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        if self.0.starts_with("unix:") {
            return Ok(Endpoint::from_shared(self.0.clone())?);
        }
        let uri: Uri = format!("http://{self}").parse()?;
        match uri.port_u16() {
            Some(_) => Ok(Endpoint::from(uri)),
            None => Ok(Endpoint::from_shared(format!("http://{self}:{PORT}"))?),
        }
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
