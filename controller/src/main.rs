//! `maglevd`: decides health and failover, and programs VPP accordingly.
//!
//! `maglev_core` decides; the modules here connect it to the system.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use maglevd::flags::Flags;
use maglevd::log::{self, LineFormat};
use maglevd::{config, daemon, spawner};

fn main() -> ExitCode {
    let flags = match Flags::from_arguments(env::args_os()) {
        Ok(flags) => flags,
        Err(error) => {
            // A closed standard output must not change the exit code.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    if flags.check {
        return check(&flags.config);
    }
    if flags.spawner {
        return match spawner::serve(&flags) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, flags.log_format),
        };
    }
    if let Err(error) = maglev_sandbox::close_inherited() {
        return fail(
            &anyhow::Error::new(error).context("cannot close inherited descriptors"),
            flags.log_format,
        );
    }
    match daemon::run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref() {
            Some(error) => refuse(error, flags.log_format),
            None => fail(&error, flags.log_format),
        },
    }
}

fn fail(error: &anyhow::Error, format: LineFormat) -> ExitCode {
    match format {
        LineFormat::Text => eprintln!("maglevd: {error:#}"),
        LineFormat::Json => eprintln!("{}", log::json_error(&format!("{error:#}"))),
    }
    ExitCode::FAILURE
}

/// Implements `--check`: exits with 0 if valid, 1 if unreadable or unparsable, 2 if invalid.
fn check(path: &Path) -> ExitCode {
    match config::load_from_any(path) {
        Ok(loaded) => {
            for warning in loaded.warnings() {
                eprintln!("{}: warning: {warning}", path.display());
            }
            println!("{}: configuration valid", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error, LineFormat::Text),
    }
}

fn refuse(error: &config::LoadError, format: LineFormat) -> ExitCode {
    let (code, lines) = config::report(error);
    for line in lines {
        match format {
            LineFormat::Text => eprintln!("{line}"),
            LineFormat::Json => eprintln!("{}", log::json_error(&line)),
        }
    }
    code.into()
}
