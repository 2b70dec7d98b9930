//! Scrapes of `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// Sends a `GET` of `path` with `headers`, each with its line end, and returns the body.
///
/// # Panics
/// If the answer is not 200.
#[must_use]
pub fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // HTTP/1.0 avoids a chunked answer.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(head.split(' ').nth(1), Some("200"), "{head}");
    body.to_owned()
}

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    /// Samples by name and labels, as written.
    pub samples: BTreeMap<String, f64>,
    /// Declared families.
    pub families: BTreeSet<String>,
}

impl Scrape {
    /// Scrapes the daemon at `address`.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn fetch(address: SocketAddr) -> Self {
        Self::read(&get(address, "/metrics", ""))
    }

    fn read(body: &str) -> Self {
        let samples = body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        let families = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        Self { samples: samples.collect(), families: families.map(str::to_owned).collect() }
    }

    /// Returns the value of the sample of `name` with all of `labels`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[&str]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} with {labels:?} in {:#?}", self.samples))
    }

    /// Returns the value of the first sample of `name` with all of `labels`.
    #[must_use]
    pub fn find(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let is_it = |key: &str| {
            key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && labels.iter().all(|label| key.contains(label))
        };
        self.samples.iter().find(|(key, _)| is_it(key)).map(|(_, value)| *value)
    }
}
