//! Terminal sessions on the pages match the real output.

use maglev_lab::container;
use maglev_tests::docs::documented_host::{CONFIG, DocumentedHost};
use maglev_tests::docs::page;
use maglev_tests::docs::play::{has_sessions, run_sessions, split_sessions};

#[test]
fn documented_terminal_sessions_match_output() {
    if container::skip("documented_terminal_sessions_match_output") {
        return;
    }
    let mut differences = Vec::new();
    for page in page::all() {
        let (parts, _) = split_sessions(&page);
        if has_sessions(parts) {
            differences.extend(run_sessions(&page, parts, &mut DocumentedHost::running(&page::read(CONFIG))));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
