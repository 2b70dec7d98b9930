//! Every target is fed its seeds, and all that was found in earlier runs.

#![cfg(test)]

use std::fs;
use std::path::Path;

use maglev_fuzz::TARGETS;

/// One after the other, as each is held to the memory that it takes.
#[test]
fn what_was_found_stays_mended() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for folder in fs::read_dir(&corpus).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
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
