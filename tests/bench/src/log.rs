//! Follows what a program writes, and when.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// A file that grows.
pub struct Log {
    file: File,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Log {
    /// From its beginning on.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, rest: Vec::new() })
    }

    /// The lines that have come since the last time.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Hands each line to `hear` as soon as it has come, until `end`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn follow(&mut self, end: Instant, mut hear: impl FnMut(&str, Instant)) -> io::Result<()> {
        while Instant::now() < end {
            for line in self.lines()? {
                hear(&line, Instant::now());
            }
            thread::sleep(GLANCE.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntw").unwrap();
        let mut log = Log::open(&path).unwrap();
        assert_eq!(log.lines().unwrap(), ["one"]);
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(log.lines().unwrap(), ["two"]);
    }
}
