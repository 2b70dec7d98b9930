//! Runs every target on its seeds and its corpus, which has all inputs that failed once.

#![cfg(test)]

use std::fs;
use std::path::Path;

use maglev_fuzz::TARGETS;

/// Targets run in sequence, because the memory bound is measured for the whole process.
#[test]
fn recorded_inputs_pass() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for directory in fs::read_dir(&corpus).unwrap() {
        let name = directory.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "corpus/{name} is of no target");
    }
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        target.warm_up();
        target.feed(b"");
        for seed in seeds {
            target.feed(&seed);
        }
        let Ok(files) = fs::read_dir(corpus.join(target.name)) else { continue };
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            let input = fs::read(&path).unwrap();
            assert!(input.len() <= target.longest, "{}", path.display());
            target.feed(&input);
        }
    }
}
