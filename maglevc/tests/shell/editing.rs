//! Typing, and what helps with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::fake::FakeDaemon;
use crate::terminal::Terminal;

const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

fn shell(fake: &FakeDaemon, home: &tempfile::TempDir) -> Terminal {
    let terminal = Terminal::start(home.path(), &["--server", &fake.address()]);
    terminal.until_last("maglev>");
    terminal
}

#[test]
fn banner_names_the_server() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let terminal = shell(&fake, &home);
    let banner =
        format!("maglevc {}, maglevd 1.2.3 at {}; ? for help", env!("CARGO_PKG_VERSION"), fake.address());
    assert_eq!(terminal.lines(), [banner.as_str(), "maglev>"]);
}

#[test]
fn tab_completes_words_and_names() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("sh\tba\tng\t");
    let lines = terminal.until_line("nginx1");
    assert!(lines.iter().any(|line| line.contains("nginx0") && line.contains("nginx1")), "{lines:#?}");
    terminal.until_last("maglev> show backends nginx");
    terminal.press("0\t\r");
    terminal.until_line("L4CON connection refused");
    terminal.press("set f\tw\tp\tf\tb\ts\tw\t");
    terminal.until_last("maglev> set frontend web pool fallback backend sorry weight");
}

#[test]
fn question_mark_shows_help() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("set backend nginx0 ?");
    let lines = terminal.until_line("enable ");
    assert!(lines.iter().any(|line| line.starts_with("  pause    Stop its probes")), "{lines:#?}");
    let lines = terminal.until_last("maglev> set backend nginx0");
    assert!(!lines.iter().any(|line| line.contains('?') && line.contains("maglev>")), "{lines:#?}");

    terminal.press("pa?\x15show backends ?");
    terminal.until_line("  pause  Stop its probes");
    let lines = terminal.until_line("<Enter>");
    assert!(
        lines.iter().any(|line| line.contains("nginx1") && line.contains("paused, 192.0.2.12")),
        "{lines:#?}"
    );
    // While it fetches names for the help, Ctrl-C is about that.
    terminal.until_last("maglev> show backends");
    terminal.press(CTRL_C);
    terminal.until_prompts(1);

    // None of these lines was run, so that none is remembered.
    terminal.press(UP);
    terminal.press("quit\r");
    assert!(terminal.ended().success());
}

#[test]
fn quoted_question_mark_is_text() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("set backend nginx0 pause reason \"why?\"\r");
    terminal.until_line("nginx0 is paused (was down)");
    let set = fake.state.lock().unwrap().backends[0].overrides[0].reason.clone();
    assert_eq!(set, "why?");
}

#[test]
fn question_mark_works_inside_line() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    // Back over ` lb state`, so that the help is for what follows `vpp`.
    terminal.press("show vpp lb state\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D\x1b[D?");
    terminal.until_line("  info  The connected VPP");
    terminal.until_last("maglev> show vpp lb state");
    terminal.press("\x0binfo\r");
    terminal.until_line("26.10-release");
}

#[test]
fn ctrl_c_cancels_and_ctrl_d_quits() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("set backend nginx0 disable");
    terminal.until_last("maglev> set backend nginx0 disable");
    terminal.press(CTRL_C);
    terminal.until_last("maglev>");
    terminal.press("show version\r");
    terminal.until_line("c0ffee");
    terminal.until_last("maglev>");
    assert!(fake.state.lock().unwrap().backends[0].overrides.is_empty());
    terminal.press(CTRL_D);
    assert!(terminal.ended().success());
}

#[test]
fn history_is_saved() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("show vpp info\r");
    terminal.until_line("26.10-release");
    terminal.until_last("maglev>");
    terminal.press(UP);
    terminal.until_last("maglev> show vpp info");
    terminal.press(CTRL_C);
    terminal.until_prompts(1);
    terminal.press("quit\r");
    assert!(terminal.ended().success());

    let file = home.path().join(".local/state/maglevc/history");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut terminal = shell(&fake, &home);
    terminal.press(UP);
    terminal.until_last("maglev> quit");
    terminal.press(UP);
    terminal.until_last("maglev> show vpp info");
}

#[test]
fn unwritable_history_is_ignored() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    // A file where the directory should be stops even root.
    fs::write(home.path().join(".local"), "").unwrap();
    let mut terminal = shell(&fake, &home);
    terminal.press("show vpp info\r");
    terminal.until_line("26.10-release");
    terminal.press(UP);
    let lines = terminal.until_last("maglev> show vpp info");
    assert!(!lines.iter().any(|line| line.contains("istory")), "{lines:#?}");
}

#[test]
fn parse_error_is_marked() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    for (typed, pointer, said) in [
        ("show bakcends", "             ^", "show: unknown word `bakcends`, did you mean: backends"),
        ("sh vpp", "               ^", "show vpp: what? One of: info, lb"),
        (
            "set backend a pause reason \"disk",
            "                                   ^",
            "this quote is never closed",
        ),
    ] {
        terminal.press(&format!("{typed}\r"));
        let lines = terminal.until_line(said);
        let at = lines.iter().position(|line| line == said).unwrap();
        assert_eq!([&lines[at - 2], &lines[at - 1]], [&format!("maglev> {typed}"), pointer], "{lines:#?}");
    }
}

#[test]
fn table_fits_the_terminal() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("show backends\r");
    terminal.until_line("L4CON connection refused");
    terminal.press("\x0c");
    terminal.until("an empty screen", |lines| lines == ["maglev>"]);
    terminal.resize(64);
    terminal.press("show backends\r");
    let lines = terminal.until_line("sorry");
    assert!(lines.iter().any(|line| line.contains("nginx0") && line.ends_with('…')), "{lines:#?}");
    // The command, a heading, three backends and the next prompt: nothing has gone on in a second line.
    terminal.until("one line each", |lines| lines.len() == 6);
}

#[test]
fn resize_redraws_the_line() {
    let (fake, home) = (FakeDaemon::start(), tempfile::tempdir().unwrap());
    let mut terminal = shell(&fake, &home);
    terminal.press("\x0c");
    terminal.until("an empty screen", |lines| lines == ["maglev>"]);
    let typed = "set frontend web pool primary backend nginx0 weight";
    terminal.press(typed);
    terminal.until_last(&format!("maglev> {typed}"));
    terminal.resize(30);
    let folded = |lines: &[String]| {
        lines.concat().replace(' ', "").ends_with("setfrontendwebpoolprimarybackendnginx0weight")
    };
    terminal.until("the line in two", |lines| lines.len() == 2 && folded(lines));
    terminal.press(" 30\r");
    terminal.resize(140);
    terminal.until_line("nginx0 has weight 30 in pool primary of web (was 100)");
}
