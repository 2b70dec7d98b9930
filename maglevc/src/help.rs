//! The list of commands, and the help at the cursor.

use serde_json::{Value, json};

use crate::grammar::{COMMANDS, GrammarNode, NextNodes};
use crate::screen::Screen;
use crate::table::{Table, text};

/// Longer usages have their help on a separate line.
const LONGEST: usize = 32;

/// A usage line and its help.
struct UsageLine {
    usage: String,
    help: &'static str,
}

/// Formats the list of commands, or of those that begin with `topic`.
pub fn commands(topic: Option<&str>) -> String {
    let usages = usages(topic);
    let short = usages.iter().map(|one| one.usage.len()).filter(|length| *length <= LONGEST);
    let width = short.max().unwrap_or(0);
    let mut text = String::from("Commands:\n");
    for UsageLine { usage, help } in usages {
        text += &if usage.len() <= width {
            format!("  {usage:width$}  {help}\n")
        } else {
            format!("  {usage}\n  {:width$}  {help}\n", "")
        };
    }
    text
}

/// Formats the list of commands as JSON.
pub fn commands_json(topic: Option<&str>) -> Value {
    let all: Vec<Value> =
        usages(topic).into_iter().map(|one| json!({ "usage": one.usage, "help": one.help })).collect();
    json!({ "commands": all })
}

fn usages(topic: Option<&str>) -> Vec<UsageLine> {
    let mut usages = Vec::new();
    collect(COMMANDS, "", &mut usages);
    usages.retain(|one| one.usage.starts_with(topic.unwrap_or_default()));
    usages
}

fn collect(nodes: &[GrammarNode], before: &str, usages: &mut Vec<UsageLine>) {
    for node in nodes {
        let usage = format!("{before}{}", node.token.usage());
        match &node.then {
            NextNodes::Run(_, options) => {
                usages.push(UsageLine { usage: usage + &optional(options), help: node.help });
            }
            NextNodes::One(next) | NextNodes::Maybe(next) => collect(next, &format!("{usage} "), usages),
            NextNodes::Nothing => {}
        }
    }
}

/// Formats the optional nodes, each in brackets.
fn optional(nodes: &[GrammarNode]) -> String {
    nodes.iter().map(|node| format!(" [{}{}]", node.token.usage(), following(&node.then))).collect()
}

fn following(then: &NextNodes) -> String {
    match then {
        NextNodes::Nothing | NextNodes::Run(..) => String::new(),
        NextNodes::Maybe(nodes) => optional(nodes),
        NextNodes::One([only]) => format!(" {}{}", only.token.usage(), following(&only.then)),
        NextNodes::One(several) => {
            let words: Vec<&str> = several.iter().map(|node| node.token.usage()).collect();
            format!(" {}", words.join("|"))
        }
    }
}

/// Formats the suggestions at the cursor: keywords, values, live names with their description, and the end of the
/// command.
pub fn at_cursor(rows: &[(String, String)], screen: Screen) -> String {
    if rows.is_empty() {
        return "  nothing may follow here\n".into();
    }
    let mut table = Table::list().indented();
    for (token, help) in rows {
        table.entry(token, text(help));
    }
    table.render(screen)
}
