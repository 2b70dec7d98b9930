//! Enters the sandbox of one of the two processes, and then makes one attempt, as an attacker with code execution would.
//!
//!     confined prober|controller call NUMBER ARGUMENT...    makes a system call
//!     confined prober|controller WHAT ARGUMENT              makes a compound attempt
//!
//! The exit code is the error number, 0 for success; a signal may kill it. `STATE` names the controller's state directory.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{ExitCode, abort};
use std::{env, thread};

use maglev_sandbox::{controller, prober};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, User};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [who, what, arguments @ ..] = &words[..] else { return ExitCode::from(u8::MAX) };
    match confine(who).and_then(|()| attempt(what, arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.raw_os_error().and_then(|errno| u8::try_from(errno).ok()).unwrap_or(u8::MAX).into()
        }
    }
}

fn confine(who: &str) -> io::Result<()> {
    // Killed processes must not dump core.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let state = env::var_os("STATE").map(PathBuf::from);
    let report = match who {
        "prober" => prober::enter(),
        _ => controller::enter(state.as_deref()),
    };
    println!("{}", report.map_err(io::Error::other)?);
    Ok(())
}

fn attempt(what: &str, arguments: &[&str]) -> io::Result<()> {
    let argument = arguments.first().copied().unwrap_or_default();
    let port = || argument.parse().map_err(io::Error::other);
    match what {
        "call" => call(arguments),
        "read" => fs::read(argument).map(drop),
        "list" => fs::read_dir(argument).map(drop),
        "overwrite" => File::options().write(true).open(argument).map(drop),
        "replace" => replace(argument),
        "bind" => tcp()?.bind(&loopback(port()?)),
        "connect" => {
            let socket = tcp()?;
            socket.bind(&loopback(0))?;
            socket.connect(&loopback(port()?))
        }
        "abstract" => {
            let address = SocketAddr::from_abstract_name(argument)?;
            UnixDatagram::unbound()?.connect_addr(&address)
        }
        "notify" => UnixDatagram::unbound()?.send_to(b"READY=1", argument).map(drop),
        "thread" => thread::spawn(|| ()).join().map_err(|_| io::ErrorKind::Other.into()),
        "user" => Ok(User::from_uid(Uid::from_raw(3_999_999_999)).map(drop)?),
        "panic" => bug(argument),
        "abort" => abort(),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[expect(clippy::panic, reason = "what comes of a panic is the question")]
fn bug(why: &str) -> io::Result<()> {
    panic!("{why}")
}

fn tcp() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
}

fn loopback(port: u16) -> SockAddr {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()
}

/// Updates a file as programs do: writes a new one and renames it.
fn replace(path: &str) -> io::Result<()> {
    let new = format!("{path}.new");
    fs::write(&new, "new")?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)
}

#[expect(unsafe_code, reason = "there is no safe way to make a call that nobody has a use for")]
fn call(words: &[&str]) -> io::Result<()> {
    let words: Vec<i64> = words.iter().map(|word| word.parse().unwrap_or(-1)).collect();
    let word = |index: usize| words.get(index).copied().unwrap_or(-1);
    // SAFETY: the arguments are numbers, and -1 where none is given; no memory of ours is at any of them.
    let result = unsafe { libc::syscall(word(0), word(1), word(2), word(3), word(4), word(5), word(6)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
