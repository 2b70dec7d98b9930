//! A small HTTP server that records its requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::shared_value::SharedValue;

/// Timeout of a request. Slower clients get no answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server. Ended on drop.
pub struct HttpServer {
    address: SocketAddr,
    state: Arc<SharedValue<HttpState>>,
    running: Option<(Arc<TcpListener>, JoinHandle<()>)>,
}

/// A recorded request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Time of the connection.
    pub at: Instant,
    /// Client address.
    pub from: SocketAddr,
    /// Local address.
    pub to: SocketAddr,
    /// Request line.
    pub request: String,
}

#[derive(Debug)]
struct HttpState {
    requests: Vec<RecordedRequest>,
    answer: Vec<u8>,
}

impl HttpServer {
    /// Starts to serve `address` with answer 200.
    ///
    /// # Panics
    /// If the address is in use.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let state = HttpState { requests: Vec::new(), answer: status(200) };
        let mut site = Self { address, state: Arc::new(SharedValue::new(state)), running: None };
        site.open();
        site
    }

    /// Returns the listening address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with status `code` from now on.
    pub fn answer(&self, code: u16) {
        self.answer_with(&status(code));
    }

    /// Answers with these bytes from now on.
    pub fn answer_with(&self, bytes: &[u8]) {
        self.state.update(|state| state.answer = bytes.to_vec());
    }

    /// Refuses connections from now on.
    pub fn close(&mut self) {
        if let Some((listener, thread)) = self.running.take() {
            // Wakes the accepting thread in any network namespace.
            _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
            _ = thread.join();
        }
    }

    /// Accepts connections again.
    ///
    /// # Panics
    /// If the port was taken meanwhile.
    pub fn open(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap_or_else(|e| panic!("{}: {e}", self.address));
        self.address = listener.local_addr().unwrap();
        let (listener, state) = (Arc::new(listener), Arc::clone(&self.state));
        let for_thread = Arc::clone(&listener);
        self.running = Some((listener, thread::spawn(move || serve(&for_thread, &state))));
    }

    /// Returns the requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.read(|state| state.requests.clone())
    }

    /// Waits for `count` requests in total.
    ///
    /// # Panics
    /// If they do not arrive.
    pub fn wait_for_requests(&self, count: usize) -> Vec<RecordedRequest> {
        let requests =
            self.state.wait_for(|state| (state.requests.len() >= count).then(|| state.requests.clone()));
        requests
            .unwrap_or_else(|| panic!("{} had {} requests, not {count}", self.address, self.requests().len()))
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.close();
    }
}

fn status(code: u16) -> Vec<u8> {
    format!("HTTP/1.1 {code} Because\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn serve(listener: &TcpListener, state: &SharedValue<HttpState>) {
    while let Ok((stream, _)) = listener.accept() {
        // The client may have disconnected already.
        _ = receive(&stream, state);
    }
}

fn receive(mut stream: &TcpStream, state: &SharedValue<HttpState>) -> std::io::Result<()> {
    let (at, from, to) = (Instant::now(), stream.peer_addr()?, stream.local_addr()?);
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let lines: Vec<String> =
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(request) = lines.into_iter().next() else { return Ok(()) };
    let answer = state.update(|state| {
        state.requests.push(RecordedRequest { at, from, to, request });
        state.answer.clone()
    });
    stream.write_all(&answer)
}
