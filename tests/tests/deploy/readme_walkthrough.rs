//! A fresh machine with VPP, on which the commands of the documentation are typed verbatim.

use std::path::Path;

use maglev_lab::container;
use maglev_lab::container::machine::Machine;
use maglev_tests::docs::documented_host::DocumentedHost;
use maglev_tests::docs::page;
use maglev_tests::docs::play::{has_sessions, run_sessions, split_sessions};

/// Directory of the package that `make deb` builds, below the directory in which commands are typed.
const PACKAGES: &str = "/root/target/deb";
/// Text that the fake editor writes.
const WRITTEN: &str = "/root/written.yaml";
const EDITOR: &str = "/usr/local/bin/editor";

#[test]
fn documented_commands_work_on_fresh_machine() {
    if container::skip("documented_commands_work_on_fresh_machine") {
        return;
    }
    let (mut followed, mut differences) = (0, Vec::new());
    for page in page::all() {
        let (_, parts) = split_sessions(&page);
        if has_sessions(parts) {
            let config = page.first_configuration().expect("a page for fresh machines has a configuration");
            let mut host = DocumentedHost::bare(config);
            prepare(host.machine(), config);
            differences.extend(run_sessions(&page, parts, &mut host));
            followed += 1;
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(followed > 0, "no page for fresh machines");
}

/// Prepares the package file, and an editor that writes the configuration of the page.
fn prepare(machine: &Machine, config: &str) {
    let package = machine.put_package();
    let name = Path::new(&package).file_name().unwrap().to_str().unwrap();
    machine.run(&format!("mkdir -p {PACKAGES}"));
    machine.run(&format!("mv {package} {PACKAGES}/{name}"));
    machine.write(WRITTEN, config);
    machine.write(EDITOR, format!("#!/bin/sh\nexec cp {WRITTEN} \"$1\"\n"));
    machine.run(&format!("chmod +x {EDITOR}"));
}
