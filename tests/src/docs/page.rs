//! Parser of Markdown pages.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd};

/// Directories without documents.
const SKIPPED_DIRECTORIES: [&str; 2] = ["target", ".git"];

/// A page, in reading order.
#[derive(Debug)]
pub struct Page {
    /// Path in the repository.
    pub name: String,
    /// Source text.
    pub text: String,
    /// Parts that tests use.
    pub parts: Vec<PagePart>,
    /// Links.
    pub links: Vec<PageLink>,
    /// Anchors that links may target.
    pub anchors: Vec<String>,
    /// Inline code in sentences and tables.
    pub codes: Vec<String>,
}

/// A part of a page.
#[derive(Clone, Debug)]
pub enum PagePart {
    /// A heading.
    Heading {
        /// Level; 1 is the page title.
        level: HeadingLevel,
        /// Text without markup.
        text: String,
    },
    /// A code block.
    Fence(Fence),
    /// A table.
    Table(Table),
    /// Text of a comment `<!-- stage: … -->`.
    Scene(String),
}

/// A code block.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Language, such as `yaml`; empty if unspecified.
    pub language: String,
    /// Content.
    pub body: String,
    /// Range of the content in the page's text.
    pub range: Range<usize>,
    /// First line, from 1.
    pub line: usize,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Cells of the header.
    pub head: Vec<TableCell>,
    /// Cells of each row.
    pub rows: Vec<Vec<TableCell>>,
    /// Texts of the headings above, nearest first.
    pub below: Vec<String>,
}

/// A table cell.
#[derive(Clone, Debug, Default)]
pub struct TableCell {
    /// Text without markup.
    pub text: String,
    /// Inline code.
    pub codes: Vec<String>,
}

/// A link.
#[derive(Debug)]
pub struct PageLink {
    /// Target.
    pub to: String,
    /// Line, from 1.
    pub line: usize,
}

/// Returns the path of a file in the repository.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Reads a file in the repository.
///
/// # Panics
/// If that fails.
#[must_use]
pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns every page in the repository, by name.
///
/// # Panics
/// If that fails.
#[must_use]
pub fn all() -> Vec<Page> {
    let mut names = Vec::new();
    collect(&path(""), "", &mut names);
    names.sort();
    names.iter().map(|name| Page::parse(name, read(name))).collect()
}

fn collect(directory: &Path, name: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let file = entry.file_name().into_string().unwrap();
        let name = format!("{name}{file}");
        if entry.file_type().unwrap().is_dir() {
            if !SKIPPED_DIRECTORIES.contains(&file.as_str()) {
                collect(&entry.path(), &format!("{name}/"), found);
            }
        } else if file.ends_with(".md") {
            found.push(name);
        }
    }
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn read(name: &str) -> Self {
        Self::parse(name, read(name))
    }

    /// Parses a page.
    #[must_use]
    pub fn parse(name: &str, text: String) -> Self {
        let mut reader = PageReader::new(&text);
        let parser = Parser::new_ext(&text, Options::ENABLE_TABLES | Options::ENABLE_GFM);
        for (event, range) in parser.into_offset_iter() {
            reader.take(event, range);
        }
        let PageReader { parts, links, anchors, codes, .. } = reader;
        Self { name: name.to_owned(), parts, links, anchors, codes, text }
    }

    /// Returns its code blocks in that language.
    pub fn fences(&self, language: &str) -> impl Iterator<Item = &Fence> {
        self.parts.iter().filter_map(move |part| match part {
            PagePart::Fence(fence) if fence.language == language => Some(fence),
            _ => None,
        })
    }

    /// Returns its tables with that heading in the first column.
    pub fn tables(&self, head: &str) -> impl Iterator<Item = &Table> {
        self.parts.iter().filter_map(move |part| match part {
            PagePart::Table(table) if table.head.first().is_some_and(|cell| cell.text == head) => Some(table),
            _ => None,
        })
    }

    /// Returns its first code block with a complete configuration.
    #[must_use]
    pub fn first_configuration(&self) -> Option<&str> {
        self.fences("yaml").map(|fence| fence.body.as_str()).find(|body| first_key(body) == "maglev:")
    }
}

impl Table {
    /// Returns the index of the column with that heading.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn column(&self, head: &str) -> usize {
        let found = self.head.iter().position(|cell| cell.text == head);
        found.unwrap_or_else(|| panic!("no column {head} in {:?}", self.head))
    }

    /// Returns the name in the nearest heading that contains one.
    #[must_use]
    pub fn about<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let words = |heading: &str| heading.split([' ', ',', ':']).map(str::to_owned).collect::<Vec<_>>();
        self.below.iter().find_map(|heading| {
            let words = words(heading);
            names.iter().copied().find(|name| words.iter().any(|word| word == name))
        })
    }
}

/// Returns the first significant line of a YAML text, up to its key.
#[must_use]
pub fn first_key(yaml: &str) -> &str {
    let line = yaml.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let line = line.unwrap_or_default().trim_end();
    line.find(':').map_or(line, |end| &line[..=end])
}

/// Consumer of parser events.
struct PageReader<'a> {
    text: &'a str,
    parts: Vec<PagePart>,
    links: Vec<PageLink>,
    anchors: Vec<String>,
    codes: Vec<String>,
    /// Headings above the next part.
    above: Vec<(HeadingLevel, String)>,
    seen: HashMap<String, usize>,
    /// Text of the current heading or cell.
    words: TableCell,
    table: Table,
    row: Vec<TableCell>,
    fence: Option<Fence>,
}

impl<'a> PageReader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            parts: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
            codes: Vec::new(),
            above: Vec::new(),
            seen: HashMap::new(),
            words: TableCell::default(),
            table: Table::default(),
            row: Vec::new(),
            fence: None,
        }
    }

    fn take(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.begin(tag, range),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.fence {
                Some(fence) => {
                    fence.range = if fence.body.is_empty() { range } else { fence.range.start..range.end };
                    fence.body += &text;
                }
                None => self.words.text += &text,
            },
            Event::Code(code) => {
                self.words.text += &code;
                self.codes.push(code.to_string());
                self.words.codes.push(code.into_string());
            }
            Event::SoftBreak | Event::HardBreak => self.words.text.push(' '),
            Event::Html(html) | Event::InlineHtml(html) => self.html(&html, self.line(range.start)),
            _ => {}
        }
    }

    fn begin(&mut self, tag: Tag<'_>, range: Range<usize>) {
        match tag {
            Tag::Heading { .. } | Tag::TableCell => self.words = TableCell::default(),
            Tag::Table(_) => {
                let below = self.above.iter().rev().map(|(_, text)| text.clone()).collect();
                self.table = Table { below, ..Table::default() };
            }
            Tag::CodeBlock(kind) => {
                let language = match kind {
                    CodeBlockKind::Fenced(info) => info.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                // An empty block has no text event with its position.
                let inside =
                    self.text[range.start..].find('\n').map_or(range.end, |end| range.start + end + 1);
                let (range, line) = (inside..inside, self.line(range.start));
                self.fence = Some(Fence { language, body: String::new(), range, line });
            }
            Tag::Link { link_type, dest_url, .. } if link_type != LinkType::Email => {
                self.links.push(PageLink { to: dest_url.into_string(), line: self.line(range.start) });
            }
            Tag::Image { dest_url, .. } => {
                self.links.push(PageLink { to: dest_url.into_string(), line: self.line(range.start) });
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.words)),
            TagEnd::TableHead => self.table.head = std::mem::take(&mut self.row),
            TagEnd::TableRow => self.table.rows.push(std::mem::take(&mut self.row)),
            TagEnd::Table => self.parts.push(PagePart::Table(std::mem::take(&mut self.table))),
            TagEnd::CodeBlock => self.parts.extend(self.fence.take().map(PagePart::Fence)),
            _ => {}
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let text = std::mem::take(&mut self.words).text;
        let anchor = anchor(&text);
        let before = self.seen.entry(anchor.clone()).or_default();
        self.anchors.push(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
        self.above.retain(|(above, _)| *above < level);
        self.above.push((level, text.clone()));
        self.parts.push(PagePart::Heading { level, text });
    }

    fn html(&mut self, html: &str, line: usize) {
        let scene = html.trim().strip_prefix("<!-- stage:").and_then(|rest| rest.strip_suffix("-->"));
        self.parts.extend(scene.map(|scene| PagePart::Scene(scene.trim().to_owned())));
        self.anchors.extend(attributes(html, "id"));
        let links = attributes(html, "href").chain(attributes(html, "src"));
        self.links.extend(links.map(|to| PageLink { to, line }));
    }

    fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }
}

/// Returns the values of an HTML attribute.
fn attributes(html: &str, name: &str) -> impl Iterator<Item = String> {
    let values = html.split(&format!(" {name}=\"")).skip(1).map(str::to_owned).collect::<Vec<_>>();
    values.into_iter().filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
}

/// Returns the anchor of a heading by GitHub's rule.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# `One` & two\n\ntext [a](b.md#c) and <https://d>\n\n<!-- stage: nginx0 stops -->\n\n```console\n$ a\n\nb\n```\n\n\
                        ## Flags of maglevd\n\n| flag | what |\n|---|---|\n| `--a`, `-b` | [x](y) |\n\n## Flags of maglevd\n";

    #[test]
    fn parts_are_in_page_order() {
        let page = Page::parse("page.md", PAGE.to_owned());
        assert_eq!(page.anchors, ["one--two", "flags-of-maglevd", "flags-of-maglevd-1"]);
        let links: Vec<_> = page.links.iter().map(|link| (link.to.as_str(), link.line)).collect();
        assert_eq!(links, [("b.md#c", 3), ("https://d", 3), ("y", 17)]);
        let [
            PagePart::Heading { .. },
            PagePart::Scene(scene),
            PagePart::Fence(fence),
            PagePart::Heading { .. },
            PagePart::Table(table),
            _,
        ] = page.parts.as_slice()
        else {
            panic!("{:#?}", page.parts)
        };
        assert_eq!((scene.as_str(), fence.line), ("nginx0 stops", 7));
        assert_eq!(fence.body, "$ a\n\nb\n");
        assert_eq!(PAGE[fence.range.clone()], fence.body);
        assert_eq!(table.rows[0][0].codes, ["--a", "-b"]);
        assert_eq!(table.about(&["maglevc", "maglevd"]), Some("maglevd"));
    }

    #[test]
    fn first_key_follows_comments() {
        assert_eq!(first_key("# why\n\nmaglev:\n  vpp:\n"), "maglev:");
        assert_eq!(first_key("- alert: A\n"), "- alert:");
    }
}
