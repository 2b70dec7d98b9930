//! Encoder of the Prometheus text format 0.0.4 and OpenMetrics 1.0.0. It writes straight into one buffer: 10,000
//! backends have hundreds of thousands of lines, and the crate's encoder would build a tree of small strings for each
//! first.

use std::fmt::Write;

use prometheus::proto::{MetricFamily, MetricType};

/// Exposition format.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExpositionFormat {
    /// Prometheus text, understood by every scraper.
    #[default]
    Text,
    /// OpenMetrics, with rules for names, units and the end.
    OpenMetrics,
}

/// Encoder of a scrape.
#[derive(Debug)]
pub struct TextEncoder {
    out: String,
    format: ExpositionFormat,
}

/// Metric types in use.
#[derive(Clone, Copy, Debug)]
pub enum FamilyType {
    /// Counter.
    Counter,
    /// Gauge.
    Gauge,
    /// Histogram.
    Histogram,
}

/// Value of a sample.
#[derive(Clone, Copy, Debug)]
pub enum SampleValue {
    /// Integer; nearly all values are small ones.
    Whole(u64),
    /// Floating-point number.
    Real(f64),
}

macro_rules! whole {
    ($($number:ty),*) => {
        $(impl From<$number> for SampleValue {
            fn from(number: $number) -> Self {
                Self::Whole(number as u64)
            }
        })*
    };
}

whole!(u8, u32, u64, usize);

impl From<f64> for SampleValue {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Writer of one family. A family without samples writes nothing.
#[derive(Debug)]
pub struct FamilyWriter<'a> {
    out: &'a mut String,
    format: ExpositionFormat,
    name: &'a str,
    kind: FamilyType,
    help: &'a str,
    has_header: bool,
}

impl TextEncoder {
    /// Creates an encoder with a buffer of `capacity` bytes.
    pub fn with_capacity(capacity: usize, format: ExpositionFormat) -> Self {
        Self { out: String::with_capacity(capacity), format }
    }

    /// Begins a family. The name of a counter ends in `_total`.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: FamilyType, help: &'a str) -> FamilyWriter<'a> {
        FamilyWriter { out: &mut self.out, format: self.format, name, kind, help, has_header: false }
    }

    /// Writes a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<SampleValue>) {
        self.family(name, FamilyType::Gauge, help).sample(&[], value);
    }

    /// Writes families gathered by the `prometheus` crate.
    pub fn write_gathered(&mut self, families: &[MetricFamily]) {
        for gathered in families {
            let kind = match gathered.get_field_type() {
                MetricType::COUNTER => FamilyType::Counter,
                MetricType::GAUGE => FamilyType::Gauge,
                MetricType::HISTOGRAM => FamilyType::Histogram,
                // No such metric is registered.
                MetricType::SUMMARY | MetricType::UNTYPED => continue,
            };
            let mut family = self.family(gathered.name(), kind, gathered.help());
            for metric in gathered.get_metric() {
                let pairs: Vec<_> =
                    metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
                match kind {
                    FamilyType::Counter => family.sample(&pairs, metric.get_counter().get_value()),
                    FamilyType::Gauge => family.sample(&pairs, metric.get_gauge().get_value()),
                    FamilyType::Histogram => {
                        let histogram = metric.get_histogram();
                        let buckets = histogram.get_bucket().iter();
                        let buckets = buckets.map(|b| (b.upper_bound().to_string(), b.cumulative_count()));
                        let (sum, count) = (histogram.get_sample_sum(), histogram.get_sample_count());
                        family.buckets(&labels(&pairs), buckets, sum, count);
                    }
                }
            }
        }
    }

    /// Returns the text.
    pub fn into_string(mut self) -> String {
        if self.format == ExpositionFormat::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl FamilyWriter<'_> {
    /// Writes one sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<SampleValue>) {
        self.write_header();
        self.out.push_str(self.name);
        if !labels.is_empty() {
            self.out.push('{');
            push_labels(self.out, labels);
            self.out.push('}');
        }
        push_value(self.out, value);
    }

    /// Writes one sample per state: 1 for the current one, 0 for the others. `labels` are formatted by [`labels`].
    pub fn one_hot<'s>(&mut self, labels: &str, states: impl Iterator<Item = (&'s str, bool)>) {
        self.write_header();
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

    /// Writes a histogram from bucket counts, the last one unbounded, and the sum. `labels` are formatted by [`labels`],
    /// or empty.
    pub fn histogram(&mut self, labels: &str, bounds: &[&str], counts: &[u64], sum: f64) {
        let up_to = |total: &mut u64, count: &u64| {
            // The prober's counts are untrusted and may overflow.
            *total = total.saturating_add(*count);
            Some(*total)
        };
        let totals = counts.iter().scan(0, up_to);
        let all = totals.clone().last().unwrap_or_default();
        self.buckets(labels, bounds.iter().zip(totals), sum, all);
    }

    /// Writes a histogram from cumulative buckets.
    fn buckets(
        &mut self,
        labels: &str,
        buckets: impl Iterator<Item = (impl AsRef<str>, u64)>,
        sum: f64,
        count: u64,
    ) {
        self.write_header();
        let comma = if labels.is_empty() { "" } else { "," };
        let line = [self.name, "_bucket{", labels, comma, "le=\""].concat();
        for (bound, count) in buckets {
            let bound = bound.as_ref();
            let is_whole = || bound.bytes().all(|byte| byte.is_ascii_digit());
            let point = if self.format == ExpositionFormat::OpenMetrics && is_whole() { ".0" } else { "" };
            self.out.extend([&line, bound, point, "\"}"]);
            push_value(self.out, count);
        }
        self.out.extend([&line, "+Inf\"}"]);
        push_value(self.out, count);
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        self.out.extend([self.name, "_sum", open, labels, close]);
        push_value(self.out, sum);
        self.out.extend([self.name, "_count", open, labels, close]);
        push_value(self.out, count);
    }

    fn write_header(&mut self) {
        if self.has_header {
            return;
        }
        self.has_header = true;
        let kind = match self.kind {
            FamilyType::Counter => "counter",
            FamilyType::Gauge => "gauge",
            FamilyType::Histogram => "histogram",
        };
        let name = match self.format {
            ExpositionFormat::Text => self.name,
            ExpositionFormat::OpenMetrics => self.name.strip_suffix("_total").unwrap_or(self.name),
        };
        self.out.extend(["# HELP ", name, " ", self.help, "\n# TYPE ", name, " ", kind, "\n"]);
        if self.format == ExpositionFormat::OpenMetrics
            && let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit))
        {
            self.out.extend(["# UNIT ", name, " ", unit, "\n"]);
        }
    }
}

/// Formats labels without the braces, for use in several lines.
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
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
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

fn push_value(out: &mut String, value: impl Into<SampleValue>) {
    out.push(' ');
    match value.into() {
        SampleValue::Whole(number) => push_whole(out, number),
        // Writing to a string cannot fail.
        SampleValue::Real(number) => _ = write!(out, "{number}"),
    }
    out.push('\n');
}

/// Writes a number. `write!` would take as long as the rest of the line.
fn push_whole(out: &mut String, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push_str(str::from_utf8(&digits[first..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_match_format_output() {
        for number in [0, 1, 9, 10, 99, 100, 12_345_678_901_234_567_890, u64::MAX] {
            let mut out = String::new();
            push_value(&mut out, number);
            assert_eq!(out, format!(" {number}\n"));
        }
    }

    #[test]
    fn labels_are_escaped() {
        let all = labels(&[("a", "plain"), ("b", "é\"\\\n\n"), ("c", "")]);
        assert_eq!(all, r#"a="plain",b="é\"\\\n\n",c="""#);
    }
}
