//! A server with arbitrary behaviour per connection, until [`HostileServer::behave`] is called.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

/// Behaviour towards one connection.
pub type ServerBehaviour = fn(&mut TcpStream) -> io::Result<()>;

/// A running server. Ended on drop; its connections end with their clients.
pub struct HostileServer {
    listener: Arc<TcpListener>,
    behaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HostileServer {
    /// Starts to serve `address`.
    ///
    /// # Panics
    /// If the address is in use.
    #[must_use]
    pub fn start(address: SocketAddr, behaviour: ServerBehaviour) -> Self {
        let listener = Arc::new(TcpListener::bind(address).unwrap());
        let behaves = Arc::new(AtomicBool::new(false));
        let (acceptor, is_behaving) = (Arc::clone(&listener), Arc::clone(&behaves));
        let serve = move || {
            while let Ok((mut stream, _)) = acceptor.accept() {
                let behaviour = if is_behaving.load(Ordering::Relaxed) { behave } else { behaviour };
                // The thread ends when the client disconnects.
                thread::spawn(move || behaviour(&mut stream));
            }
        };
        Self { listener, behaves, thread: Some(thread::spawn(serve)) }
    }

    /// Answers every request of new connections with 200 from now on.
    pub fn behave(&self) {
        self.behaves.store(true, Ordering::Relaxed);
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        // Wakes the accepting thread in any network namespace.
        _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Writes `beginning`, then a byte every 100 ms.
///
/// # Errors
/// When the client disconnects.
pub fn drip(stream: &mut TcpStream, beginning: &[u8]) -> io::Result<()> {
    stream.write_all(beginning)?;
    loop {
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"x")?;
    }
}

/// Writes `beginning`, then `more` without end.
///
/// # Errors
/// When the client disconnects.
pub fn pour(stream: &mut TcpStream, beginning: &[u8], more: &[u8]) -> io::Result<()> {
    stream.write_all(beginning)?;
    let more = more.repeat(64);
    loop {
        stream.write_all(&more)?;
    }
}

/// Answers every request with 200.
///
/// # Errors
/// If the client disconnects.
pub fn behave(stream: &mut TcpStream) -> io::Result<()> {
    while read_request(stream)? {
        stream.write_all(OK_RESPONSE)?;
    }
    Ok(())
}

/// A valid response that keeps the connection open.
pub const OK_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";

/// Reads a request head. Returns false at the end of the stream.
///
/// # Errors
/// If the client resets the connection.
pub fn read_request(stream: &mut TcpStream) -> io::Result<bool> {
    let mut lines = BufReader::with_capacity(1, stream).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads until the client closes the connection.
///
/// # Errors
/// If the client resets the connection.
pub fn read_until_closed(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(&mut stream.take(u64::MAX), &mut io::sink()).map(|_| ())
}
