//! Code blocks are valid in the language of their fence.

use std::fs;
use std::process::Command;

use maglev_lab::programs::program;
use maglev_lab::skip_without;
use maglev_lab::test_dir::TestDir;
use maglev_tests::docs::documented_host::CONFIG;
use maglev_tests::docs::manual::Manual;
use maglev_tests::docs::page::{self, Fence, first_key};

/// First key of a configuration.
const FIRST_KEY: &str = "maglev:";
/// Sections of a configuration.
const SECTIONS: [&str; 6] = ["healthchecker:", "vpp:", "healthchecks:", "backends:", "frontends:", "api:"];
/// First keys of Prometheus files, and the promtool arguments that check them.
const PROMETHEUS_BLOCKS: [(&str, [&str; 2]); 3] = [
    ("groups:", ["check", "rules"]),
    ("- alert:", ["check", "rules"]),
    ("scrape_configs:", ["check", "config"]),
];

/// A block, its location, and the last complete configuration before it on the page.
type FoundBlock = (String, Fence, Option<String>);

/// Returns every block of a language.
fn fences(language: &str) -> Vec<FoundBlock> {
    let mut found = Vec::new();
    for page in page::all() {
        let mut whole = None;
        for fence in page.fences(language) {
            found.push((format!("{}:{}", page.name, fence.line), fence.clone(), whole.clone()));
            if first_key(&fence.body) == FIRST_KEY {
                whole = Some(fence.body.clone());
            }
        }
    }
    found
}

#[test]
fn configurations_on_pages_are_valid() {
    let mut faults = Vec::new();
    let mut good = 0;
    for (at, fence, whole) in fences("yaml") {
        let key = first_key(&fence.body);
        let config = if key == FIRST_KEY {
            fence.body
        } else if SECTIONS.contains(&key) {
            put(&fence.body, &whole.unwrap_or_else(|| page::read(CONFIG)))
        } else if PROMETHEUS_BLOCKS.iter().any(|(first, _)| *first == key) {
            continue;
        } else {
            faults.push(format!("{at}: neither a configuration nor a section of one: {key}"));
            continue;
        };
        match fault(&config) {
            Some(fault) => faults.push(format!("{at}: {fault}")),
            None => good += 1,
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(good > 1, "too few configurations");
}

#[test]
fn configurations_of_manual_and_package_are_valid() {
    let displays = Manual::read("docs/man/maglev.yaml.5").displays();
    let examples = displays.into_iter().filter(|text| first_key(text) == FIRST_KEY);
    let mut configs: Vec<_> = examples.collect();
    assert!(!configs.is_empty(), "the manual has no example");
    for directory in ["docs/examples", "debian/etc/vpp-maglev"] {
        let files = fs::read_dir(page::path(directory)).unwrap().map(|entry| entry.unwrap().path());
        configs.extend(files.map(|file| fs::read_to_string(file).unwrap()));
    }
    for config in configs {
        assert_eq!(fault(&config), None, "in\n{config}");
    }
}

#[test]
fn prometheus_blocks_on_pages_are_valid() {
    if skip_without("prometheus_blocks_on_pages_are_valid", &["promtool"]) {
        return;
    }
    for (at, fence, _) in fences("yaml") {
        let key = first_key(&fence.body);
        let Some((_, words)) = PROMETHEUS_BLOCKS.iter().find(|(first, _)| *first == key) else { continue };
        let text = if key == "- alert:" {
            let rules: String = fence.body.lines().map(|line| format!("      {line}\n")).collect();
            format!("groups:\n  - name: page\n    rules:\n{rules}")
        } else {
            fence.body
        };
        let dir = TestDir::new();
        let file = dir.write("page.yml", text);
        let checked = Command::new("promtool").args(words).arg(file).output().unwrap();
        assert!(checked.status.success(), "{at}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn json_blocks_are_valid() {
    for (at, fence, _) in fences("json") {
        let values = serde_json::Deserializer::from_str(&fence.body).into_iter::<serde_json::Value>();
        let parsed: Result<Vec<_>, _> = values.collect();
        assert!(parsed.is_ok_and(|values| !values.is_empty()), "{at}");
    }
}

#[test]
fn shell_blocks_are_well_formed() {
    for (at, fence, _) in fences("sh") {
        let parsed = Command::new("bash").args(["-n", "-c", &fence.body]).output().unwrap();
        assert!(parsed.status.success(), "{at}: {}", String::from_utf8_lossy(&parsed.stderr));
    }
}

/// Returns the error of `maglevd --check` for a configuration.
fn fault(config: &str) -> Option<String> {
    let dir = TestDir::new();
    let file = dir.write("maglev.yaml", config);
    let checked =
        Command::new(program("maglevd").unwrap()).args(["--check", "--config"]).arg(file).output().unwrap();
    (!checked.status.success()).then(|| String::from_utf8_lossy(&checked.stderr).into_owned())
}

/// Returns `whole` with the sections in `part` replaced.
fn put(part: &str, whole: &str) -> String {
    let mut sections = whole_sections(whole);
    for (key, lines) in split(part, "") {
        let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
        match sections.iter_mut().find(|(there, _)| *there == key) {
            Some(section) => section.1 = lines,
            None => sections.push((key, lines)),
        }
    }
    sections.into_iter().map(|(_, lines)| lines).collect()
}

/// Splits a configuration into its preamble and its sections.
fn whole_sections(whole: &str) -> Vec<(String, String)> {
    let end = whole.find("\nmaglev:\n").map_or(0, |at| at + 1) + "maglev:\n".len();
    let mut sections = vec![(String::new(), whole[..end].to_owned())];
    sections.extend(split(&whole[end..], "  "));
    sections
}

/// Splits a text into sections at this indentation. Leading lines belong to the first section.
fn split(text: &str, indent: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = vec![Default::default()];
    for line in text.lines() {
        let key = line.strip_prefix(indent).map(first_key).filter(|key| SECTIONS.contains(key));
        if let Some(key) = key {
            match sections.last_mut() {
                Some(last) if last.0.is_empty() => key.clone_into(&mut last.0),
                _ => sections.push((key.to_owned(), String::new())),
            }
        }
        if let Some(last) = sections.last_mut() {
            last.1 += &format!("{line}\n");
        }
    }
    sections
}

#[test]
fn partial_configuration_replaces_its_section() {
    let whole = "# x\nmaglev:\n  vpp:\n    lb: {}\n  backends:\n    a: 1\n\n    b: 2\n  frontends: {}\n";
    assert_eq!(
        put("# why\nbackends:\n  c: 3\nfrontends: []\n", whole),
        "# x\nmaglev:\n  vpp:\n    lb: {}\n  # why\n  backends:\n    c: 3\n  frontends: []\n"
    );
    assert_eq!(put("api: {}\n", whole), format!("{whole}  api: {{}}\n"));
}
