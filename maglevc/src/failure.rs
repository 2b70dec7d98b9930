//! Errors, as users see them.

use std::{fmt, io};

use serde_json::json;
use tonic::Code;

use crate::OutputFormat;
use crate::command::CommandError;
use crate::screen::Screen;

/// One line of text, and the gRPC code of the error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    code: Code,
    text: String,
    interrupt: bool,
}

impl Failure {
    /// Creates a failure.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), interrupt: false }
    }

    /// Creates the failure for a command that Ctrl-C ended.
    pub fn interrupt() -> Self {
        Self { interrupt: true, ..Self::new(Code::Cancelled, "interrupted") }
    }

    /// Reports whether Ctrl-C ended the command.
    pub const fn is_interrupt(&self) -> bool {
        self.interrupt
    }

    /// Creates the failure for a server without connection.
    pub fn unreachable(error: &anyhow::Error) -> Self {
        Self::new(Code::Unavailable, format!("{error:#}"))
    }

    /// Creates the failure for an output that cannot be written.
    pub fn unwritten(error: &io::Error) -> Self {
        Self::new(Code::Internal, format!("cannot write: {error}"))
    }

    /// Creates the failure for an invalid command.
    pub fn mistaken(mistake: CommandError) -> Self {
        Self::new(Code::InvalidArgument, mistake.text)
    }

    /// Returns the failure with the line number of a batch.
    pub fn at_line(self, line: usize) -> Self {
        Self { text: format!("line {line}: {}", self.text), ..self }
    }

    /// Formats the failure for standard error.
    pub fn render(&self, output: OutputFormat, screen: Screen) -> String {
        match output {
            OutputFormat::Text => screen.error(&self.text),
            OutputFormat::Json => json!({ "error": self.text, "code": self.code_name() }).to_string(),
        }
    }

    /// Returns the code in gRPC's spelling.
    fn code_name(&self) -> String {
        let mut name = String::new();
        for c in format!("{:?}", self.code).chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::ColorChoice;

    #[test]
    fn json_error_has_code_without_colour() {
        let failure = Failure::new(Code::PermissionDenied, "no \"way\"");
        let screen = Screen::new(ColorChoice::Always, false);
        assert_eq!(
            failure.render(OutputFormat::Json, screen),
            r#"{"error":"no \"way\"","code":"PERMISSION_DENIED"}"#
        );
        assert_eq!(failure.render(OutputFormat::Text, screen), "\x1b[31mno \"way\"\x1b[0m");
    }
}
