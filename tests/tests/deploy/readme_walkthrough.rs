//! Somebody who has never heard of us, with a machine, a VPP, and the pages: what they tell to type is typed, word for word.

use std::path::Path;

use maglev_lab::container;
use maglev_lab::container::machine::Machine;
use maglev_tests::docs::page;
use maglev_tests::docs::play::{acts, is_played, play};
use maglev_tests::docs::stage::Stage;

/// Where `make deb` leaves the package, below the folder that commands are typed in.
const PACKAGES: &str = "/root/target/deb";
/// What an editor writes.
const WRITTEN: &str = "/root/written.yaml";
const EDITOR: &str = "/usr/local/bin/editor";

#[test]
fn who_follows_the_pages_gets_there() {
    if container::skip("who_follows_the_pages_gets_there") {
        return;
    }
    let (mut followed, mut differences) = (0, Vec::new());
    for page in page::all() {
        let (_, parts) = acts(&page);
        if is_played(parts) {
            let config =
                page.first_configuration().expect("a page that begins with nothing has a configuration");
            let mut stage = Stage::bare(config);
            prepare(stage.machine(), config);
            differences.extend(play(&page, parts, &mut stage));
            followed += 1;
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(followed > 0, "no page tells how to begin");
}

/// What there is before the first command: a package that was built, and somebody who copies a configuration from a page.
fn prepare(machine: &Machine, config: &str) {
    let package = machine.put_package();
    let name = Path::new(&package).file_name().unwrap().to_str().unwrap();
    machine.run(&format!("mkdir -p {PACKAGES}"));
    machine.run(&format!("mv {package} {PACKAGES}/{name}"));
    machine.write(WRITTEN, config);
    machine.write(EDITOR, format!("#!/bin/sh\nexec cp {WRITTEN} \"$1\"\n"));
    machine.run(&format!("chmod +x {EDITOR}"));
}
