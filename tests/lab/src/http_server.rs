//! A small HTTP server that keeps a record of its visitors.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::shared_value::Shared;

/// Who does not send a request in this time does not get an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server. It ends when dropped.
pub struct Site {
    address: SocketAddr,
    seen: Arc<Shared<Seen>>,
    running: Option<(Arc<TcpListener>, JoinHandle<()>)>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Visit {
    /// When.
    pub at: Instant,
    /// From where.
    pub from: SocketAddr,
    /// To which of its addresses.
    pub to: SocketAddr,
    /// The first line.
    pub request: String,
}

#[derive(Debug)]
struct Seen {
    visits: Vec<Visit>,
    answer: Vec<u8>,
}

impl Site {
    /// Starts to serve `address`, and answers with 200.
    ///
    /// # Panics
    /// Somebody else does.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let seen = Seen { visits: Vec::new(), answer: status(200) };
        let mut site = Self { address, seen: Arc::new(Shared::new(seen)), running: None };
        site.open();
        site
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with `code` from now on.
    pub fn answer(&self, code: u16) {
        self.answer_with(&status(code));
    }

    /// Answers with these bytes from now on.
    pub fn answer_with(&self, bytes: &[u8]) {
        self.seen.change(|seen| seen.answer = bytes.to_vec());
    }

    /// Refuses connections from now on.
    pub fn close(&mut self) {
        if let Some((listener, thread)) = self.running.take() {
            // Ends the thread's wait, in whichever network it is.
            _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
            _ = thread.join();
        }
    }

    /// Takes connections again.
    ///
    /// # Panics
    /// Somebody else has taken the port meanwhile.
    pub fn open(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap_or_else(|e| panic!("{}: {e}", self.address));
        self.address = listener.local_addr().unwrap();
        let (listener, seen) = (Arc::new(listener), Arc::clone(&self.seen));
        let for_thread = Arc::clone(&listener);
        self.running = Some((listener, thread::spawn(move || serve(&for_thread, &seen))));
    }

    /// The visits so far.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.seen.look(|seen| seen.visits.clone())
    }

    /// Waits until there have been `count` visits.
    ///
    /// # Panics
    /// They do not come.
    pub fn wait_for_visits(&self, count: usize) -> Vec<Visit> {
        let visits = self.seen.wait_for(|seen| (seen.visits.len() >= count).then(|| seen.visits.clone()));
        visits.unwrap_or_else(|| panic!("{} had {} visits, not {count}", self.address, self.visits().len()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.close();
    }
}

fn status(code: u16) -> Vec<u8> {
    format!("HTTP/1.1 {code} Because\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn serve(listener: &TcpListener, seen: &Shared<Seen>) {
    while let Ok((stream, _)) = listener.accept() {
        // A visitor who is gone already has asked for nothing.
        _ = receive(&stream, seen);
    }
}

fn receive(mut stream: &TcpStream, seen: &Shared<Seen>) -> std::io::Result<()> {
    let (at, from, to) = (Instant::now(), stream.peer_addr()?, stream.local_addr()?);
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let lines: Vec<String> =
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(request) = lines.into_iter().next() else { return Ok(()) };
    let answer = seen.change(|seen| {
        seen.visits.push(Visit { at, from, to, request });
        seen.answer.clone()
    });
    stream.write_all(&answer)
}
