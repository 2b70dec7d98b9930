//! HTTP/2 client of raw frames that calls the API, and takes nothing of the answers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// Connection preface, and SETTINGS with SETTINGS_INITIAL_WINDOW_SIZE 0 (RFC 9113 §6.5.2).
const OPENING: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Connection whose window for answers is empty.
#[derive(Debug)]
pub struct HostileClient {
    stream: TcpStream,
    next_stream: u32,
}

impl HostileClient {
    /// Connects to a plain-text listener.
    ///
    /// # Errors
    /// Those of the system.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(OPENING)?;
        Ok(Self { stream, next_stream: 1 })
    }

    /// Sends a unary call of `method` of the API with an encoded message, shorter than 256 bytes.
    ///
    /// # Errors
    /// The server has closed the connection.
    ///
    /// # Panics
    /// If the message is longer.
    pub fn call(&mut self, method: &str, message: &[u8]) -> io::Result<()> {
        let number = self.next_stream;
        self.next_stream += 2;
        let length = u8::try_from(message.len()).unwrap();
        let mut frames = frame(HEADERS, END_HEADERS, number, &header_block(method));
        frames.extend(frame(DATA, END_STREAM, number, &[&[0, 0, 0, 0, length], message].concat()));
        self.stream.write_all(&frames)
    }

    /// Acknowledges the server's settings and pings until it closes the connection.
    ///
    /// # Panics
    /// If it stays open.
    pub fn wait_until_closed(mut self) {
        loop {
            match self.answer_frame() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection stays open"),
                Err(_) => return,
            }
        }
    }

    /// Acknowledges the server's settings and pings until it closes the connection, or `is_over`.
    ///
    /// # Panics
    /// If the system refuses a timeout.
    pub fn answer_until(mut self, is_over: impl Fn() -> bool) {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        loop {
            match self.answer_frame() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !is_over() => {}
                Err(_) => return,
            }
        }
    }

    fn answer_frame(&mut self) -> io::Result<()> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        match (head[3], head[4] & ACK) {
            (SETTINGS, 0) => self.stream.write_all(&frame(SETTINGS, ACK, 0, &[])),
            (PING, 0) => self.stream.write_all(&frame(PING, ACK, 0, &payload)),
            _ => Ok(()),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes the headers of a call, as literals without Huffman coding (RFC 7541 §6.2.2).
fn header_block(method: &str) -> Vec<u8> {
    /// `:method: POST` and `:scheme: http`, from the static table.
    const POST_HTTP: &[u8] = &[0x83, 0x86];
    let literal = |name: &[u8], value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [name, &[length], value.as_bytes()].concat()
    };
    let path = literal(&[0x04], &format!("/maglev.v1.Maglev/{method}"));
    let authority = literal(&[0x01], "localhost");
    let content_type = literal(&[0x0f, 0x10], "application/grpc");
    let trailers = literal(b"\x00\x02te", "trailers");
    [POST_HTTP, &path, &authority, &content_type, &trailers].concat()
}
