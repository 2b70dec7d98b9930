//! Commands that take their time, and a daemon that goes away.

use std::os::unix::net::UnixListener;

use maglev_proto::v1::DroppedEvent;
use maglev_proto::v1::watch_events_response::Event;
use rustix::process::Signal;
use rustix::termios::LocalModes;

use crate::fake::FakeDaemon;
use crate::terminal::Terminal;

const CTRL_C: &str = "\x03";

#[test]
fn key_ends_watch() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
    terminal.until_last("maglev>");
    // An arrow is several characters, none of which are left over.
    for key in ["x", " ", CTRL_C, "\x1b[A"] {
        terminal.press("watch events\r");
        terminal.until_line("until any key is pressed:");
        terminal.until_line("frontend web is up, pool fallback");
        fake.tell(Event::Dropped(DroppedEvent { count: 7 }));
        terminal.until_last("2026-11-22T12:01:00.000Z dropped 7 events: read too slowly");
        terminal.press(key);
        terminal.until_last("maglev>");
        terminal.press("\x0c");
        terminal.until("an empty screen", |lines| lines == ["maglev>"]);
    }
    terminal.press("quit\r");
    assert!(terminal.ended().success());
}

#[test]
fn key_ends_one_shot_watch() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    for key in ["x", CTRL_C] {
        let mut terminal = Terminal::start(home.path(), &["--server", &fake.address(), "watch", "events"]);
        terminal.until_line("frontend web is up, pool fallback");
        terminal.press(key);
        assert!(terminal.ended().success(), "{key:?}");
    }
}

#[test]
fn sigterm_restores_the_terminal() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let address = fake.address();
    let once = ["--server", &address, "watch", "events"];
    for (arguments, typed) in [(&once[..], ""), (&once[..2], "watch events\r"), (&once[..2], "")] {
        for signal in [Signal::TERM, Signal::HUP] {
            let mut terminal = Terminal::start(home.path(), arguments);
            if arguments.len() == 2 {
                terminal.until_last("maglev>");
            }
            terminal.press(typed);
            if arguments.len() > 2 || !typed.is_empty() {
                terminal.until_line("frontend web is up, pool fallback");
            }
            assert!(!terminal.modes().contains(LocalModes::ECHO), "{typed} waits for a key");
            terminal.signal(signal);
            let (status, modes) = terminal.left();
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{arguments:?} {typed}");
            let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            assert!(modes.contains(cooked), "{modes:?} after {arguments:?} {typed}");
        }
    }
}

#[test]
fn external_sigint_ends_watch() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = Terminal::start(home.path(), &["--server", &fake.address(), "watch", "events"]);
    terminal.until_line("frontend web is up, pool fallback");
    terminal.signal(Signal::INT);
    let (status, modes) = terminal.left();
    assert!(status.success(), "{status:?}");
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
}

#[test]
fn watch_resumes_after_daemon_restart() {
    let (mut fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
    terminal.press("watch events\r");
    terminal.until_line("frontend web is up, pool fallback");
    fake.stop();
    terminal.until_line("; waiting for it");
    fake.resume();
    let again = format!("connected to maglevd at {} again", fake.address());
    terminal.until_line(&again);
    let replayed =
        |lines: &[String]| lines.iter().filter(|line| line.contains("frontend web is up")).count() == 2;
    terminal.until("a second replay", replayed);
    fake.tell(Event::Dropped(DroppedEvent { count: 7 }));
    terminal.until_line("dropped 7 events");
    terminal.press("x");
    terminal.until_last("maglev>");
}

#[test]
fn shell_survives_daemon_restart() {
    let (mut fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    fake.stop();
    let mut terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
    let gone = format!(
        "cannot reach maglevd at {}: No such file or directory (os error 2); does it run?",
        fake.address()
    );
    terminal.until_last("maglev>");
    terminal.press("show version\r");
    // Once at its start, and once for the command.
    terminal.until("two lines", |lines| lines.iter().filter(|line| **line == gone).count() == 2);
    // Neither TAB nor ? has anything to say of names.
    terminal.press("show backends \t?");
    terminal.until_line("  BACKEND");
    fake.resume();
    terminal.press("\x15show version\r");
    terminal.until_line("c0ffee");
}

#[test]
fn ctrl_c_ends_command_only() {
    let (mut fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
    terminal.until_last("maglev>");
    fake.stop();
    // It takes connections, and never says a word.
    let mute = UnixListener::bind(fake.socket()).unwrap();
    terminal.press("show backends\r");
    let _connection = mute.accept().unwrap();
    terminal.press(CTRL_C);
    terminal.until_line("interrupted");
    terminal.until_last("maglev>");
    terminal.press("quit\r");
    assert!(terminal.ended().success());
}
