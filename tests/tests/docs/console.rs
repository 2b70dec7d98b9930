//! Terminal sessions on the pages match the real output.

use maglev_lab::container;
use maglev_tests::docs::page;
use maglev_tests::docs::play::{acts, is_played, play};
use maglev_tests::docs::documented_host::{CONFIG, Stage};

#[test]
fn documented_terminal_sessions_match_output() {
    if container::skip("documented_terminal_sessions_match_output") {
        return;
    }
    let mut differences = Vec::new();
    for page in page::all() {
        let (parts, _) = acts(&page);
        if is_played(parts) {
            differences.extend(play(&page, parts, &mut Stage::set(&page::read(CONFIG))));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
