//! The threat model of `docs/security.md`: each of its claims names the tests that hold it.

#![cfg(test)]

use maglev_house::Repository;

/// Section of the page whose list items are claims.
const SECTION: &str = "## Who can do what";

/// Returns the items of the lists in a section.
fn claims(page: &str) -> Vec<String> {
    let section = page.split_once(SECTION).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let paragraphs = section.split("\n\n").flat_map(|paragraph| paragraph.split("\n* ").skip(1));
    let starts = section.split("\n\n").filter_map(|paragraph| paragraph.strip_prefix("* "));
    let first = starts.map(|paragraph| paragraph.split("\n* ").next().unwrap_or_default());
    first.chain(paragraphs).map(|claim| claim.replace("\n  ", " ")).collect()
}

/// Returns the names after `Test:` or `Tests:`.
fn tests(claim: &str) -> Vec<&str> {
    let named = claim.split_once("Tests: ").or_else(|| claim.split_once("Test: "));
    named.map_or(Vec::new(), |(_, names)| names.split('`').skip(1).step_by(2).collect())
}

#[test]
fn claims_of_threat_model_name_their_tests() {
    let Some(repository) = Repository::open() else {
        return println!("SKIP claims_of_threat_model_name_their_tests: no git checkout");
    };
    let page = std::fs::read_to_string(repository.root().join("docs/security.md")).unwrap();
    let sources: String = repository.texts(".rs").map(|(_, text)| text).collect();
    let claims = claims(&page);
    assert!(claims.len() > 20, "{} claims found", claims.len());
    for claim in &claims {
        let tests = tests(claim);
        assert!(!tests.is_empty(), "no test: {claim}");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}(")), "no test is named {test}: {claim}");
        }
    }
}

#[test]
fn items_of_lists_are_claims() {
    let page = "## Other\n\n* no\n\n## Who can do what\n\n**A**\n\n* one\n  more. Test: `a`.\n* two. Tests: `b`, `c`.\n\n## End\n\n* no\n";
    let found = claims(page);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found.iter().map(|claim| tests(claim)).collect::<Vec<_>>(), [vec!["a"], vec!["b", "c"]]);
}
