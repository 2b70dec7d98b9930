//! Explores the target that `MAGLEV_FUZZ` names. libFuzzer owns the command line, and `main`.

#![no_main]

use std::sync::OnceLock;
use std::{env, fs};

use libfuzzer_sys::fuzz_target;
use maglev_fuzz::FuzzTarget;

static TARGET: OnceLock<&FuzzTarget> = OnceLock::new();

fuzz_target!(
    init: {
        let target = env::var("MAGLEV_FUZZ").ok().and_then(|name| FuzzTarget::named(&name));
        let target = *TARGET.get_or_init(|| target.expect("MAGLEV_FUZZ names a target"));
        target.warm_up();
        if let Some(directory) = env::var_os("MAGLEV_FUZZ_SEEDS") {
            for (number, seed) in (target.seeds)().iter().enumerate() {
                let file = std::path::Path::new(&directory).join(format!("seed-{number}"));
                fs::write(file, seed).expect("the seeds are written");
            }
        }
    },
    |input: &[u8]| {
        if let Some(target) = TARGET.get() {
            target.feed(input);
        }
    }
);
