//! Identity of clients on the unix socket, by `SO_PEERCRED`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use maglev_lab::host::Host;
use maglev_lab::maglevd::{Maglevd, MaglevdSetup};
use maglev_lab::programs::program;
use maglev_lab::skip;
use maglev_lab::test_dir::TestDir;
use nix::sys::signal::Signal;

use crate::{ApiFixture, config, error_text};

/// Runs `maglevc` against the unix socket at `dir` with these numeric ids.
fn call_as(dir: &TestDir, uid: u32, gid: u32, groups: &[u32], words: &str) -> Output {
    let socket = dir.path("maglevd.sock");
    // Access by file mode is tested elsewhere.
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let maglevc = dir.path("maglevc");
    if !maglevc.exists() {
        // Other users may have no access to the build directory. `cp` writes the copy: a program open for writing cannot be
        // executed, and a process that another test forks now would inherit our descriptor.
        assert!(
            Command::new("cp").arg(program("maglevc").unwrap()).arg(&maglevc).status().unwrap().success()
        );
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
    if groups.is_empty() {
        command.arg("--clear-groups");
    } else {
        let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
        command.args(["--groups", &groups.join(",")]);
    }
    let server = format!("unix:{}", socket.display());
    command.arg(maglevc).args(["--server", &server]).args(words.split(' ')).output().unwrap()
}

/// Returns the caller's role, taken from the text of a refused call.
fn role(dir: &TestDir, uid: u32, gid: u32, groups: &[u32]) -> String {
    let output = call_as(dir, uid, gid, groups, "config reload");
    if output.status.success() {
        return "admin".to_owned();
    }
    let text = error_text(&output);
    let (_, has) = text.split_once(" has ").unwrap_or_else(|| panic!("{text}"));
    has.split(',').next().unwrap().to_owned()
}

#[test]
fn unix_peer_credentials_decide_role() {
    if skip("unix_peer_credentials_decide_role", &["setpriv"]) {
        return;
    }
    let fixture = ApiFixture::new("{}");
    let dir = &fixture.dir;
    assert_eq!(role(dir, 0, 0, &[]), "admin");
    assert_eq!(role(dir, 61001, 61001, &[]), "operate");
    let refused = error_text(&call_as(dir, 61001, 61001, &[], "config reload"));
    assert!(refused.contains("uid 61001 has operate, as a peer on the unix socket"), "{refused}");
    let refused = error_text(&call_as(dir, 65534, 65534, &[], "config reload"));
    assert!(refused.contains("nobody (uid 65534) has operate"), "{refused}");

    fixture.reload(
        "{ roles: [{ user: 61001, role: admin }, { group: 61500, role: operate }, { user: nobody, role: operate }] }",
    );
    for (uid, gid, groups, expected) in [
        (0, 0, &[][..], "admin"),
        (61001, 61001, &[], "admin"),
        (61002, 61500, &[], "operate"),
        (61002, 61002, &[61499, 61500, 256], "operate"),
        (61002, 61002, &[61499], "view"),
        (65534, 65534, &[], "operate"),
    ] {
        assert_eq!(role(dir, uid, gid, groups), expected, "{uid} {gid} {groups:?}");
    }
}

#[test]
fn daemon_user_is_admin() {
    if skip("daemon_user_is_admin", &["setpriv"]) {
        return;
    }
    let dir = TestDir::new();
    fs::set_permissions(dir.path(""), Permissions::from_mode(0o777)).unwrap();
    let setup = MaglevdSetup::new(&dir, &config("{ roles: [{ user: 61002, role: view }] }"));
    let wrapper = ["setpriv", "--reuid", "61001", "--regid", "61001", "--clear-groups"];
    let _maglevd = start(setup, &dir, &wrapper);
    assert_eq!(role(&dir, 61001, 61001, &[]), "admin");
    assert_eq!(role(&dir, 61002, 61002, &[]), "view");
}

#[test]
fn unmapped_uids_match_no_rule() {
    if skip("unmapped_uids_match_no_rule", &["setpriv", "unshare"]) {
        return;
    }
    let dir = TestDir::new();
    let wrapper = ["unshare", "--user", "--map-root-user"];
    let maglevd = start(MaglevdSetup::new(&dir, &config("{}")), &dir, &wrapper);
    let refused = error_text(&call_as(&dir, 61001, 61001, &[61500], "config reload"));
    assert!(refused.contains("a unix peer (uid hidden) has operate"), "{refused}");
    assert_eq!(role(&dir, 0, 0, &[]), "admin");
    let position = maglevd.process.line_count();
    dir.write(
        "maglev.yaml",
        config("{ roles: [{ user: nobody, role: admin }, { group: nogroup, role: admin }] }"),
    );
    maglevd.process.signal(Signal::SIGHUP);
    let warning = maglevd.process.line(position, "cannot see other accounts");
    assert!(warning.contains("PrivateUsers=no"), "{warning}");
    maglevd.process.line(position, "configuration in force");
    assert_eq!(role(&dir, 65534, 65534, &[65534]), "view");
    assert_eq!(role(&dir, 61001, 61001, &[]), "view");
}

/// Starts `maglevd` through `wrapper`.
fn start(setup: MaglevdSetup<'_>, dir: &TestDir, wrapper: &[&str]) -> Maglevd {
    // Other users may have no access to the build directory.
    let copy = dir.path("maglevd");
    assert!(Command::new("cp").arg(program("maglevd").unwrap()).arg(&copy).status().unwrap().success());
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(copy);
    setup.start_as(&mut command)
}

#[test]
fn remote_peers_have_view_role() {
    if skip("remote_peers_have_view_role", &["ip"]) {
        return;
    }
    let host = Host::new("api");
    host.ip("addr add 192.0.2.7/32 dev lo");
    let dir = TestDir::new();
    let setup = MaglevdSetup::new(&dir, &config("{}")).flag("--grpc-addr", ":9090");
    let mut wrapper = host.command("env");
    let maglevd = setup.start_as(wrapper.arg(program("maglevd").unwrap()));
    let call = |server: &str, words: &str| {
        let mut command = host.command("env");
        let maglevc = program("maglevc").unwrap();
        command.arg(maglevc).args(["--server", server]).args(words.split(' ')).output().unwrap()
    };
    for (server, who, has) in [
        ("192.0.2.7:9090", "192.0.2.7", "view"),
        ("127.0.0.1:9090", "127.0.0.1", "view"),
        ("[::1]:9090", "::1", "view"),
    ] {
        assert!(call(server, "show version").status.success(), "{server}");
        let refused = error_text(&call(server, "config reload"));
        assert!(refused.contains(&format!("requires the role admin; {who} has {has}, ")), "{refused}");
    }
    let refused = error_text(&call("192.0.2.7:9090", "sync vpp lb state"));
    assert!(refused.contains("requires the role operate"), "{refused}");
    let refused = error_text(&call("localhost:9090", "sync vpp lb state"));
    assert!(refused.contains("use the unix socket") && refused.contains("loopback-role"), "{refused}");

    let position = maglevd.process.line_count();
    dir.write("maglev.yaml", config("{ loopback-role: operate }"));
    maglevd.process.signal(Signal::SIGHUP);
    maglevd.process.line(position, "configuration in force");
    for (server, has) in [("192.0.2.7:9090", "view"), ("localhost:9090", "operate")] {
        let refused = error_text(&call(server, "config reload"));
        assert!(refused.contains(&format!(" has {has}, ")), "{refused}");
    }
}
