//! Listening sockets passed by systemd (`LISTEN_FDS`), by their names.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use socket2::Socket;
use std::os::fd::AsRawFd;

use super::{ListenError, Listener};

/// Sockets passed by systemd, by purpose.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    /// `FileDescriptorName=grpc`.
    pub grpc: Vec<Listener>,
    /// `FileDescriptorName=metrics`.
    pub metrics: Vec<Listener>,
}

impl InheritedSockets {
    /// Takes the passed sockets; there are none without systemd.
    ///
    /// # Errors
    /// A socket has an unknown name, or is not a listening TCP or unix stream socket.
    pub fn take() -> Result<Self, ListenError> {
        let refuse = |address: &str, reason: String| ListenError::new(&address, &io::Error::other(reason));
        let passed = sd_listen_fds::get().map_err(|error| refuse("LISTEN_FDS", error.to_string()))?;
        let mut inherited = Self::default();
        for (name, socket) in passed {
            let name = name.unwrap_or_default();
            let list = match name.as_str() {
                "grpc" => &mut inherited.grpc,
                "metrics" => &mut inherited.metrics,
                _ => {
                    let reason = "FileDescriptorName= must be `grpc` or `metrics`".into();
                    return Err(refuse(&format!("the socket `{name}` of systemd"), reason));
                }
            };
            let listener = listener(socket.into_std());
            list.push(listener.map_err(|error| {
                ListenError::new(&format_args!("the socket `{name}` of systemd"), &error)
            })?);
        }
        Ok(inherited)
    }
}

/// Converts a passed socket. Uses only system calls on the socket itself: the unit may have no network.
fn listener(socket: OwnedFd) -> io::Result<Listener> {
    let is_listening = getsockopt(&socket, sockopt::AcceptConn)?;
    if !is_listening || getsockopt(&socket, sockopt::SockType)? != SockType::Stream {
        return Err(io::Error::other("not a ListenStream= socket"));
    }
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let family = address.family();
    let socket = Socket::from(socket);
    // A spawned prober must not inherit it.
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    match family {
        Some(AddressFamily::Inet | AddressFamily::Inet6) => Ok(Listener::Tcp(socket.into())),
        Some(AddressFamily::Unix) => Ok(Listener::Unix(socket.into())),
        _ => Err(Errno::EAFNOSUPPORT.into()),
    }
}
