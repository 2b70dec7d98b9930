//! Links point to existing targets.

use std::collections::BTreeMap;

use maglev_tests::docs::page::{self, Page, path};

#[test]
fn every_link_has_a_target() {
    let pages: BTreeMap<_, _> = page::all().into_iter().map(|page| (page.name.clone(), page)).collect();
    assert!(pages.len() > 10);
    let links = pages.values().flat_map(|page| page.links.iter().map(move |link| (page, link)));
    let dead: Vec<_> = links
        .filter_map(|(page, link)| {
            Some(format!("{}:{}: {}", page.name, link.line, fault(&pages, page, &link.to)?))
        })
        .collect();
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Returns the error of a link on a page.
fn fault(pages: &BTreeMap<String, Page>, page: &Page, to: &str) -> Option<String> {
    if let Some((scheme, rest)) = to.split_once("://") {
        let host = rest.split(['/', '#', '?']).next().unwrap_or_default();
        let good = ["http", "https"].contains(&scheme)
            && !host.is_empty()
            && !rest.contains(char::is_whitespace)
            && host.chars().all(|c| c.is_ascii_alphanumeric() || ['.', '-', ':', '[', ']'].contains(&c));
        return (!good).then(|| format!("{to} is not a valid URL"));
    }
    let (file, anchor) = to.split_once('#').map_or((to, None), |(file, anchor)| (file, Some(anchor)));
    if file.starts_with('/') || file.contains(':') {
        return Some(format!("{to} leads out of the repository"));
    }
    let target = if file.is_empty() { Some(page.name.clone()) } else { relative(&page.name, file) };
    let Some(target) = target else { return Some(format!("{to} leads out of the repository")) };
    if !path(&target).exists() {
        return Some(format!("{target} does not exist"));
    }
    let anchor = anchor?;
    match pages.get(&target) {
        Some(page) if page.anchors.iter().any(|it| it == anchor) => None,
        Some(page) => Some(format!("{target} has no #{anchor}, but {:?}", page.anchors)),
        None => Some(format!("{target} has no anchors")),
    }
}

/// Resolves `file`, relative to a page, to a path in the repository.
fn relative(page: &str, file: &str) -> Option<String> {
    let mut directories: Vec<_> = page.split('/').collect();
    directories.pop();
    for part in file.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => _ = directories.pop()?,
            part => directories.push(part),
        }
    }
    Some(directories.join("/"))
}

#[test]
fn broken_links_are_detected() {
    let pages: BTreeMap<_, _> =
        ["README.md", "docs/vpp.md"].map(|name| (name.to_owned(), Page::read(name))).into();
    for (page, to, is_wrong) in [
        ("README.md", "docs/vpp.md", false),
        ("README.md", "docs", false),
        ("docs/vpp.md", "../README.md", false),
        ("docs/vpp.md", "../../README.md", true),
        ("docs/vpp.md", "README.md", true),
        ("README.md", "/etc/passwd", true),
        ("README.md", "file:///etc/passwd", true),
        ("README.md", "#nowhere", true),
        ("README.md", "docs/vpp.md#nowhere", true),
        ("README.md", "LICENSE#top", true),
        ("README.md", "https://fd.io/x#y", false),
        ("README.md", "https://", true),
        ("README.md", "https://fd io/", true),
    ] {
        assert_eq!(fault(&pages, &pages[page], to).is_some(), is_wrong, "{to} on {page}");
    }
}
