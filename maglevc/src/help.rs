//! The list of commands, and the help at the cursor.

use serde_json::{Value, json};

use crate::grammar::{COMMANDS, Node, Then};
use crate::screen::Screen;
use crate::table::{Table, text};

/// Longer usages have their help on a separate line.
const LONGEST: usize = 32;

/// A usage line and its help.
struct Usage {
    usage: String,
    help: &'static str,
}

/// Formats the list of commands.
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

/// Formats the list of commands as JSON.
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

/// Formats the optional nodes, each in brackets.
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

/// Formats the suggestions at the cursor: keywords, values, live names with their description, and the end of the
/// command.
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
