//! What program this is.

use std::sync::LazyLock;

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from; empty if the build did not say.
pub const COMMIT: &str = match option_env!("MAGLEV_COMMIT") {
    Some(commit) => commit,
    None => "",
};

/// When it was built; empty if the build did not say.
pub const BUILD_DATE: &str = match option_env!("MAGLEV_BUILD_DATE") {
    Some(date) => date,
    None => "",
};

/// All three, for `--version`.
#[must_use]
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let or_unknown = |text: &'static str| if text.is_empty() { "unknown" } else { text };
        format!("{VERSION} (commit {}, built {})", or_unknown(COMMIT), or_unknown(BUILD_DATE))
    });
    &LONG
}
