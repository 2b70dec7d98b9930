//! Tests named on the reliability page exist.

use std::fs;

use maglev_tests::docs::page::{path, read};

/// Directories of integration tests.
const DIRECTORIES: [&str; 8] = [
    "tests/tests",
    "tests/bench/tests",
    "tests/sim/tests",
    "tests/fuzz/tests",
    "prober/tests",
    "controller/core/tests",
    "controller/tests",
    "maglevc/tests",
];

/// Packages whose unit tests are named, and their source directories.
const PACKAGES: [(&str, &str); 4] = [
    ("maglevd", "controller/src"),
    ("maglev-core", "controller/core/src"),
    ("maglev-vpp", "controller/vpp/src"),
    ("maglevd-prober", "prober/src"),
];

#[test]
fn tests_named_on_page_exist() {
    let page = read("docs/reliability.md");
    let rows = page.lines().filter(|line| line.starts_with("| "));
    // | a fault | its outcome | `binary::module::test` | ... |
    let names: Vec<_> =
        rows.flat_map(|row| row.split('`').skip(1).step_by(2).filter(|word| word.contains("::"))).collect();
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> = names.into_iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "docs/reliability.md names tests that do not exist: {missing:?}");
}

/// True if `name`, as `binary::module::test` or `package::module::tests::test`, is a test in the workspace.
fn is_test(name: &str) -> bool {
    let words: Vec<_> = name.split("::").collect();
    let [root, modules @ .., test] = &words[..] else { return false };
    let places = roots(root).into_iter().flat_map(|root| places(&root, modules));
    let mut texts = places.filter_map(|file| fs::read_to_string(path(&file)).ok());
    let heads = ["", "async "].map(|kind| format!("{kind}fn {test}()"));
    // A test module may be inline in the file it tests.
    texts.any(|text| {
        heads.iter().any(|head| ["]\n", "]\n    "].iter().any(|at| text.contains(&format!("{at}{head}"))))
    })
}

/// Returns the source directories of a binary or package.
fn roots(name: &str) -> Vec<String> {
    match PACKAGES.iter().find(|(package, _)| *package == name) {
        Some((_, source)) => vec![(*source).to_owned()],
        None => DIRECTORIES.iter().map(|directory| format!("{directory}/{name}")).collect(),
    }
}

/// Returns the files that may contain a module.
fn places(root: &str, modules: &[&str]) -> Vec<String> {
    let whole = [&[root], modules].concat().join("/");
    let outer = whole.rsplit_once('/').map_or("", |(outer, _)| outer);
    ["", "/mod", "/main"]
        .iter()
        .flat_map(|file| [format!("{whole}{file}.rs"), format!("{outer}{file}.rs")])
        .collect()
}
