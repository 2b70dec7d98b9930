//! Package lifecycle: upgrade, reinstallation, removal and purge.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use maglev_lab::container;
use maglev_lab::container::machine::Machine;
use maglev_lab::packets::until;
use maglev_lab::test_dir::TestDir;

use crate::fixtures::{CONTROLLER, FILE, PROBER, PackageFixture};

/// Builds a package of a later version and prints its path.
const LATER: &str = r#"dpkg-deb --raw-extract "$0" /root/later
sed -i 's/^Version: .*/&+later/' /root/later/DEBIAN/control
dpkg-deb -Zgzip -z1 --root-owner-group --build /root/later /root/later.deb >/dev/null
rm -r /root/later
echo /root/later.deb"#;

/// Lists all users, and all files except records of package management and the directories that `systemctl enable` creates.
const LIST: &str =
    "find / -xdev \\( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \
                    -o -path /root -o -path /tmp -o -path /etc/.pwd.lock -o -path '/etc/*-' \\) -prune \
                    -o -type d -path '/etc/systemd/system/*.wants' -o -print
find /run -name '*maglev*' -not -path '/run/systemd/*/propagate*'
cat /etc/passwd /etc/group /etc/shadow /etc/gshadow";

fn list_everything(machine: &Machine) -> BTreeSet<String> {
    machine.sh(LIST).lines().map(str::to_owned).collect()
}

#[test]
fn upgrade_keeps_edits_and_vpp_state() {
    if container::skip("upgrade_keeps_edits_and_vpp_state") {
        return;
    }
    let fixture = PackageFixture::running("bookworm");
    let machine = &fixture.machine;
    let later = machine.command("sh").args(["-euc", LATER, &fixture.package]).output().unwrap();
    assert!(later.status.success(), "{later:?}");
    let config = machine.read(FILE);
    machine.write("/etc/default/vpp-maglev", "MAGLEV_LOG_LEVEL=debug\n");
    fixture.forget_writes();

    let journal = machine.journal(CONTROLLER);
    let starts = || journal.lines(0).iter().filter(|line| line.contains("maglevd starts")).count();
    until(|| starts() == 1, || format!("{:#?}", journal.lines(0)));
    for (package, before_it) in ["/root/later.deb", "--reinstall /root/later.deb"].into_iter().zip(1..) {
        let before = [CONTROLLER, PROBER].map(|service| (service, machine.main_pid(service)));
        machine.install(package);
        let version = machine.run("dpkg-query --show --showformat ${Version} vpp-maglev");
        assert!(version.ends_with("+later"), "{version}");
        for (service, pid) in before {
            fixture.until_restarted(service, pid);
        }
        fixture.settled();
        // And it restarted once only.
        until(|| starts() > before_it, || format!("{:#?}", journal.lines(0)));
        assert_eq!(starts(), before_it + 1, "{:#?}", journal.lines(0));
    }
    assert_eq!(fixture.observer().writes(), [""; 0]);
    assert_eq!(machine.read(FILE), config);
    assert_eq!(machine.read("/etc/default/vpp-maglev"), "MAGLEV_LOG_LEVEL=debug\n");
}

#[test]
fn purge_removes_all_and_remove_keeps_config() {
    if container::skip("purge_removes_all_and_remove_keeps_config") {
        return;
    }
    let fixture = PackageFixture::new("bookworm");
    let machine = &fixture.machine;
    let before = list_everything(machine);
    machine.install(&fixture.package);
    machine.write(FILE, crate::fixtures::CONFIG);
    machine.run("systemctl enable --now vpp-maglevd");
    fixture.settled();
    machine.run("systemctl enable vpp-maglevd-prober@servers.socket");
    fixture.forget_writes();

    machine.run("apt-get remove -y vpp-maglev");
    for unit in [CONTROLLER, PROBER, "vpp-maglevd-grpc.socket", "vpp-maglevd-prober.socket"] {
        let gone = || machine.property(unit, "ActiveState") == "inactive";
        until(gone, || format!("{unit} is {}", machine.property(unit, "ActiveState")));
    }
    assert_eq!(machine.read(FILE), crate::fixtures::CONFIG);
    // VPP continues to forward.
    assert_eq!(fixture.observer().writes(), [""; 0]);

    machine.install(&fixture.package);
    machine.run("systemctl start vpp-maglevd");
    fixture.settled();

    machine.run("apt-get purge -y vpp-maglev");
    let after = list_everything(machine);
    let left: Vec<_> = after.difference(&before).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(left.is_empty() && lost.is_empty(), "left: {left:#?}\nlost: {lost:#?}");
    assert_eq!(
        machine.run("systemctl list-units --plain --no-legend --state=active,failed vpp-maglevd*"),
        ""
    );
}

/// Runs the script itself, with commands that fail as for a user with a process and a group that others use.
#[test]
fn purge_succeeds_where_users_stay() {
    let fakes = TestDir::new();
    for (name, code) in
        [("getent", 0), ("find", 0), ("systemctl", 0), ("rm", 1), ("userdel", 8), ("groupdel", 8)]
    {
        let fake = fakes.write(name, format!("#!/bin/sh\nexit {code}\n"));
        fs::set_permissions(&fake, Permissions::from_mode(0o755)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../debian/vpp-maglev.postrm");
    let output =
        Command::new("/bin/sh").arg(script).arg("purge").env("PATH", fakes.path(".")).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}");
    for part in [
        "some files stay",
        "the user maglevd stays",
        "the group maglevd-prober stays",
        "the group maglev-operators stays",
    ] {
        assert!(words.contains(part), "{words}");
    }
}
