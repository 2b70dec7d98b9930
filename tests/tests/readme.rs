//! What the README says is true.

use std::fs;
use std::path::Path;
use std::process::Command;

use maglev_tests::programs::program;

#[test]
fn the_first_configuration_is_good() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("maglev.yaml");
    fs::write(&file, yaml).unwrap();

    let maglevd = program("maglevd").unwrap();
    let check = Command::new(maglevd).arg("--check").arg("--config").arg(file).output().unwrap();

    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}
