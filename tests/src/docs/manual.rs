//! Parser of mdoc manual pages.

use super::page::read;

/// A manual page as lines.
pub struct Manual {
    text: String,
}

/// An item of a list.
#[derive(Debug)]
pub struct ManualItem {
    /// Text after `.It`.
    pub head: String,
    /// Text that follows, without macros.
    pub body: String,
    /// Section of the item.
    pub section: String,
}

impl Manual {
    /// Reads a manual.
    #[must_use]
    pub fn read(name: &str) -> Self {
        Self { text: read(name) }
    }

    /// Returns the literal displays.
    #[must_use]
    pub fn displays(&self) -> Vec<String> {
        let blocks = self.text.split("\n.Bd -literal").skip(1);
        let texts = blocks.filter_map(|block| block.split_once('\n')?.1.split_once(".Ed"));
        texts.map(|(text, _)| text.replace("\\(dq", "\"").replace("\\&", "")).collect()
    }

    /// Returns the items of all lists.
    #[must_use]
    pub fn items(&self) -> Vec<ManualItem> {
        let (mut items, mut section) = (Vec::<ManualItem>::new(), String::new());
        for line in self.text.lines() {
            if let Some(name) = line.strip_prefix(".Sh ").or(line.strip_prefix(".Ss ")) {
                name.clone_into(&mut section);
            } else if let Some(head) = line.strip_prefix(".It ") {
                items.push(ManualItem {
                    head: head.to_owned(),
                    body: String::new(),
                    section: section.clone(),
                });
            } else if let Some(item) = items.last_mut() {
                let words = line.trim_start_matches('.').split(' ');
                // A macro has two letters, of which the first is a capital.
                let is_macro =
                    |word: &&str| word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
                for word in words.filter(|word| !is_macro(word)) {
                    item.body.push(' ');
                    item.body += &word.replace("\\(dq", "\"").replace("\\&", "");
                }
            }
        }
        items
    }

    /// Returns the heads of items that begin with that macro.
    #[must_use]
    pub fn heads(&self, kind: &str) -> Vec<String> {
        let items = self.items();
        items
            .iter()
            .filter_map(|item| Some(item.head.strip_prefix(kind)?.strip_prefix(' ')?.to_owned()))
            .collect()
    }
}
