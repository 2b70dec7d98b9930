//! Output of the demo.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Width of the bar of a server with all buckets.
const BAR: u32 = 30;

/// Standard output. Output is append-only.
pub struct DemoScreen {
    is_terminal: bool,
    colors: bool,
}

/// One server in the table.
pub struct TableRow<'a> {
    /// Name of the server.
    pub name: &'a str,
    /// Pool.
    pub pool: &'a str,
    /// Health in maglevd.
    pub health: &'a str,
    /// Weight in VPP; `None` if VPP lacks the server.
    pub weight: Option<u8>,
    /// Number of its buckets in VPP's Maglev table.
    pub buckets: u32,
}

impl Default for DemoScreen {
    fn default() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_terminal, colors: is_terminal && !no_color }
    }
}

impl DemoScreen {
    /// True if output goes to a terminal.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Prints a heading.
    ///
    /// # Errors
    /// If standard output is closed; the same below.
    pub fn title(&self, title: &str) -> io::Result<()> {
        writeln!(io::stdout(), "\n{}", self.paint("1", title))
    }

    /// Prints sentences.
    ///
    /// # Errors
    /// As above.
    pub fn say(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{text}")
    }

    /// Prints an event with its time since the start of the act, in the colour of `health`.
    ///
    /// # Errors
    /// As above.
    pub fn event(&self, after: Duration, what: &str, health: &str) -> io::Result<()> {
        let after = format!("{:6.3} s", after.as_secs_f64());
        writeln!(io::stdout(), "  {}  {}", self.paint("2", &after), self.health(health, what))
    }

    /// Prints VPP's table.
    ///
    /// # Errors
    /// As above.
    pub fn table(&self, rows: &[TableRow<'_>]) -> io::Result<()> {
        let total: u32 = rows.iter().map(|row| row.buckets).sum();
        writeln!(io::stdout(), "\n  server  pool      health   weight in VPP  share of VPP's buckets")?;
        for row in rows {
            let weight = row.weight.map_or("-".into(), |weight| weight.to_string());
            let health = self.health(row.health, &format!("{:<8}", row.health));
            let bar = "#".repeat((row.buckets * BAR).checked_div(total).unwrap_or(0) as usize);
            let percent = f64::from(row.buckets) * 100.0 / f64::from(total.max(1));
            let line =
                format!("  {:<7} {:<9} {health} {weight:<14} {percent:5.1} %  {bar}", row.name, row.pool);
            writeln!(io::stdout(), "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Paints up green and down red.
    fn health(&self, health: &str, text: &str) -> String {
        match health {
            "up" => self.paint("32", text),
            "down" => self.paint("31", text),
            _ => text.into(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colors { format!("\x1b[{code}m{text}\x1b[m") } else { text.into() }
    }
}
