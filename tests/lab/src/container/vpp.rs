//! A machine with access to a VPP.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use super::machine::Machine;
use super::rootfs::{DebianSpec, Rootfs};
use crate::dataplane::Vpp;

/// Directory of VPP's sockets on the machine.
const DIRECTORY: &str = "/run/vpp";

impl Machine {
    /// Boots a Debian with the sockets of `vpp`, owned by a group `vpp` as in VPP's package.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn boot_with_vpp(vpp: &Vpp, debian: DebianSpec<'_>) -> Self {
        let directory = vpp.api_socket().parent().unwrap().to_owned();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let machine = Self::boot(Rootfs::of(debian), &[(&directory, DIRECTORY)]);
        machine.run("groupadd --system vpp");
        machine.share_sockets(vpp);
        machine
    }

    /// Gives the sockets of a restarted VPP to that group.
    ///
    /// # Panics
    /// If that fails.
    pub fn share_sockets(&self, vpp: &Vpp) {
        let group = self.sh("getent group vpp | cut -d: -f3").parse().unwrap();
        for socket in [vpp.api_socket(), vpp.stats_socket()] {
            chown(&socket, None, Some(group)).unwrap();
            fs::set_permissions(&socket, Permissions::from_mode(0o770)).unwrap();
        }
    }
}
