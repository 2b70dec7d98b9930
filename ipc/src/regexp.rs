//! Regular expressions over the bodies of HTTP responses. The check of the configuration and the prober compile them with one
//! function, so the prober accepts each expression that the check accepts.

use alloc::format;
use alloc::string::{String, ToString};

use regex_lite::{Regex, RegexBuilder};

use crate::check::MAX_REGEXP;

/// Largest compiled regular expression, in bytes: it bounds the time of a match.
pub const MAX_COMPILED: usize = 32 * 1024;

/// Compiles a regular expression.
///
/// # Errors
/// The cause: it is too long, its syntax is unknown, or it is too large once compiled.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_REGEXP {
        return Err(format!("longer than {MAX_REGEXP} bytes"));
    }
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| match error.to_string() {
        // regex-lite has no kinds of errors.
        text if text.contains("size limit") => too_large(),
        text => format!("not a regular expression: {text}"),
    })
}

fn too_large() -> String {
    format!("larger than {} KiB when compiled: use .* or smaller repetitions {{n,m}}", MAX_COMPILED / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_expression_is_rejected_with_a_hint() {
        for pattern in ["UP.{0,200}db.{0,200}UP", "x{1,400}y{1,400}", "((a{9}){9}){19}"] {
            assert_eq!(compile(pattern).unwrap_err(), too_large(), "{pattern}");
        }
        // The configuration guide names these sizes.
        for pattern in ["UP.*db.*UP", "UP.{0,300}db", &"x".repeat(1000)] {
            assert!(compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn unknown_syntax_is_rejected() {
        for pattern in ["(", "(?=x)", r"\1", r"\p{L}", "[[:alpha:]"] {
            assert!(compile(pattern).unwrap_err().starts_with("not a regular expression: "), "{pattern}");
        }
        assert_eq!(compile(&"x".repeat(MAX_REGEXP + 1)).unwrap_err(), "longer than 1024 bytes");
    }
}
