use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;

mod rules;

/// Returns the report for `text` as a file, without the file's name.
fn reported(text: &[u8]) -> (u8, Vec<String>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let Err(error) = load(file.path()) else { return (0, Vec::new()) };
    let (code, lines) = report(&error);
    let name = format!("{}:", file.path().display());
    (code, lines.iter().map(|line| line.strip_prefix(&name).unwrap().to_owned()).collect())
}

fn refused(text: &[u8]) -> String {
    let (code, lines) = reported(text);
    assert_eq!((code, lines.len()), (1, 1), "{lines:?}");
    lines.into_iter().next().unwrap()
}

/// Returns the shipped examples, by name.
fn shipped() -> Vec<(String, String)> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let files = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn parse_errors_have_position_and_key() {
    let backend = "maglev:\n  backends:\n    x: ";
    for (text, expected) in [
        ("", "1:1: the file is empty: a configuration starts with `maglev:`"),
        ("# nothing yet\n\n", "1:1: the file is empty: a configuration starts with `maglev:`"),
        ("{}", "1:1: missing field `maglev`"),
        ("maglev: {}\nvpp: {}\n", "2:1: unknown field `vpp`, expected `maglev`"),
        ("maglev: [1]\n", "1:9: maglev: invalid type: sequence, expected a map of keys"),
        ("maglev:\n\tbackends: {}\n", "2:1: found a tab: YAML is indented with spaces"),
        ("maglev: {}\n---\nmaglev: {}\n", "2:1: a second document: a configuration is one"),
        ("# x\n---\nmaglev: {}\n...\n--- {}\n", "5:1: a second document: a configuration is one"),
        ("maglev:\n  vpp: {}\nmaglev: {}\n", "3:1: duplicate field `maglev`"),
        ("maglev:\n  vpp:\0 {}\n", "2:7: control character U+0000: YAML is text"),
    ] {
        assert_eq!(refused(text.as_bytes()), expected, "{text}");
    }
    for (text, expected) in [
        (
            "{ adress: 192.0.2.1 }",
            "3:10: maglev.backends.x: unknown field `adress`, \
             expected one of `address`, `healthcheck`, `enabled`",
        ),
        (
            "{ address: www.example.org }",
            "3:19: maglev.backends.x.address: \"www.example.org\" is no IP address (names are not looked up)",
        ),
        (
            "{ enabled: yes }",
            "3:19: maglev.backends.x.enabled: invalid type: string \"yes\", expected a boolean",
        ),
        ("{ enabled: true, enabled: true }", "3:25: maglev.backends.x: duplicate field `enabled`"),
        (
            "\n      address: 2001:db8::",
            "4:16: maglev.backends.x.address: \"2001:db8:\" is no IP address: YAML takes a colon at the end away, so quote \
             \"2001:db8::\"",
        ),
        (
            "{ address: 192.0.2.1/32 }",
            "3:19: maglev.backends.x.address: \"192.0.2.1/32\" is a prefix: write the address without /32",
        ),
        (
            "{ address:, enabled: true }",
            "3:17: found unexpected ':': in braces, a key without a value needs a blank after it, as in { a: , b: }",
        ),
        (
            "&x { enabled: true }\n    y: { <<: *x }",
            "4:10: maglev.backends.y: `<<` is a merge key, which is not supported: write the keys out",
        ),
        ("{}\n    y: {}\n    x: {}", "5:5: maglev.backends: duplicate key `x`"),
        ("{}\n    \"x\": {}", "4:5: maglev.backends: duplicate key `x`"),
        ("{", "4:1: did not find expected node content, while parsing a flow node"),
    ] {
        assert_eq!(refused(format!("{backend}{text}\n").as_bytes()), expected, "{text}");
    }
}

#[test]
fn wrong_scalar_type_is_parse_error() {
    for (field, expected) in [
        (
            "interval: 30",
            "4:17: maglev.healthchecks.x.interval: \"30\" is a duration without a unit: write 30s for seconds",
        ),
        (
            "interval: soon",
            "4:17: maglev.healthchecks.x.interval: \"soon\" is not a duration: write it like 500ms, 2s, 1m30s or 1h",
        ),
        (
            "params: { ssl: true }",
            "4:17: maglev.healthchecks.x.params: unknown field `ssl`, which is `tls` here; expected one of `path`, `host`, \
             `response-code`, `response-regexp`, `keep-alive`, `keep-alive-requests`, `mode`, `tls`, `server-name`, \
             `insecure-skip-verify`, `ca-file`",
        ),
        (
            "interval: []",
            "4:17: maglev.healthchecks.x.interval: invalid type: sequence, expected a duration such as 500ms or 1m30s",
        ),
        (
            "port: \"80\"",
            "4:13: maglev.healthchecks.x.port: invalid type: string \"80\", expected a whole number",
        ),
        (
            "type: ping",
            "4:13: maglev.healthchecks.x.type: unknown variant `ping`, expected one of `icmp`, `tcp`, `http`, `https`",
        ),
        (
            "rise: 1.5",
            "4:13: maglev.healthchecks.x.rise: invalid type: floating point `1.5`, expected a whole number",
        ),
    ] {
        let text = format!("maglev:\n  healthchecks:\n    x:\n      {field}\n");
        assert_eq!(refused(text.as_bytes()), expected, "{field}");
    }
}

#[test]
fn sections_may_be_empty() {
    for text in [
        "maglev:\n",
        "maglev: ~\n",
        "maglev: { healthchecker: , vpp: , healthchecks: , backends: , frontends: }\n",
        "maglev:\n  vpp:\n    lb:\n      flow-timeout:\n",
    ] {
        assert_eq!(reported(text.as_bytes()), (0, vec![]), "{text}");
    }
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("maglev:\n  a: &a [x, x, x, x, x, x, x, x, x]\n");
    let mut pools = String::from("maglev:\n  frontends:\n    a: &a { pools: [{ name: p }] }\n");
    for (this, next) in ('a'..='y').zip('b'..='z') {
        writeln!(laughs, "  {next}: &{next} [{}]", vec![format!("*{this}"); 9].join(", ")).unwrap();
        writeln!(pools, "    {next}: &{next} {{ pools: [{}] }}", vec![format!("*{this}"); 9].join(", "))
            .unwrap();
    }
    refused(laughs.as_bytes());
    let backends: String = (0..1000).map(|n| format!("b{n:0>200}: , ")).collect();
    let frontends: String = (0..300).map(|n| format!("    f{n}: {{ pools: *p }}\n")).collect();
    let shapely = format!(
        "maglev:\n  backends: &b {{ {backends} }}\n  frontends:\n    p: {{ pools: &p [{}] }}\n{frontends}",
        "{ backends: *b }, ".repeat(100)
    );
    assert!(refused(shapely.as_bytes()).ends_with("alias expansion makes the file too large"));
    refused(pools.as_bytes());
    // 10 KB that expand to 12 million pool members.
    let members: String = (0..1000).map(|n| format!("b{n}: , ")).collect();
    let few = format!(
        "maglev: {{ frontends: {{ f: {{ pools: [ &p {{ backends: {{ {members} }} }}, {} ] }} }} }}",
        "*p, ".repeat(500)
    );
    assert!(refused(few.as_bytes()).ends_with("alias expansion makes the file too large"));

    for (unit, place) in [
        ("[", "1:65"),
        ("{a: ", "1:257"),
        ("{a:\n", "65:1"),
        ("[ #]\n", "65:1"),
        ("{'}': ", "1:385"),
        ("- ", "1:129"),
        ("? ", "1:129"),
    ] {
        let expected = format!("{place}: nested too deeply");
        assert_eq!(refused(unit.repeat(100_000).as_bytes()), expected, "{unit}");
    }
}

#[test]
fn brackets_in_quotes_are_not_counted() {
    for text in [
        "# [ [ [\n",
        "description: \"[ [\\\" [\"\n",
        "description: ' [ ['\n",
        "description: \\[[^[]\n",
        "[a]\n",
        "- - a\n",
        "# - - -\n",
    ] {
        assert_eq!(nesting::find_excess_nesting(text.repeat(1000).as_bytes()), None, "{text}");
    }
}

#[test]
fn only_bounded_regular_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let reported = |path: &Path| report(&load(path).unwrap_err());
    let alone = |line: &str| (1, vec![line.to_owned()]);

    assert_eq!(reported(Path::new("/dev/zero")), alone("/dev/zero: not a regular file"));
    assert_eq!(reported(Path::new("/nowhere")), alone("/nowhere: No such file or directory (os error 2)"));
    let name = directory.path().display();
    assert_eq!(reported(directory.path()), alone(&format!("{name}: not a regular file")));

    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(reported(&fifo), alone(&format!("{name}/fifo: not a regular file")));

    // The check of a pipeline reads a pipe, as far as a file.
    let written = |bytes: Vec<u8>| {
        let (path, fifo) = (fifo.clone(), fifo.clone());
        let writer = std::thread::spawn(move || fs::write(path, bytes));
        let loaded = load_from_any(&fifo);
        // A reader that stops early fails the writer.
        drop(writer.join().unwrap());
        loaded
    };
    written(b"maglev: {}".to_vec()).unwrap();
    let too_long = report(&written(vec![b'#'; 17 << 20]).unwrap_err());
    assert_eq!(too_long, alone(&format!("{name}/fifo: larger than 16777216 bytes")));
    assert!(load_from_any(Path::new("/dev/zero")).is_err());

    let huge = directory.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(100 << 20).unwrap();
    assert_eq!(reported(&huge), alone(&format!("{name}/huge: larger than 16777216 bytes")));
}

#[test]
fn invalid_utf8_has_position() {
    assert_eq!(refused(b"maglev:\n  \xc3\xa9 \xff\n"), "2:5: not UTF-8 text");
}

#[test]
fn quoted_text_stays_on_one_line() {
    assert_eq!(
        reported(b"maglev: { backends: { \"a\\n\\e[31m\": { address: 192.0.2.1 } } }\n"),
        (
            2,
            vec![
                " maglev.backends.\"a\\n\\u{1b}[31m\": not a name: \
                 1 to 64 letters, digits, and - _ . : after the first, are allowed"
                    .to_owned()
            ]
        )
    );
    assert_eq!(
        refused(b"maglev: { backends: { \"a\\n\\e\": 5 } }\n"),
        "1:32: maglev.backends.a\\n\\u{1b}: invalid type: integer `5`, expected a map of keys"
    );
}

#[test]
fn mutated_examples_never_panic() {
    for (_, text) in shipped() {
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            // One piece per position is enough, and ten times faster than all of them.
            let piece = ["", "[", "\"", "\n", "&a ", "-1"][at % 6];
            let broken = format!("{}{piece}{}", &text[..at], text.get(at + 1..).unwrap_or_default());
            if let Ok(file) = parse(broken.as_bytes()) {
                let _ = check(&file, &mut |_| Err("unread".into()));
            }
            let _ = parse(&text.as_bytes()[..at]);
        }
    }
}
