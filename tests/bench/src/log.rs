//! Reader of a growing log file with time stamps.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A growing file.
pub struct LogReader {
    file: File,
    /// Incomplete last line.
    rest: Vec<u8>,
}

impl LogReader {
    /// Opens a file from its beginning.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, rest: Vec::new() })
    }

    /// Returns the complete lines since the last call.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Passes each new line to `on_line` until `end`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn follow(&mut self, end: Instant, mut on_line: impl FnMut(&str, Instant)) -> io::Result<()> {
        while Instant::now() < end {
            for line in self.lines()? {
                on_line(&line, Instant::now());
            }
            thread::sleep(POLL_INTERVAL.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_are_returned() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "one\ntw").unwrap();
        let mut log = LogReader::open(&path).unwrap();
        assert_eq!(log.lines().unwrap(), ["one"]);
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(log.lines().unwrap(), ["two"]);
    }
}
