//! Configuration keys with defaults and bounds are the same in the code, the guide and the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use maglev_core::config::{Config, check};
use maglev_lab::programs::program;
use maglev_lab::test_dir::TestDir;
use maglev_tests::docs::manual::Manual;
use maglev_tests::docs::page::{Page, Table, TableCell, read};
use maglevd::config::parse;
use regex_lite::Regex;

use crate::assert_same;

const GUIDE: &str = "docs/config-guide.md";
const MANUAL: &str = "docs/man/maglev.yaml.5";

/// Each section by its heading, and a configuration with a `?` in place of one of its keys.
const SECTIONS: [(&str, &str); 8] = [
    ("healthchecker", "{ healthchecker: { ? } }"),
    ("vpp.lb", "{ vpp: { lb: { ? } } }"),
    ("healthchecks", "{ healthchecks: { h: { ? } } }"),
    ("params", "{ healthchecks: { h: { type: http, port: 80, params: { ? } } } }"),
    ("backends", "{ backends: { a: { ? } } }"),
    ("frontends", "{ frontends: { f: { ? } } }"),
    ("api.roles", "{ api: { roles: [ { ? } ] } }"),
    ("api.tls", "{ api: { tls: { ? } } }"),
];
/// Sections that the guide describes in sentences error_for of a table.
const SENTENCES: [&str; 5] = [
    "{ ? }",
    "{ vpp: { ? } }",
    "{ api: { ? } }",
    "{ frontends: { f: { pools: [ { ? } ] } } }",
    "{ frontends: { f: { pools: [ { backends: { a: { ? } } } ] } } }",
];
/// Key of a role rule that its table omits.
const ROLE: &str = "role";
/// Documented types, and their names in error messages.
const TYPE_NAMES: [(&str, &str); 12] = [
    ("number", "a whole number"),
    ("percent", "a whole number"),
    ("duration", "a duration"),
    ("boolean", "a boolean"),
    ("address", "an IP address"),
    ("IPv4 address", "an IP address"),
    ("IPv6 address", "an IP address"),
    ("text", "a string"),
    ("name", "a string"),
    ("path", "a string"),
    ("section", "a map of keys"),
    ("list", "a sequence"),
];
/// Values with the right YAML type that a narrower documented type must reject.
const MISFITS: [(&str, &str); 4] =
    [("percent", "101"), ("IPv4 address", "2001:db8::1"), ("IPv6 address", "192.0.2.1"), ("path", "a")];

/// Key that exists nowhere.
const NO_KEY: &str = "nonsense-key";

/// Keys that a section needs to be valid.
const REQUIRED_KEYS: [(&str, &str); 4] = [
    ("vpp.lb", "ipv4-src-address: 192.0.2.1"),
    ("healthchecks", "port: 80"),
    ("backends", "address: 192.0.2.10"),
    ("frontends", "address: 198.51.100.80, pools: [ { name: p, backends: { a: } } ]"),
];
/// Keys that another key requires.
const COMPANION_KEYS: [((&str, &str), &str); 5] = [
    (("healthchecks", "timeout-min"), "timeout: auto"),
    (("healthchecks", "timeout-max"), "timeout: auto"),
    (("params", "keep-alive-requests"), "keep-alive: true"),
    (("vpp.lb", "startup-min-delay"), "startup-max-delay: 1h"),
    (("frontends", "port"), "protocol: tcp"),
];
/// Key that shares its row with the key to which the bounds apply.
const UNBOUNDED: (&str, &str) = ("frontends", "protocol");

/// Returns the error of `maglevd --check` for an invalid configuration.
fn complaint(maglev: &str) -> String {
    let dir = TestDir::new();
    let file = dir.write("maglev.yaml", format!("maglev: {maglev}\n"));
    let checked =
        Command::new(program("maglevd").unwrap()).args(["--check", "--config"]).arg(file).output().unwrap();
    String::from_utf8(checked.stderr).unwrap()
}

/// Returns the part of an error after `expected`, and the names quoted in it.
fn expected(complaint: &str) -> (&str, BTreeSet<String>) {
    let (_, expected) = complaint.split_once("expected ").unwrap_or_else(|| panic!("{complaint}"));
    (expected, expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Returns the keys that the code accepts there.
fn known(context: &str) -> BTreeSet<String> {
    expected(&complaint(&context.replace('?', &format!("{NO_KEY}: 1")))).1
}

/// Returns the guide's table of a section.
fn table<'a>(guide: &'a Page, section: &str) -> &'a Table {
    let (head, heading) = if section == "params" { ("in params", "healthchecks") } else { ("key", section) };
    let mut tables = guide.tables(head).filter(|table| table.below[0] == heading);
    tables.next().unwrap_or_else(|| panic!("the guide has no table of {section}"))
}

fn keys_of(table: &Table) -> BTreeSet<String> {
    table.rows.iter().flat_map(|row| row[0].codes.clone()).collect()
}

#[test]
fn guide_documents_every_key() {
    let guide = Page::read(GUIDE);
    for (section, context) in SECTIONS {
        let mut known = known(context);
        if section == "api.roles" {
            assert!(known.remove(ROLE));
        }
        assert_same(section, &keys_of(table(&guide, section)), &known);
    }
    for context in SENTENCES {
        for key in known(context) {
            let documented = [format!("`{key}`"), format!("`{key}."), format!(".{key}`")];
            assert!(
                documented.iter().any(|documented| guide.text.contains(documented)),
                "the guide has no `{key}`"
            );
        }
    }
}

#[test]
fn manual_documents_every_key() {
    let manual = Manual::read(MANUAL);
    let mut documented = BTreeMap::<String, BTreeSet<String>>::new();
    // Cm rise : Ar n , Cm fall : Ar n
    for item in manual.items() {
        let keys = item.head.split(" , ").filter_map(|part| part.strip_prefix("Cm ")?.split_once(" : "));
        documented.entry(item.section.clone()).or_default().extend(keys.map(|(key, _)| key.to_owned()));
    }
    let mut known_there = BTreeMap::<String, BTreeSet<String>>::new();
    for (section, context) in SECTIONS {
        let there = match section {
            "params" => "healthchecks",
            "api.roles" | "api.tls" => "api",
            section => section,
        };
        known_there.entry(there.to_owned()).or_default().extend(known(context));
    }
    known_there.get_mut("api").unwrap().remove(ROLE);
    for (section, known) in known_there {
        assert_same(&section, &documented[&section], &known);
    }
    let text = read(MANUAL);
    for key in SENTENCES.into_iter().flat_map(known) {
        let heads = text.lines().any(|line| line.starts_with(".Ss ") && line.contains(&key));
        assert!(heads || text.contains(&format!("Cm {key}")), "the manual has no {key}");
    }
}

/// Documentation of one key.
struct DocumentedKey<'a> {
    section: &'a str,
    key: String,
    default: String,
    type_: &'a TableCell,
    row: &'a [TableCell],
    /// Type of healthcheck that has the key.
    kind: &'static str,
}

/// Returns every key in the guide's tables.
fn documented_keys(guide: &Page) -> Vec<DocumentedKey<'_>> {
    let mut keys_found = Vec::new();
    for (section, _) in SECTIONS.into_iter().filter(|(section, _)| !section.starts_with("api")) {
        let table = table(guide, section);
        let [types, column] = ["type", "default"].map(|head| table.column(head));
        for row in &table.rows {
            let keys = &row[0].codes;
            let text = &row[column].text;
            // `rise`, `fall` | 2, 3; one default applies to all if the numbers differ.
            let defaults: Vec<_> = text.split(", ").collect();
            let kinds = if section == "params" { row[1].text.as_str() } else { "http" };
            let first = kinds.split([',', ' ']).next().unwrap_or_default();
            let kind = ["tcp", "https"].into_iter().find(|kind| *kind == first).unwrap_or("http");
            for (number, key) in keys.iter().enumerate() {
                let default = if defaults.len() == keys.len() { defaults[number] } else { text };
                keys_found.push(DocumentedKey {
                    section,
                    key: key.clone(),
                    default: default.to_owned(),
                    type_: &row[types],
                    row,
                    kind,
                });
            }
        }
    }
    keys_found
}

/// Checks a configuration in which a section has these keys.
fn with(kind: &str, section: &str, keys: &str) -> Result<Config, String> {
    let of = |name: &str| {
        let needed =
            REQUIRED_KEYS.iter().find(|(section, _)| *section == name).map_or("", |(_, needed)| needed);
        let mut all: BTreeMap<_, _> =
            split(needed).chain(split(if section == name { keys } else { "" })).collect();
        if name == "healthchecks" {
            all.entry("type").or_insert(kind);
        }
        all.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "maglev: {{ healthchecker: {{ {} }}, vpp: {{ lb: {{ {} }} }}, healthchecks: {{ h: {{ {}, params: {{ {} }} }} }},
  backends: {{ a: {{ {}, healthcheck: h }} }}, frontends: {{ f: {{ {} }} }} }}\n",
        of("healthchecker"), of("vpp.lb"), of("healthchecks"), of("params"), of("backends"), of("frontends"),
    );
    let file = parse(text.as_bytes()).map_err(|fault| format!("{fault:?}"))?;
    check(&file, &mut |_| Err("is not read here".to_owned())).map_err(|problems| format!("{problems:?}"))
}

/// Splits a line of keys and values. `pools` comes last and contains commas.
fn split(keys: &str) -> impl Iterator<Item = (&str, &str)> {
    let end = keys.find("pools").unwrap_or(keys.len());
    let (keys, pools) = keys.split_at(end);
    keys.split(", ").chain([pools]).filter_map(|pair| pair.split_once(": "))
}

fn companion_keys(section: &str, key: &str) -> String {
    let found = COMPANION_KEYS.iter().find(|(of, _)| *of == (section, key));
    found.map_or(String::new(), |(_, companion_keys)| format!("{companion_keys}, "))
}

#[test]
fn documented_defaults_are_correct() {
    let guide = Page::read(GUIDE);
    let all = documented_keys(&guide);
    let plain = Regex::new(r#"^("?[\d.]+"?|\d+m?s|true|false|[a-z]+|/)$"#).unwrap();
    let mut compared = BTreeSet::new();
    for DocumentedKey { section, key, default, kind, .. } in &all {
        // `fast-interval` | `interval`
        let other = all.iter().find(|other| other.section == *section && other.key == *default);
        let value = other.map_or(default, |other| &other.default);
        let is_none = ["none", "required", "empty", "all"].contains(&value.as_str());
        if is_none || !plain.is_match(value) {
            continue;
        }
        let companion_keys = companion_keys(section, key);
        let without = with(kind, section, &companion_keys);
        let explicit = with(kind, section, &format!("{companion_keys}{key}: {value}"));
        assert_eq!(without, explicit, "{section}.{key}, by default {value}");
        assert!(explicit.is_ok(), "{section}.{key}: {explicit:?}");
        compared.insert(key.as_str());
    }
    assert!(compared.len() > 20, "{compared:?}");
}

#[test]
fn documented_types_are_correct() {
    let guide = Page::read(GUIDE);
    for DocumentedKey { section, key, type_, kind, .. } in documented_keys(&guide) {
        let (_, context) = SECTIONS.iter().find(|(name, _)| *name == section).unwrap();
        let error_for = |value: &str| complaint(&context.replace('?', &format!("{key}: {value}")));
        let codes: BTreeSet<_> = type_.codes.iter().cloned().collect();
        let mut words = type_.text.split(", ").filter(|word| !codes.contains(*word)).peekable();
        if words.peek().is_none() {
            assert_same(&format!("{section}.{key}"), &codes, &expected(&error_for("nonsense")).1);
        }
        for word in words {
            let found = TYPE_NAMES.iter().find(|(name, _)| *name == word);
            let (_, called) = found.unwrap_or_else(|| panic!("{section}.{key}: unknown type {word}"));
            let complaint = error_for(if word == "list" { "a" } else { "[ a ]" });
            let (expected, _) = expected(&complaint);
            assert!(expected.contains(called), "{section}.{key} is not of type {word}: {complaint}");
            assert!(codes.iter().all(|code| expected.contains(code)), "{section}.{key}: {complaint}");
            let misfit = MISFITS.iter().find(|(name, _)| *name == word);
            let accepts =
                |(_, value): &&(&str, &str)| with(kind, section, &format!("{key}: {value}")).is_ok();
            assert_eq!(misfit.filter(accepts), None, "{section}.{key} is not of type {word}");
        }
    }
}

#[test]
fn documented_required_keys_are_required() {
    let guide = Page::read(GUIDE);
    let required: Vec<_> =
        documented_keys(&guide).into_iter().filter(|key| key.default == "required").collect();
    assert!(required.len() > 3);
    for DocumentedKey { section, key, .. } in required {
        let missing = format!("{key}: null");
        assert!(with("http", section, &missing).is_err(), "{section} is valid without {key}");
    }
}

#[test]
fn documented_bounds_are_correct() {
    let guide = Page::read(GUIDE);
    let bounds = Regex::new(r"\b(\d+)(ms|s|m|h)? to (\d+)(ms|s|m|h)?\b").unwrap();
    let mut compared = BTreeSet::new();
    for DocumentedKey { section, key, row, kind, .. } in documented_keys(&guide) {
        if (section, key.as_str()) == UNBOUNDED {
            continue;
        }
        let Some(found) = bounds.captures(&row[row.len() - 1].text) else { continue };
        let part = |number: usize| found.get(number).map_or("", |part| part.as_str());
        let number = |text: &str| text.parse::<u64>().unwrap();
        let [least, most] = [(part(1), part(2)), (part(3), part(4))];
        let good = |value: &str| {
            let value = if key == "response-code" { format!("'{value}'") } else { value.to_owned() };
            with(kind, section, &format!("{}{key}: {value}", companion_keys(section, &key))).is_ok()
        };
        for (number, unit) in [least, most] {
            assert!(good(&format!("{number}{unit}")), "{section}.{key}: {number}{unit} is refused");
        }
        let (below, above) = if least.1.is_empty() {
            (number(least.0).checked_sub(1).map(|it| it.to_string()), (number(most.0) + 1).to_string())
        } else {
            let [least, most] = [least, most].map(|(count, unit)| duration(number(count), unit).as_millis());
            (least.checked_sub(1).map(|it| format!("{it}ms")), format!("{}ms", most + 1))
        };
        for value in below.iter().chain([&above]) {
            assert!(!good(value), "{section}.{key}: {value} is not refused");
        }
        compared.insert(key);
    }
    assert!(compared.len() > 8, "{compared:?}");
}

fn duration(count: u64, unit: &str) -> Duration {
    match unit {
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        "m" => Duration::from_secs(60 * count),
        _ => Duration::from_secs(3_600 * count),
    }
}
