//! The terminals on the pages show what is to be seen.

use maglev_lab::container;
use maglev_tests::docs::page;
use maglev_tests::docs::play::{acts, is_played, play};
use maglev_tests::docs::stage::{CONFIG, Stage};

#[test]
fn the_terminals_on_the_pages_show_what_is_so() {
    if container::skip("the_terminals_on_the_pages_show_what_is_so") {
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
