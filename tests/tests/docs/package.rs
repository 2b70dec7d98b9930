//! Contents of the package.

use std::process::Command;

use maglev_tests::docs::page::{path, read};

use crate::flags::of_help;

#[test]
fn installed_configuration_changes_nothing() {
    let file = read("debian/etc/vpp-maglev/maglev.yaml");
    let lines = file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sections =
        ["maglev:", "vpp:", "lb:", "foreign-vips: keep", "healthchecks:", "backends:", "frontends:"];
    assert_eq!(lines.collect::<Vec<_>>(), sections);
}

#[test]
fn package_version_matches_programs() {
    // vpp-maglev (0.1.0) unstable; urgency=medium
    let changelog = read("debian/changelog");
    assert_eq!(changelog.split(['(', ')']).nth(1), Some(env!("CARGO_PKG_VERSION")));
}

#[test]
fn installed_environment_shows_defaults() {
    let file = read("debian/etc/default/vpp-maglev");
    let flags = of_help("maglevd");
    let shown = file.lines().filter_map(|line| line.strip_prefix("#MAGLEV_")?.split_once('='));
    let mut compared = 0;
    for (name, value) in shown {
        let name = format!("MAGLEV_{name}");
        let flag = flags.values().find(|flag| flag.variable.as_deref() == Some(&name));
        let flag = flag.unwrap_or_else(|| panic!("maglevd has no {name}"));
        if let Some(default) = &flag.default {
            assert_eq!(value, default, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 3);
}

#[test]
fn manuals_are_well_formed() {
    for manual in ["maglev.yaml.5", "maglevc.1", "maglevd-prober.8", "maglevd.8"] {
        let file = path("docs/man").join(manual);
        match Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(file).output() {
            Ok(lint) => assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout)),
            Err(_) => println!("SKIP manuals_are_well_formed: needs mandoc"),
        }
    }
}

#[test]
fn changelogs_list_the_same_releases() {
    // ## [0.1.0] - 2026-11-22
    let changes = read("CHANGELOG.md");
    let documented: Vec<_> = changes
        .lines()
        .filter_map(|line| line.strip_prefix("## [")?.split_once("] - "))
        .map(|(version, date)| (version.to_owned(), date.to_owned()))
        .collect();
    assert_eq!(documented, packaged(&read("debian/changelog")));
}

/// Returns the releases in a Debian changelog, newest first: version and date as in `2026-11-22`.
fn packaged(changelog: &str) -> Vec<(String, String)> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // vpp-maglev (0.1.0) unstable; urgency=medium
    let versions = changelog.lines().filter_map(|line| line.strip_prefix("vpp-maglev (")?.split(')').next());
    //  -- Somebody <somebody@example.org>  Sun, 22 Nov 2026 12:00:00 +0000
    let dates = changelog.lines().filter(|line| line.starts_with(" -- ")).map(|line| {
        let words: Vec<_> = line.rsplit_once(", ").unwrap().1.split(' ').collect();
        let month = MONTHS.find(words[1]).unwrap() / 3 + 1;
        format!("{}-{month:02}-{:0>2}", words[2], words[0])
    });
    versions.map(str::to_owned).zip(dates).collect()
}
