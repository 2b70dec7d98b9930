//! What program this is.

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
