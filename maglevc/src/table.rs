//! Tables of text that fit the screen.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::screen::{Screen, TextStyle, printable};

/// Mark of truncated text.
const CUT: char = '…';

/// Headings of columns with addresses: part of an address is of no use.
const ADDRESSES: [&str; 3] = ["address", "vip", "server"];

/// Blanks between columns.
const GAP: usize = 2;

/// A cell.
#[derive(Clone, Debug)]
pub struct TableCell {
    text: String,
    style: TextStyle,
    right: bool,
}

/// Creates a cell of text. An empty text becomes `-`, so that columns can be split at blanks.
pub fn text(text: impl AsRef<str>) -> TableCell {
    let text = text.as_ref();
    let text = if text.is_empty() { "-".into() } else { printable(text).into_owned() };
    TableCell { text, style: TextStyle::Plain, right: false }
}

/// Creates a cell of styled text.
pub fn styled(style: TextStyle, content: impl AsRef<str>) -> TableCell {
    TableCell { style, ..text(content) }
}

/// Creates a cell with a number.
pub fn number(number: impl ToString) -> TableCell {
    TableCell { right: true, ..text(number.to_string()) }
}

/// Creates a cell with an optional number.
pub fn maybe(value: Option<impl ToString>) -> TableCell {
    value.map_or_else(|| TableCell { right: true, ..text("") }, number)
}

/// Rows of cells in aligned columns. A table wider than the screen truncates columns: prose first, names last, numbers
/// and addresses never. Values of a list wrap instead.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<TableCell>>,
    indent: usize,
    list: bool,
    names: &'static [&'static str],
    prose: &'static [&'static str],
}

impl Table {
    /// Creates a table with headings.
    pub fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|h| styled(TextStyle::Heading, h)).collect();
        Self { rows: vec![headings], ..Self::default() }
    }

    /// Creates a list of names and values.
    pub fn list() -> Self {
        Self { list: true, ..Self::default() }
    }

    /// Marks these columns as names, which are truncated last.
    pub fn names(self, names: &'static [&'static str]) -> Self {
        Self { names, ..self }
    }

    /// Marks these columns as prose, which is truncated first.
    pub fn prose(self, prose: &'static [&'static str]) -> Self {
        Self { prose, ..self }
    }

    /// Indents the table.
    pub fn indented(self) -> Self {
        Self { indent: 2, ..self }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = TableCell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a name and its value.
    pub fn entry(&mut self, name: &str, value: TableCell) {
        self.row([styled(TextStyle::Heading, name), value]);
    }

    /// Formats the lines without trailing blanks. A heading is aligned as its column.
    pub fn render(&self, screen: Screen) -> String {
        if self.list { self.render_list(screen) } else { self.render_table(screen) }
    }

    fn render_table(&self, screen: Screen) -> String {
        let widths = self.widths(screen.width());
        let rights: Vec<bool> =
            (0..widths.len()).map(|column| self.column(column).any(|cell| cell.right)).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut left = screen.width().unwrap_or(usize::MAX).saturating_sub(self.indent);
            let mut line = " ".repeat(self.indent);
            for (column, cell) in row.iter().enumerate() {
                let gap = if column == 0 { 0 } else { GAP };
                let width = widths[column].min(left.saturating_sub(gap));
                let content = cut(&cell.text, width);
                if content.is_empty() {
                    break;
                }
                let padding = " ".repeat(width.saturating_sub(content.width()));
                let painted = screen.apply(cell.style, &content);
                let (before, after) =
                    if rights[column] { (padding, String::new()) } else { (String::new(), padding) };
                line.extend([" ".repeat(gap).as_str(), &before, &painted, &after]);
                left = left.saturating_sub(gap + width);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn render_list(&self, screen: Screen) -> String {
        let width = self.column(0).map(TableCell::width).max().unwrap_or(0);
        let hanging = self.indent + width + GAP;
        // A very narrow screen is ignored.
        let room = screen.width().map(|all| all.saturating_sub(hanging)).filter(|room| *room >= 16);
        let mut out = String::new();
        for row in &self.rows {
            let [name, value] = row.as_slice() else { continue };
            let label = screen.apply(name.style, &name.text);
            let padding = " ".repeat(width - name.width() + GAP);
            out.extend([" ".repeat(self.indent).as_str(), &label, &padding]);
            for (index, line) in fold(&value.text, room.unwrap_or(usize::MAX)).into_iter().enumerate() {
                if index > 0 {
                    out += &" ".repeat(hanging);
                }
                out.extend([screen.apply(value.style, line).as_str(), "\n"]);
            }
        }
        out
    }

    fn column(&self, column: usize) -> impl Iterator<Item = &TableCell> {
        self.rows.iter().filter_map(move |row| row.get(column))
    }

    /// Returns the widths of the columns on a screen of this width.
    fn widths(&self, screen: Option<usize>) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths: Vec<usize> =
            (0..columns).map(|column| self.column(column).map(TableCell::width).max().unwrap_or(0)).collect();
        let Some(room) = screen.map(|screen| screen.saturating_sub(self.indent)) else { return widths };
        let gaps = GAP * columns.saturating_sub(1);
        for rank in [CutOrder::Prose, CutOrder::Plain, CutOrder::Name] {
            let of_rank: Vec<usize> = (0..columns).filter(|column| self.rank(*column) == rank).collect();
            while widths.iter().sum::<usize>() + gaps > room {
                let widest = of_rank.iter().copied().filter(|column| widths[*column] > rank.least());
                let Some(widest) = widest.max_by_key(|column| widths[*column]) else { break };
                widths[widest] -= 1;
            }
        }
        widths
    }

    fn rank(&self, column: usize) -> CutOrder {
        let heading = self.rows.first().and_then(|row| row.get(column)).map_or("", |cell| &cell.text);
        if ADDRESSES.contains(&heading) || self.column(column).any(|cell| cell.right) {
            CutOrder::Never
        } else if self.names.contains(&heading) {
            CutOrder::Name
        } else if self.prose.contains(&heading) {
            CutOrder::Prose
        } else {
            CutOrder::Plain
        }
    }
}

/// Order in which columns are truncated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CutOrder {
    Prose,
    Plain,
    Name,
    Never,
}

impl CutOrder {
    /// Returns the minimum width of a column.
    const fn least(self) -> usize {
        match self {
            Self::Prose | Self::Name => 8,
            Self::Plain => 5,
            Self::Never => usize::MAX,
        }
    }
}

impl TableCell {
    fn width(&self) -> usize {
        self.text.width()
    }
}

/// Truncates `text` to `width`.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let mut room = width.saturating_sub(1);
    let fits = |c: &char| {
        let fits = c.width().unwrap_or(0) <= room;
        room = room.saturating_sub(c.width().unwrap_or(0));
        fits
    };
    let kept: String = text.chars().take_while(fits).collect();
    if width == 0 { String::new() } else { format!("{}{CUT}", kept.trim_end()) }
}

/// Wraps `text` to lines of at most `width`, at blanks if possible.
fn fold(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.width() > width {
        let mut used = 0;
        let fits = |(_, c): &(usize, char)| {
            used += c.width().unwrap_or(0);
            used <= width
        };
        let room = rest.char_indices().take_while(fits).last().map_or(1, |(at, c)| at + c.len_utf8());
        let blank = rest[..room].rfind(' ').filter(|at| *at > 0 && !rest[room..].starts_with(' '));
        let (line, after) = rest.split_at(blank.unwrap_or(room));
        lines.push(line);
        rest = after.trim_start();
    }
    lines.push(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::ColorChoice;

    fn plain() -> Screen {
        Screen::new(ColorChoice::Never, false)
    }

    fn table() -> Table {
        let mut table = Table::new(&["name", "state", "weight", "last"]).names(&["name"]).prose(&["last"]);
        table.row([text("nginx0"), styled(TextStyle::Good, "up"), number(100), text("L7OK")]);
        table.row([text("größe"), styled(TextStyle::Bad, "down"), number(5), text("")]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            table().render(plain()),
            "\
name    state  weight  last
nginx0  up        100  L7OK
größe   down        5  -
"
        );
    }

    #[test]
    fn colour_does_not_affect_width() {
        let mut painted = table().render(Screen::new(ColorChoice::Always, false));
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m"] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, table().render(plain()));
    }

    #[test]
    fn wide_characters_count_twice() {
        let mut table = Table::new(&["name", "state"]);
        table.row([text("網頁"), text("up")]);
        assert_eq!(table.render(plain()), "name  state\n網頁  up\n");
    }

    #[test]
    fn prose_is_cut_before_names() {
        let mut table = table();
        table.row([
            text("a-backend-with-a-long-name"),
            text("unknown (stale)"),
            number(7),
            text("L4CON connection refused"),
        ]);
        assert_eq!(
            table.render(plain().fit(Some(70))),
            "\
name                        state            weight  last
nginx0                      up                  100  L7OK
größe                       down                  5  -
a-backend-with-a-long-name  unknown (stale)       7  L4CON connection…
"
        );
        assert_eq!(
            table.render(plain().fit(Some(56))),
            "\
name                        state       weight  last
nginx0                      up             100  L7OK
größe                       down             5  -
a-backend-with-a-long-name  unknown (…       7  L4CON c…
"
        );
        assert_eq!(
            table.render(plain().fit(Some(36))),
            "\
name         state  weight  last
nginx0       up        100  L7OK
größe        down        5  -
a-backend-…  unkn…       7  L4CON c…
"
        );
    }

    #[test]
    fn addresses_are_never_cut() {
        let headings = ["name", "address", "healthcheck", "state", "counter", "since", "last"];
        let mut table = Table::new(&headings).names(&["name"]).prose(&["last"]);
        let address = "2001:db8:1234:5678:9abc:def0:1234:5678";
        let name = "web-frontend-cache-0001.rack07.ams.example.org";
        table.row([
            text(name),
            text(address),
            text("nginx-health"),
            text("up"),
            number(5),
            text("2026-11-22T12:00:00Z"),
            text("L7OK HTTP 200"),
        ]);
        for width in 50..=120 {
            let lines = table.render(plain().fit(Some(width)));
            assert!(lines.contains(address), "{width}:\n{lines}");
            assert!(lines.lines().all(|line| line.width() <= width), "{width}:\n{lines}");
        }
    }

    #[test]
    fn lines_fit_the_screen() {
        let mut list = Table::list();
        list.entry("description", text("a site that has a rather long description, and anunbreakableword"));
        list.entry("größe", text("網頁網頁網頁網頁網頁網頁"));
        for width in 1..80 {
            let screen = plain().fit(Some(width));
            let lines = table().render(screen) + &table().indented().render(screen);
            assert!(lines.lines().all(|line| line.width() <= width), "{width}:\n{lines}");
        }
        for width in 29..80 {
            let lines = list.render(plain().fit(Some(width)));
            assert!(lines.lines().all(|line| line.width() <= width), "{width}:\n{lines}");
        }
    }

    #[test]
    fn list_values_wrap() {
        let mut list = Table::list();
        list.entry("name", text("web"));
        list.entry("description", text("a site that has a rather long description"));
        assert_eq!(
            list.render(plain().fit(Some(34))),
            "\
name         web
description  a site that has a
             rather long
             description
"
        );
    }
}
