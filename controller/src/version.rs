//! Version of this program.

use std::sync::LazyLock;

/// Release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit of the build; empty if unknown.
pub const COMMIT: &str = match option_env!("MAGLEV_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// Build date; empty if unknown.
pub const BUILD_DATE: &str = match option_env!("MAGLEV_BUILD_DATE") {
    Some(date) => date,
    None => "",
};

/// Returns all three, for `--version`.
#[must_use]
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let or_unknown = |text: &'static str| if text.is_empty() { "unknown" } else { text };
        format!("{VERSION} (commit {}, built {})", or_unknown(COMMIT), or_unknown(BUILD_DATE))
    });
    &LONG
}
