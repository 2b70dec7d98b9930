//! A web server that can be stopped, and can be sick.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const WELL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
const SICK: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsick\n";

/// A web server. It answers 200, or 503 while a certain file exists; it refuses connections while it is stopped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file that makes it sick.
    sick: PathBuf,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// A server that is not yet started.
    #[must_use]
    pub const fn new(address: SocketAddr, sick: PathBuf) -> Self {
        Self { address, sick, task: None }
    }

    /// Whether it accepts connections.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.task.is_some()
    }

    /// Accepts connections from now on.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.task = Some(tokio::spawn(serve(listener, self.sick.clone())));
        Ok(())
    }

    /// Stops it if it runs: connections are refused from now on. Else starts it.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn toggle(&mut self) -> io::Result<()> {
        let Some(task) = self.task.take() else { return self.start().await };
        task.abort();
        // Its end, which is an abort, is all that is waited for.
        let _ = task.await;
        Ok(())
    }
}

async fn serve(listener: TcpListener, sick: PathBuf) {
    while let Ok((stream, _)) = listener.accept().await {
        let sick = sick.clone();
        // A client that goes away is no concern of the others.
        tokio::spawn(async move { answer(stream, &sick).await });
    }
}

async fn answer(stream: TcpStream, sick: &Path) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    stream.write_all(if sick.exists() { SICK } else { WELL }).await?;
    stream.flush().await
}
