//! Prometheus' text format 0.0.4, written straight into one buffer: at 10,000 backends there are hundreds of thousands
//! of lines, each of which would otherwise be a tree of small strings first.

use std::fmt::{Display, Write};

/// The text of a scrape.
#[derive(Debug)]
pub struct Text(String);

/// The types of metric that are written here.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// One family. Without a sample, nothing is written of it.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
    kind: Type,
    help: &'static str,
    begun: bool,
}

impl Text {
    /// An empty text that can grow to `capacity` in place.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(String::with_capacity(capacity))
    }

    /// Begins a family.
    pub fn family(&mut self, name: &'static str, kind: Type, help: &'static str) -> Family<'_> {
        Family { out: &mut self.0, name, kind, help, begun: false }
    }

    /// A family of one gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.family(name, Type::Gauge, help).sample(&[], value);
    }

    /// What was written.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Writes one sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.begin();
        self.out.push_str(self.name);
        if !labels.is_empty() {
            self.out.push('{');
            push_labels(self.out, labels);
            self.out.push('}');
        }
        push_value(self.out, value);
    }

    /// Writes one sample for each of `states`: 1 for the one that is so, 0 for the others. `labels` are
    /// [`prepared`](labels).
    pub fn one_hot<'s>(&mut self, labels: &str, states: impl Iterator<Item = (&'s str, bool)>) {
        self.begin();
        for (state, is) in states {
            self.out.extend([
                self.name,
                "{",
                labels,
                ",state=\"",
                state,
                if is { "\"} 1\n" } else { "\"} 0\n" },
            ]);
        }
    }

    /// Writes a histogram from the counts of its buckets, the last of which has no bound, and the sum. `labels` are
    /// [`prepared`](labels).
    pub fn histogram(&mut self, labels: &str, bounds: &[&str], counts: &[u64], sum: f64) {
        self.begin();
        let mut total = 0;
        for (bound, count) in bounds.iter().chain(&["+Inf"]).zip(counts) {
            total += count;
            self.out.extend([self.name, "_bucket{", labels, ",le=\"", bound, "\"}"]);
            push_value(self.out, total);
        }
        self.out.extend([self.name, "_sum{", labels, "}"]);
        push_value(self.out, sum);
        self.out.extend([self.name, "_count{", labels, "}"]);
        push_value(self.out, total);
    }

    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let kind = match self.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        self.out.extend(["# HELP ", self.name, " ", self.help, "\n# TYPE ", self.name, " ", kind, "\n"]);
    }
}

/// Labels in the format's own writing, without the braces, for use in several lines.
pub fn labels(labels: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(96);
    push_labels(&mut out, labels);
    out
}

fn push_labels(out: &mut String, labels: &[(&str, &str)]) {
    for (i, (name, value)) in labels.iter().enumerate() {
        out.extend([if i == 0 { "" } else { "," }, name, "=\""]);
        push_escaped(out, value);
        out.push('"');
    }
}

fn push_escaped(out: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes()[0] {
            b'\\' => "\\\\",
            b'"' => "\\\"",
            _ => "\\n",
        });
        rest = &special[1..];
    }
    out.push_str(rest);
}

fn push_value(out: &mut String, value: impl Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, " {value}");
}
