//! Passes commit and date of the build to `--version`; package builds set both variables.

fn main() {
    for name in ["MAGLEV_COMMIT", "MAGLEV_BUILD_DATE"] {
        let value = std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
        println!("cargo::rustc-env={name}={value}");
        println!("cargo::rerun-if-env-changed={name}");
    }
}
