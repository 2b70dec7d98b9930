//! Keys that arrive before the shell reads them: sent by scripts, pasted, or typed during a command.

use std::os::unix::net::UnixListener;

use maglev_proto::v1::{Backend, BackendState};
use rustix::process::Signal;
use rustix::termios::LocalModes;

use crate::fake::FakeDaemon;
use crate::terminal::Terminal;

const CTRL_C: &str = "\x03";
const CTRL_U: &str = "\x15";
const PASTE: &str = "\x1b[200~";
const PASTED: &str = "\x1b[201~";

fn shell(fake: &FakeDaemon, home: &tempfile::TempDir) -> Terminal {
    let terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
    terminal.until_last("maglev>");
    terminal
}

fn states(fake: &FakeDaemon) -> Vec<BackendState> {
    fake.state.lock().unwrap().backends.iter().map(Backend::state).collect()
}

fn once(lines: &[String], whole: &str) -> bool {
    lines.iter().filter(|line| *line == whole).count() == 1
}

#[test]
fn lines_sent_at_once_all_run() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("set backend nginx0 disable\rset backend sorry disable\r?show ver\t\rset backend ngi");
    terminal.until_last("maglev> set backend ngi");
    let lines = terminal.until_line("c0ffee");
    assert_eq!(states(&fake)[0], BackendState::Disabled);
    assert_eq!(states(&fake)[2], BackendState::Disabled);
    for line in
        ["maglev> set backend nginx0 disable", "maglev> set backend sorry disable", "maglev> show version"]
    {
        assert!(once(&lines, line), "{line}: {lines:#?}");
    }
}

#[test]
fn keys_before_first_prompt_are_kept() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    for _ in 0..5 {
        let mut terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
        terminal.press("set backend nginx0 disable\rset backend nginx0 enable\rquit\r");
        assert!(terminal.ended().success());
        assert_eq!(states(&fake)[0], BackendState::Unknown);
        fake.state.lock().unwrap().backends[0].set_state(BackendState::Down);
    }
}

#[test]
fn pasted_block_runs_line_by_line() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    let block = "set backend nginx0 disable\r\n\r\n# and\r\nset backend sorry disable reason 'a b'\r\n";
    terminal.press(&format!("{PASTE}{block}{PASTED}"));
    terminal.until_line("reason 'a b'");
    assert_eq!(states(&fake)[0], BackendState::Down, "nothing runs before Enter");
    terminal.press("\r");
    terminal.until_line("sorry is disabled (was up)");
    terminal.until_line("nginx0 is disabled (was down)");
    terminal.until_last("maglev>");
    terminal.press("\x1b[A");
    terminal.until_last("maglev> set backend sorry disable reason 'a b'");
}

#[test]
fn failure_stops_pasted_block() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    let block = "show version\nset backend gone disable\nset backend nginx0 disable\nset backend sorry pause";
    terminal.press(&format!("{PASTE}{block}{PASTED}\r"));
    terminal.until_line("no backend is named `gone`");
    terminal.until_line("stopped: the last 2 of the pasted lines did not run");
    terminal.until_last("maglev>");
    assert_eq!([states(&fake)[0], states(&fake)[2]], [BackendState::Down, BackendState::Up]);
}

#[test]
fn completion_works_in_pasted_block() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press(&format!("{PASTE}set backend nginx0 pause\nset backend sor{PASTED}\tdis\t\r"));
    terminal.until_line("sorry is disabled (was up)");
}

#[test]
fn keys_during_command_are_kept() {
    let (mut fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    fake.stop();
    // It accepts connections, and never answers.
    let mute = UnixListener::bind(fake.socket()).unwrap();
    terminal.press("show backends\r");
    let connection = mute.accept().unwrap();
    // Line editing is for the next prompt, and nothing is echoed before it.
    terminal.press(&format!("nonsense{CTRL_U}set backend nginx1 enabel\x7f\x7fle\rset ba"));
    std::fs::remove_file(fake.socket()).unwrap();
    fake.resume();
    drop((connection, mute));
    let lines = terminal.until_last("maglev> set ba");
    assert!(once(&lines, "maglev> set backend nginx1 enable"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("nonsense") || line.contains("enabel")), "{lines:#?}");
}

#[test]
fn ctrl_c_discards_what_was_sent() {
    let (mut fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    fake.stop();
    let mute = UnixListener::bind(fake.socket()).unwrap();
    terminal.press("show backends\rset backend nginx0 disable\rquit\r");
    let _connection = mute.accept().unwrap();
    terminal.press(CTRL_C);
    terminal.until_line("interrupted");
    terminal.until_last("maglev>");
    terminal.press(&format!("abandoned{CTRL_C}help\r"));
    terminal.until_line("Leave the shell");
    let lines = terminal.until_last("maglev>");
    assert!(!lines.iter().any(|line| line.contains("disable\r")), "{lines:#?}");
    terminal.press("\x1b[A\x1b[A");
    terminal.until_last("maglev> show backends");
}

#[test]
fn line_after_watch_is_kept() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("watch events\r");
    terminal.until_line("frontend web is up, pool fallback");
    terminal.press("set backend nginx0 disable\r");
    terminal.until_line("nginx0 is disabled (was down)");
    terminal.press("watch events num 3\rset backend sorry disable\r");
    terminal.until_line("sorry is disabled (was up)");
}

#[test]
fn terminal_echoes_after_each_end() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    for (keys, signal) in
        [("quit\r", None), ("\x04", None), ("", Some(Signal::TERM)), ("", Some(Signal::QUIT))]
    {
        let mut terminal = shell(&fake, &home);
        terminal.press(keys);
        signal.into_iter().for_each(|signal| terminal.signal(signal));
        assert!(terminal.left().1.contains(cooked), "{keys:?} {signal:?}");
    }
}

#[test]
fn suspension_keeps_the_line() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = Terminal::run(home.path(), "bash", &["--norc", "--noprofile", "-i"]);
    terminal.press("PS1='> '; bind 'set enable-bracketed-paste off'\r");
    terminal.until_last(">");
    terminal.press(&format!("maglevc --server {}\r", fake.address()));
    terminal.until_last("maglev>");
    terminal.press("show ver\x1a");
    terminal.until_line("Stopped");
    terminal.until_last(">");
    terminal.press("fg\r");
    terminal.until_last("maglev> show ver");
    terminal.press("\t\r");
    terminal.until_line("c0ffee");
}
