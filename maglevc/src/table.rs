//! Tables of text.

use crate::style::{Paint, Style, printable};

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
    right: bool,
}

/// A cell of text. Nothing is shown as `-`, so that columns can be told apart by whoever splits them at blanks.
pub fn text(text: impl AsRef<str>) -> Cell {
    let text = text.as_ref();
    let text = if text.is_empty() { "-".into() } else { printable(text).into_owned() };
    Cell { text, style: Style::Plain, right: false }
}

/// A cell of text in a style.
pub fn styled(style: Style, content: impl AsRef<str>) -> Cell {
    Cell { style, ..text(content) }
}

/// A number.
pub fn number(number: impl ToString) -> Cell {
    Cell { right: true, ..text(number.to_string()) }
}

/// A number that may be absent.
pub fn maybe(value: Option<impl ToString>) -> Cell {
    value.map_or_else(|| Cell { right: true, ..text("") }, number)
}

/// Lines of cells in columns of equal width.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table with headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| styled(Style::Heading, h)).collect()], indent: 0 }
    }

    /// A list of names and values.
    pub fn list() -> Self {
        Self::default()
    }

    /// The same, set off from the margin.
    pub fn indented(self) -> Self {
        Self { indent: 2, ..self }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a name and its value.
    pub fn entry(&mut self, name: &str, value: Cell) {
        self.row([styled(Style::Heading, name), value]);
    }

    /// The lines, without blanks at their ends. A heading stands over its column as the column's cells do.
    pub fn render(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> =
            (0..columns).map(|column| cells(column).map(Cell::width).max().unwrap_or(0)).collect();
        let rights: Vec<bool> = (0..columns).map(|column| cells(column).any(|cell| cell.right)).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - cell.width());
                let content = paint.apply(cell.style, &cell.text);
                let (before, after) =
                    if rights[column] { (padding, String::new()) } else { (String::new(), padding) };
                let gap = if column == 0 { "" } else { "  " };
                line.extend([gap, &before, &content, &after]);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

impl Cell {
    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::ColorChoice;

    fn table() -> Table {
        let mut table = Table::new(&["name", "state", "weight", "last"]);
        table.row([text("nginx0"), styled(Style::Good, "up"), number(100), text("L7OK")]);
        table.row([text("größe"), styled(Style::Bad, "down"), number(5), text("")]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            table().render(Paint::new(ColorChoice::Never, false)),
            "\
name    state  weight  last
nginx0  up        100  L7OK
größe   down        5  -
"
        );
    }

    #[test]
    fn colour_does_not_count() {
        let plain = table().render(Paint::new(ColorChoice::Never, false));
        let mut painted = table().render(Paint::new(ColorChoice::Always, false));
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m"] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, plain);
    }
}
