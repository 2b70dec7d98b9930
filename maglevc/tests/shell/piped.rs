//! Without a terminal: commands from a pipe, and output to one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use crate::fake::FakeDaemon;
use crate::terminal::MAGLEVC;

fn maglevc(fake: &FakeDaemon) -> Command {
    let mut command = Command::new(MAGLEVC);
    command.args(["--server", &fake.address()]);
    command
}

fn batch(fake: &FakeDaemon, arguments: &[&str], lines: &str) -> Output {
    let mut command = maglevc(fake);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn batch_runs_line_by_line() {
    let fake = FakeDaemon::start();
    let lines =
        "# maintenance\n\nset backend nginx0 disable reason 'disk swap'  # soon\nset backend sorry pause\n";
    let output = batch(&fake, &[], lines);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "nginx0 is disabled (was down)\nsorry is paused (was up)\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn first_failure_ends_batch() {
    let fake = FakeDaemon::start();
    for (wrong, said) in [
        ("show backends nobody", "line 2: no backend is named `nobody`\n"),
        ("shwo", "line 2: unknown word `shwo`, did you mean: show\n"),
        ("explain backend 'a", "line 2: this quote is never closed\n"),
    ] {
        let output = batch(&fake, &[], &format!("help\n{wrong}\nset backend nginx0 disable\n"));
        assert_eq!((text(&output.stderr), output.status.code()), (said, Some(1)));
        assert!(text(&output.stdout).starts_with("Commands:"), "{wrong}");
        assert!(fake.state.lock().unwrap().backends[0].overrides.is_empty(), "{wrong}");
    }
    let output = batch(&fake, &["--output", "json"], "show backends nobody");
    assert_eq!(
        text(&output.stderr),
        "{\"error\":\"line 1: no backend is named `nobody`\",\"code\":\"NOT_FOUND\"}\n"
    );
}

#[test]
fn quit_ends_batch() {
    let output = batch(&FakeDaemon::start(), &[], "quit\nnonsense\n");
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

#[test]
fn pipe_has_full_width_without_colour() {
    let fake = FakeDaemon::start();
    fake.state.lock().unwrap().overrides[0].reason = "a long story ".repeat(20);
    let output = maglevc(&fake).args(["show", "overrides"]).env("COLUMNS", "40").output().unwrap();
    assert!(text(&output.stdout).contains(&"a long story ".repeat(19)));
    assert!(!text(&output.stdout).contains('\x1b'));
    let output = maglevc(&fake).args(["--color", "always", "show", "overrides"]).output().unwrap();
    assert!(text(&output.stdout).contains("\x1b[33mpaused\x1b[0m"));
}

#[test]
fn closed_reader_ends_watch() {
    let fake = FakeDaemon::start();
    let mut child = maglevc(&fake).args(["watch", "events"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "2026-11-22T12:00:00.000Z prober is connected\n");
    // The pipe is closed now, and no further event comes.
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn closed_pipe_is_no_error() {
    let fake = FakeDaemon::start();
    let mut child = maglevc(&fake).arg("help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}

fn said(fake: &FakeDaemon, arguments: &[&str]) -> (i32, String) {
    let output = maglevc(fake).args(arguments).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout).to_owned() + text(&output.stderr))
}

#[test]
fn quoted_line_is_a_command() {
    let fake = FakeDaemon::start();
    let expected = said(&fake, &["show", "backends"]);
    assert_eq!(expected.0, 0);
    for same in [&["show backends"][..], &["-c", "show backends"], &["--command=show  backends  # all"]] {
        assert_eq!(said(&fake, same), expected, "{same:?}");
    }
    let pause = "set backend nginx0 pause reason 'disk swap'";
    let (code, told) = said(&fake, &["-c", pause, "-c", "show nothing", "-c", "set backend sorry pause"]);
    let paused = "nginx0 is paused (was down)\n";
    assert!(code == 1 && told.starts_with(paused) && told.contains("show: unknown word `nothing`"), "{told}");
    assert_eq!(fake.state.lock().unwrap().backends[0].overrides[0].reason, "disk swap");
    assert_eq!(said(&fake, &["show 'backends"]), (1, "this quote is never closed\n".into()));
    assert_eq!(said(&fake, &["-c", "show version", "show"]).0, 2);
}

#[test]
fn single_dash_of_go_is_accepted() {
    let fake = FakeDaemon::start();
    let address = fake.address();
    let expected = said(&fake, &["show", "version"]);
    for arguments in [
        &["-server", &address, "-color=false", "show", "version"][..],
        &["-server", &address, "-color", "show", "version"],
        &[&format!("-server={address}"), "-output=text", "-color=true", "show", "version"],
    ] {
        let output = Command::new(MAGLEVC).args(arguments).output().unwrap();
        assert_eq!(text(&output.stdout), expected.1, "{arguments:?} {output:?}");
    }
    assert_eq!(said(&fake, &["-colour", "show", "version"]).0, 2);
}

#[test]
fn negative_weight_is_named() {
    let line = "set frontend web pool primary backend nginx0 weight -1";
    let (code, told) = said(&FakeDaemon::start(), &line.split(' ').collect::<Vec<_>>());
    assert!(code == 1 && told.ends_with("`-1` is not a weight from 0 to 100\n"), "{told}");
}

#[test]
fn byte_order_mark_and_crlf_are_ignored() {
    let output = batch(&FakeDaemon::start(), &[], "\u{feff}help show\r\nhelp sync\r\n");
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
    assert!(text(&output.stdout).contains("show frontends") && text(&output.stdout).contains("sync vpp"));
}
