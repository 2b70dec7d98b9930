//! `maglevc`: the command line of vpp-maglev.

use std::process::ExitCode;

fn main() -> ExitCode {
    maglevc::run()
}
