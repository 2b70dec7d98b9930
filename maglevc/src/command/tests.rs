use super::*;
use crate::grammar::BackendAction;

fn said(line: &str) -> Result<Command, CommandError> {
    let words: Vec<String> = crate::line::split(line).words.into_iter().map(|word| word.text).collect();
    parse(&words)
}

fn verb(line: &str) -> Verb {
    said(line).unwrap().verb
}

#[test]
fn word_prefix_is_accepted() {
    assert_eq!(verb("show backends nginx0"), Verb::ShowBackends);
    assert_eq!(said("sh ba nginx0").unwrap().name(NameKind::Backend), Some("nginx0"));
    assert_eq!(verb("sh vp l s"), Verb::ShowVppLbState);
    assert_eq!(verb("se b web3 d"), Verb::SetBackend(BackendAction::Disable));
    assert_eq!(said("se b web3 d").unwrap().name(NameKind::Backend), Some("web3"));
    assert_eq!(verb("exp b web3"), Verb::ExplainBackend);
    assert_eq!(verb("exi"), Verb::Quit);
}

#[test]
fn weight_takes_one_position() {
    let command =
        said("set frontend web pool primary backend nginx0 weight 50 for 1h30m reason \"a test\"").unwrap();
    assert_eq!(command.verb, Verb::SetWeight);
    let names =
        [NameKind::Frontend, NameKind::Pool, NameKind::Member].map(|kind| command.name(kind).unwrap());
    assert_eq!(names, ["web", "primary", "nginx0"]);
    assert_eq!(command.number("weight"), Some(50));
    assert_eq!(command.duration("for"), Some(Duration::from_secs(5_400)));
    assert_eq!(command.text("reason"), Some("a test"));
}

#[test]
fn options_parse_in_any_order() {
    for line in ["set backend a pause for 2h reason x", "set backend a pause reason x for 2h"] {
        let command = said(line).unwrap();
        assert_eq!(command.duration("for"), Some(Duration::from_secs(7_200)), "{line}");
        assert_eq!(command.text("reason"), Some("x"), "{line}");
    }
    assert_eq!(said("set backend a pause reason for").unwrap().text("reason"), Some("for"));
}

#[test]
fn event_kinds_parse_in_any_order() {
    for line in ["watch events log level debug vpp num 5 backend", "w e l l d v n 5 b"] {
        let command = said(line).unwrap();
        assert_eq!(command.event_kinds(), [EventKind::Log, EventKind::Backend, EventKind::Vpp], "{line}");
        assert_eq!((command.level(), command.number("num")), (LogLevel::Debug, Some(5)), "{line}");
    }
    assert_eq!(said("watch events").unwrap().event_kinds(), []);
    assert_eq!(said("watch events").unwrap().level(), LogLevel::Unspecified);
}

#[test]
fn keyword_is_a_valid_name() {
    let command = said("set frontend weight pool pool backend backend weight 1").unwrap();
    assert_eq!((command.name(NameKind::Frontend), command.number("weight")), (Some("weight"), Some(1)));
}

#[test]
fn parse_error_names_the_word() {
    let cases = [
        ("", 0, "what? One of: show, explain, watch, set, unset, sync, config, help and 2 more"),
        ("shw", 0, "unknown word `shw`, did you mean: show"),
        (
            "frobnicate",
            0,
            "unknown word `frobnicate`, expected one of: show, explain, watch, set, unset, sync, config, help and 2 more",
        ),
        ("show bakcends", 1, "show: unknown word `bakcends`, did you mean: backends"),
        ("sh v", 1, "show: `v` is ambiguous: version, vpp"),
        (
            "sync vpp lb state now",
            4,
            "sync vpp lb state: unknown word `now`, expected one of: dry-run, fresh",
        ),
        ("show", 1, "show: what? One of: version, frontends, backends, healthchecks, overrides, vpp"),
        ("sh vpp lb", 3, "show vpp lb: what? One of: state, counters"),
        ("show version now", 2, "show version: there is nothing to do with `now`"),
        ("show backends a b", 3, "show backends a: there is nothing to do with `b`"),
        ("show backends \"\"", 2, "show backends: an empty word names no backend"),
        ("explain backend", 2, "explain backend: the name of a backend is missing"),
        ("set frontend web", 3, "set frontend web: `pool` is missing"),
        (
            "set backend a pause for",
            5,
            "set backend a pause for: a duration such as 30s, 10m, 2h, 1d or 1h30m is missing",
        ),
        (
            "set backend a pause for ever",
            5,
            "set backend a pause for: `ever` is not a duration such as 30s, 10m, 2h, 1d or 1h30m",
        ),
        (
            "set backend a pause for 1h for 2h",
            6,
            "set backend a pause for 1h: unknown word `for`, expected one of: reason",
        ),
        ("set backend a resume for 1h", 4, "set backend a resume: there is nothing to do with `for`"),
        (
            "set backend a pause reason disk swap",
            6,
            "set backend a pause reason disk: unknown word `swap`, expected one of: for (a text of several words wants quotes)",
        ),
        (
            "set f web p a b c weight 101",
            8,
            "set frontend web pool a backend c weight: `101` is not a weight from 0 to 100",
        ),
        ("watch events num", 3, "watch events num: a number above 0 is missing"),
        ("watch events num 0", 3, "watch events num: `0` is not a number above 0"),
        (
            "w e log level loud",
            4,
            "watch events log level: unknown word `loud`, expected one of: error, warn, info, debug, trace",
        ),
    ];
    for (line, word, text) in cases {
        assert_eq!(said(line).err(), Some(CommandError { word, text: text.into() }), "{line}");
    }
}
