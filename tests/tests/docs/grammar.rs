//! `maglevc`'s help, the manual and the guide list the same commands.

use std::collections::BTreeSet;
use std::process::Command;

use maglev_lab::programs::program;
use maglev_tests::docs::manual::Manual;
use maglev_tests::docs::page;

use crate::assert_same;

/// Returns every command in `maglevc help`.
pub fn commands() -> Vec<String> {
    let help = Command::new(program("maglevc").unwrap()).args(["--output", "json", "help"]).output().unwrap();
    let help: serde_json::Value = serde_json::from_slice(&help.stdout).unwrap();
    let commands = help["commands"].as_array().unwrap().iter();
    commands.map(|command| command["usage"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn manual_documents_every_command() {
    let documented: Vec<_> =
        Manual::read("docs/man/maglevc.1").heads("Ic").iter().map(|head| plain(head)).collect();
    assert_eq!(documented, commands());
}

/// Returns the head of an item without macros.
fn plain(head: &str) -> String {
    let mut words = Vec::new();
    let mut open = 0;
    for word in head.split_whitespace() {
        match word {
            "Ic" | "Ar" | "Cm" | "Fl" => {}
            "Oo" => words.push("["),
            "Oc" => words.push("]"),
            // `Op` extends to the end of the line.
            "Op" => {
                words.push("[");
                open += 1;
            }
            word => words.push(word),
        }
    }
    words.extend(std::iter::repeat_n("]", open));
    words.join(" ").replace("[ ", "[").replace(" ]", "]").replace(" | ", "|")
}

#[test]
fn guide_documents_every_command() {
    let pages = page::all();
    let tables = pages.iter().flat_map(|page| page.tables("command"));
    let tables = tables.filter(|table| table.head[1].text == "does" && table.about(&["maglevc"]).is_some());
    let documented: BTreeSet<_> =
        tables.flat_map(|table| &table.rows).flat_map(|row| row[0].codes.clone()).collect();
    assert_same("commands of the guide", &documented, &commands().into_iter().collect());
}
