//! The manual pages and the files that the package brings say what is so.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use maglev_tests::programs::program;

#[test]
fn maglevd_8_has_every_option_and_variable() {
    compare("maglevd", "docs/man/maglevd.8");
}

#[test]
fn maglevd_prober_8_has_every_option() {
    compare("maglevd-prober", "docs/man/maglevd-prober.8");
}

#[test]
fn maglev_yaml_5_has_every_key() {
    // | `interval` | `2s` | ...
    let guide: BTreeSet<_> = read("docs/config-guide.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
        .flat_map(|(keys, _)| {
            keys.split(", ").map(|key| key.trim_matches('`').to_owned()).collect::<Vec<_>>()
        })
        .collect();
    // .It Cm rise : Ar n , Cm fall : Ar n
    let page: BTreeSet<_> = read("docs/man/maglev.yaml.5")
        .lines()
        .filter_map(|line| line.strip_prefix(".It "))
        .flat_map(|line| line.split(" , ").filter_map(key).collect::<Vec<_>>())
        .collect();
    assert!(guide.len() > 30, "{guide:?}");
    assert_same(&guide, &page);
}

#[test]
fn the_configuration_in_maglev_yaml_5_is_good() {
    let page = read("docs/man/maglev.yaml.5");
    let (_, rest) = page.split_once(".Bd -literal -offset indent\nmaglev:").unwrap();
    let (yaml, _) = rest.split_once(".Ed").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maglev.yaml");
    fs::write(&file, format!("maglev:{yaml}")).unwrap();
    check(&file);
}

#[test]
fn the_configuration_that_is_installed_is_good_and_harmless() {
    let file = path("debian/etc/vpp-maglev/maglev.yaml");
    check(&file);
    let said: Vec<_> = fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let sections =
        ["maglev:", "vpp:", "lb:", "foreign-vips: keep", "healthchecks:", "backends:", "frontends:"];
    assert_eq!(said, sections);
}

#[test]
fn the_package_has_the_version_of_the_programs() {
    // vpp-maglev (0.1.0) unstable; urgency=medium
    let changelog = read("debian/changelog");
    let version = changelog.split(['(', ')']).nth(1).unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_test_that_the_reliability_page_names_is_there() {
    let page = read("docs/reliability.md");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    // | a fault | its outcome | `binary::module::test` | ... |
    let names: Vec<_> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2).filter(|word| word.contains("::"))).collect();
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> = names.into_iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "docs/reliability.md names {missing:?}, which are no tests");
}

/// Whether `name`, `binary::test` or `binary::module::test`, is a test of the workspace.
fn is_test(name: &str) -> bool {
    let (place, test) = name.rsplit_once("::").unwrap();
    let (binary, module) = place.split_once("::").unwrap_or((place, "main"));
    let files = [format!("{binary}.rs"), format!("{binary}/{module}.rs")];
    let folders =
        ["tests/tests", "prober/tests", "controller/core/tests", "controller/tests", "maglevc/tests"];
    let texts = folders.iter().flat_map(|folder| files.iter().map(move |file| path(folder).join(file)));
    let mut texts = texts.filter_map(|file| fs::read_to_string(file).ok());
    texts.any(|text| ["", "async "].iter().any(|kind| text.contains(&format!("]\n{kind}fn {test}()"))))
}

fn compare(name: &str, page: &str) {
    let output = Command::new(program(name).unwrap()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let page = read(page);
    assert_same(&options_of_help(&help), &options_of_page(&page));
    // [env: MAGLEV_CONFIG=]
    let variables = help.lines().filter_map(|line| line.trim().strip_prefix("[env: ")?.split_once('='));
    let in_page = page.lines().filter_map(|line| line.strip_prefix(".It Ev MAGLEV_"));
    assert_same(
        &variables.map(|(name, _)| name.to_owned()).collect(),
        &in_page.map(|name| format!("MAGLEV_{name}")).collect(),
    );
}

/// Of lines such as `  -h, --help` and `      --config <FILE>`, `--help` and `--config`.
fn options_of_help(help: &str) -> BTreeSet<String> {
    let options = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    options
        .filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")))
        .map(str::to_owned)
        .collect()
}

/// Of lines such as `.It h , Fl Fl help` and `.It Fl Fl config Ar file`, the same.
fn options_of_page(page: &str) -> BTreeSet<String> {
    let items = page.lines().filter_map(|line| line.strip_prefix(".It Fl "));
    let names = items.filter_map(|item| item.split("Fl ").last()?.split(' ').next());
    names.map(|name| format!("--{name}")).collect()
}

/// Of `Cm rise : Ar n`, `rise`.
fn key(item: &str) -> Option<String> {
    let (key, _) = item.strip_prefix("Cm ")?.split_once(" : ")?;
    Some(key.to_owned())
}

fn assert_same(said: &BTreeSet<String>, manual: &BTreeSet<String>) {
    let missing: Vec<_> = said.difference(manual).collect();
    let superfluous: Vec<_> = manual.difference(said).collect();
    assert!(
        missing.is_empty() && superfluous.is_empty(),
        "the manual page lacks {missing:?} and has {superfluous:?} too many"
    );
}

fn check(file: &Path) {
    let output =
        Command::new(program("maglevd").unwrap()).arg("--check").arg("--config").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}
