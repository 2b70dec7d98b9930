//! The list of commands, and what may stand at a place in one.

use serde_json::{Value, json};

use crate::grammar::{COMMANDS, Node, Then};
use crate::screen::Screen;
use crate::table::{Table, text};

/// Usages that are longer than this have their help on a line of its own.
const LONGEST: usize = 32;

/// A command, as it is written, and what it does.
struct Usage {
    usage: String,
    help: &'static str,
}

/// The list of commands.
pub fn commands() -> String {
    let usages = usages();
    let short = usages.iter().map(|one| one.usage.len()).filter(|length| *length <= LONGEST);
    let width = short.max().unwrap_or(0);
    let mut text = String::from("Commands:\n");
    for Usage { usage, help } in usages {
        text += &if usage.len() <= width {
            format!("  {usage:width$}  {help}\n")
        } else {
            format!("  {usage}\n  {:width$}  {help}\n", "")
        };
    }
    text
}

/// The list of commands, as JSON.
pub fn commands_json() -> Value {
    let all: Vec<Value> =
        usages().into_iter().map(|one| json!({ "usage": one.usage, "help": one.help })).collect();
    json!({ "commands": all })
}

fn usages() -> Vec<Usage> {
    let mut usages = Vec::new();
    collect(COMMANDS, "", &mut usages);
    usages
}

fn collect(nodes: &[Node], before: &str, usages: &mut Vec<Usage>) {
    for node in nodes {
        let usage = format!("{before}{}", node.token.usage());
        match &node.then {
            Then::Run(_, options) => {
                usages.push(Usage { usage: usage + &optional(options), help: node.help });
            }
            Then::One(next) | Then::Maybe(next) => collect(next, &format!("{usage} "), usages),
            Then::Nothing => {}
        }
    }
}

/// What may follow, each in brackets.
fn optional(nodes: &[Node]) -> String {
    nodes.iter().map(|node| format!(" [{}{}]", node.token.usage(), following(&node.then))).collect()
}

fn following(then: &Then) -> String {
    match then {
        Then::Nothing | Then::Run(..) => String::new(),
        Then::Maybe(nodes) => optional(nodes),
        Then::One([only]) => format!(" {}{}", only.token.usage(), following(&only.then)),
        Then::One(several) => {
            let words: Vec<&str> = several.iter().map(|node| node.token.usage()).collect();
            format!(" {}", words.join("|"))
        }
    }
}

/// What may stand at the cursor: words and values, live names with what is to be said of them, and the end of the command.
pub fn at_cursor(rows: &[(String, String)], screen: Screen) -> String {
    if rows.is_empty() {
        return "  nothing fits here\n".into();
    }
    let mut table = Table::list().indented();
    for (token, help) in rows {
        table.entry(token, text(help));
    }
    table.render(screen)
}
