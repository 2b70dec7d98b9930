//! Masks for text that varies between runs, of which only the presence is compared.

use std::sync::LazyLock;

use regex_lite::Regex;

/// Patterns and their replacements, in order.
const MASKS: [(&str, &str); 8] = [
    // 2026-11-22T12:00:00.123Z, 2026-11-22T12:00:00+0000, 2026-11-22 12:00:00 UTC
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d\d:?\d\d| UTC)?", "<time>"),
    // A date alone, as of a build.
    (r"\b\d{4}-\d\d-\d\d\b", "<day>"),
    // 26.10-rc1~12-gabcdef, as in VPP.
    (r"(^|[^\d.])2\d\.(02|06|10)(-[0-9a-z~.+-]+)?($|[^\d.])", "${1}<version>${4}"),
    // 0.1.0, but not an IPv4 address.
    (r"(^|[^\d.:])\d+\.\d+\.\d+($|[^\d.])", "${1}<version>${2}"),
    (r#"\b(pid|PID)["':=]* ?\d+|\[\d+\]"#, "<pid>"),
    (r"\bcommit [0-9a-f]{7,40}\b|\bcommit unknown\b", "<commit>"),
    (r":(3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[4-6]\d{4})\b", ":<port>"),
    // 10m30s, 1.2ms, 0.013 s
    (
        r"\b(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)? ?(s|ms|us|µs|ns))\b|\b\d+d(\d+h)?\b|\b\d+h(\d+m)?\b|\b\d+m\b",
        "<duration>",
    ),
];

static PATTERNS: LazyLock<Vec<(Regex, &str)>> =
    LazyLock::new(|| MASKS.iter().map(|(pattern, mask)| (Regex::new(pattern).unwrap(), *mask)).collect());

/// Returns `line` with masks, trimmed, and with runs of blanks reduced to one.
#[must_use]
pub fn mask(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    PATTERNS.iter().fold(line, |line, (pattern, mask)| pattern.replace_all(&line, *mask).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varying_text_is_masked() {
        for (line, masked) in [
            ("  a   b ", "a b"),
            ("until 2026-11-22T14:00:30Z (was up)", "until <time> (was up)"),
            (
                "up 10m30s, 1.2ms, 1d2h, 0s, 500us; 0.013 s",
                "up <duration>, <duration>, <duration>, <duration>, <duration>; <duration>",
            ),
            ("maglevc 0.1.0, maglevd 10.20.30", "maglevc <version>, maglevd <version>"),
            ("VPP 26.10-rc1~12-gabc", "VPP <version>"),
            ("26.10.0.1 is 26.11 %", "26.10.0.1 is 26.11 %"),
            ("192.0.2.10 tcp/80 2001:db8:1::10", "192.0.2.10 tcp/80 2001:db8:1::10"),
            ("127.0.0.1:43210 127.0.0.1:9090", "127.0.0.1:<port> 127.0.0.1:9090"),
            ("pid    12, maglevd[4711]: {\"pid\":4711}", "<pid>, maglevd<pid>: {\"<pid>}"),
            ("HTTP 200, weight 10, 3s5m", "HTTP 200, weight 10, 3s5m"),
        ] {
            assert_eq!(mask(line), masked, "{line}");
        }
    }
}
