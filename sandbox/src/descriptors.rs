//! Descriptors that a daemon inherits.

use std::io;
use std::process;

/// First descriptor after the standard ones.
const FIRST: u32 = 3;

/// Maximum number of sockets from systemd that are kept.
const MAX_SOCKETS: u32 = 1024;

/// Closes all inherited descriptors except the standard ones and the sockets of systemd. A shell or a supervisor may leave
/// files open, and the sandbox does not take away what is open. Must be called before the process opens anything.
///
/// # Errors
/// The kernel refuses it. A kernel before Linux 5.9 has no such call, and keeps them open.
pub fn close_inherited() -> io::Result<()> {
    let variable = |name| std::env::var(name).ok();
    let sockets = passed_sockets(variable("LISTEN_PID"), variable("LISTEN_FDS"), process::id());
    match uapi::close_range(FIRST + sockets, u32::MAX, 0) {
        Err(uapi::Errno(libc::ENOSYS)) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the number of sockets that systemd has passed to the process `us`.
fn passed_sockets(pid: Option<String>, sockets: Option<String>, us: u32) -> u32 {
    let is_ours = pid.and_then(|pid| pid.parse().ok()) == Some(us);
    sockets.filter(|_| is_ours).and_then(|sockets| sockets.parse().ok()).unwrap_or(0).min(MAX_SOCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_another_process_are_closed() {
        let passed = |pid: &str, sockets: &str| passed_sockets(Some(pid.into()), Some(sockets.into()), 7);
        assert_eq!((passed("7", "2"), passed("8", "2"), passed("7", "x"), passed("", "")), (2, 0, 0, 0));
        assert_eq!((passed("7", "4000000000"), passed_sockets(None, Some("2".into()), 7)), (MAX_SOCKETS, 0));
    }
}
