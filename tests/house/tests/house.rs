//! The plan of the house: no module cycle, and no type name that stands for two things.

#![cfg(test)]

use std::collections::BTreeMap;

use maglev_house::modules::Crate;
use maglev_house::{PRODUCT, Repository};

/// Names that several crates use for the same notion, each in its own terms.
///
/// * `Error`: each module has the errors of its boundary.
/// * `BackendAction`: an action of the core, and the word for it in `maglevc`'s grammar.
const SHARED: [&str; 2] = ["BackendAction", "Error"];

/// The shapes of the configuration file, which `config` checks and turns into types of the same names.
const RAW: [&str; 2] = ["config", "file"];

fn crates() -> Option<Vec<(&'static str, Crate)>> {
    let repository = Repository::open()?;
    let parse =
        |directory: &'static str| (directory, Crate::parse(&repository.root().join(directory)).unwrap());
    Some(PRODUCT.map(parse).into())
}

#[test]
fn modules_have_no_cycle() {
    let Some(crates) = crates() else { return println!("SKIP modules_have_no_cycle: no git checkout") };
    let cycles: Vec<_> = crates
        .iter()
        .flat_map(|(directory, parsed)| parsed.cycles().into_iter().map(move |cycle| (directory, cycle)))
        .collect();
    assert!(cycles.is_empty(), "{} cycles: {cycles:#?}", cycles.len());
}

#[test]
fn type_names_have_one_meaning() {
    let Some(crates) = crates() else { return println!("SKIP type_names_have_one_meaning: no git checkout") };
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (directory, parsed) in &crates {
        for (path, name) in parsed.types().filter(|(path, _)| path.as_slice() != RAW) {
            places.entry(name).or_default().push(format!("{directory}: {}", path.join("::")));
        }
    }
    assert!(places.len() > 100, "{} types found", places.len());
    let shared = places.iter().filter(|(_, places)| places.len() > 1);
    let (allowed, twice): (Vec<_>, Vec<_>) = shared.partition(|(name, _)| SHARED.contains(name));
    assert!(twice.is_empty(), "{} names stand for several types: {twice:#?}", twice.len());
    assert_eq!(allowed.len(), SHARED.len(), "names in SHARED that are not shared any more");
}
