//! The tests that hold what the page on reliability says.

use std::fs;

use maglev_tests::docs::page::{path, read};

/// Where integration tests are.
const FOLDERS: [&str; 5] =
    ["tests/tests", "prober/tests", "controller/core/tests", "controller/tests", "maglevc/tests"];

#[test]
fn every_test_that_the_page_names_is_there() {
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
    let Some((place, test)) = name.rsplit_once("::") else { return false };
    let (binary, module) = place.split_once("::").unwrap_or((place, "main"));
    let files = [format!("{binary}.rs"), format!("{binary}/{module}.rs")];
    let texts = FOLDERS.iter().flat_map(|folder| files.iter().map(move |file| path(folder).join(file)));
    let mut texts = texts.filter_map(|file| fs::read_to_string(file).ok());
    texts.any(|text| ["", "async "].iter().any(|kind| text.contains(&format!("]\n{kind}fn {test}()"))))
}
