//! A web server that can be stopped or made to fail.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const OK_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
const FAILING_RESPONSE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nsick\n";

/// A web server. It answers 200, or 503 while a certain file exists, and refuses connections while stopped.
pub struct DemoServer {
    /// Listening address.
    pub address: SocketAddr,
    /// File that makes it answer 503.
    failing: PathBuf,
    task: Option<JoinHandle<()>>,
}

impl DemoServer {
    /// Creates a stopped server.
    #[must_use]
    pub const fn new(address: SocketAddr, failing: PathBuf) -> Self {
        Self { address, failing, task: None }
    }

    /// True if it accepts connections.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.task.is_some()
    }

    /// Starts to accept connections.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn start(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.task = Some(tokio::spawn(serve(listener, self.failing.clone())));
        Ok(())
    }

    /// Stops a running server, or starts a stopped one.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn toggle(&mut self) -> io::Result<()> {
        let Some(task) = self.task.take() else { return self.start().await };
        task.abort();
        // An aborted task returns an error, which is expected.
        let _ = task.await;
        Ok(())
    }
}

async fn serve(listener: TcpListener, failing: PathBuf) {
    while let Ok((stream, _)) = listener.accept().await {
        let failing = failing.clone();
        // Each client has its own task, so that a lost one does not affect others.
        tokio::spawn(async move { answer(stream, &failing).await });
    }
}

async fn answer(stream: TcpStream, failing: &Path) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    stream.write_all(if failing.exists() { FAILING_RESPONSE } else { OK_RESPONSE }).await?;
    stream.flush().await
}
