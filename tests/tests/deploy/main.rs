//! The package on a machine of its own.

#![cfg(test)]

use maglev_tests::container::machine::Machine;
use maglev_tests::container::rootfs::{Debian, Rootfs};

const BOOKWORM: Debian = Debian {
    name: "bookworm",
    suite: "bookworm",
    packages: &["systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates"],
};

#[test]
fn boots() {
    if maglev_tests::container::skip("boots") {
        return;
    }
    let t = std::time::Instant::now();
    let machine = Machine::boot(Rootfs::of(BOOKWORM), &[]);
    println!("{:?}", t.elapsed());
    println!("{}", machine.run("systemctl --no-pager list-units --failed"));
    println!("{}", machine.sh("id; mount | head -3"));
    drop(machine);
    println!("{:?}", t.elapsed());
}
