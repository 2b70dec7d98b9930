//! File of the VIPs that are ours in VPP: JSON, one VIP per line, replaced atomically.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use maglev_core::dataplane::VipKey;
use maglev_core::ownership::{MAX, OwnedVips, VppRun};
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::overrides::Disk;
use crate::overrides::file::{format_time, parse_time};

/// Version written. Others are not read.
const VERSION: u64 = 1;

/// Maximum size of the file: the maximum number of VIPs, each of maximum length.
const MAX_FILE: u64 = 16 << 20;

const NAME: &str = "owned-vips.json";

/// Store of the VIPs.
#[derive(Debug)]
pub struct OwnershipStore<D> {
    disk: D,
    directory: PathBuf,
    /// Contents of the file, if known.
    on_disk: Option<String>,
}

impl<D: Disk> OwnershipStore<D> {
    /// Loads the VIPs of the last run from `directory`. After an error, which is logged, no VIP in VPP counts as ours unless it
    /// is configured; the next write replaces the file.
    #[must_use]
    pub fn open(disk: D, directory: PathBuf) -> (Self, OwnedVips) {
        let path = directory.join(NAME);
        let read = disk.read(&path, MAX_FILE).map_err(|error| error.to_string());
        let mut store = Self { disk, directory, on_disk: None };
        let parsed = read.and_then(|bytes| bytes.map_or(Ok(OwnedVips::default()), |bytes| parse(&bytes)));
        match parsed {
            Ok(vips) => {
                store.on_disk = Some(render(&vips));
                (store, vips)
            }
            Err(error) => {
                error!(
                    file = %path.display(), error,
                    "cannot read the VIPs of the last run: those that left the configuration since then count as foreign"
                );
                (store, OwnedVips::default())
            }
        }
    }

    /// Replaces the file atomically, unless it has these contents.
    ///
    /// # Errors
    /// The system's error; the previous file is unchanged.
    pub fn save(&mut self, vips: &OwnedVips) -> io::Result<()> {
        let text = render(vips);
        if self.on_disk.as_ref() == Some(&text) {
            return Ok(());
        }
        self.on_disk = None;
        self.disk.replace(&self.directory, NAME, text.as_bytes())?;
        self.on_disk = Some(text);
        Ok(())
    }
}

/// Contents of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnershipContents {
    version: u64,
    vpp: Option<SavedRun>,
    vips: Vec<SavedVip>,
}

/// Run of VPP in the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedRun {
    pid: u32,
    boot: String,
}

/// One VIP in the file. It has a single address.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedVip {
    address: IpAddr,
    protocol: u8,
    port: u16,
}

/// Parses a file.
///
/// # Errors
/// The reason; a single bad entry rejects the whole file.
pub fn parse(bytes: &[u8]) -> Result<OwnedVips, String> {
    let contents: OwnershipContents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if contents.version != VERSION {
        return Err(format!("unknown version {}", contents.version));
    }
    let len = contents.vips.len();
    if len > MAX {
        return Err(format!("{len} VIPs are more than the {MAX} that are allowed"));
    }
    let vpp = contents.vpp.map(|run| Ok::<_, String>(VppRun { pid: run.pid, boot: parse_time(&run.boot)? }));
    let vips: BTreeSet<_> =
        contents.vips.iter().map(|vip| VipKey::host(vip.address, vip.protocol, vip.port)).collect();
    Ok(OwnedVips::restored(vpp.transpose()?, vips))
}

/// Formats a file with these VIPs.
#[must_use]
pub fn render(owned: &OwnedVips) -> String {
    let run = owned.vpp.map(|run| SavedRun { pid: run.pid, boot: format_time(run.boot) });
    // Serialization cannot fail: all keys are strings, and so is the writer.
    let run = serde_json::to_string(&run).unwrap_or_default();
    let mut text = format!("{{\n\"version\": {VERSION},\n\"vpp\": {run},\n\"vips\": [");
    for (number, vip) in owned.vips().into_iter().enumerate() {
        let saved = SavedVip { address: vip.address, protocol: vip.protocol, port: vip.port };
        let line = serde_json::to_string(&saved).unwrap_or_default();
        let _ = write!(text, "{}\n  {line}", if number == 0 { "" } else { "," });
    }
    text.push_str("\n]\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use maglev_core::time::WallTime;

    use super::*;

    fn owned() -> OwnedVips {
        let vips =
            ["192.0.2.80", "2001:db8::80"].map(|address| VipKey::host(address.parse().unwrap(), 6, 80));
        OwnedVips::restored(Some(VppRun { pid: 7, boot: WallTime(1_800_000_000_000_000_000) }), vips.into())
    }

    #[test]
    fn file_round_trips() {
        for owned in [owned(), OwnedVips::default()] {
            let again = parse(render(&owned).as_bytes()).unwrap();
            assert_eq!((again.vpp, again.vips()), (owned.vpp, owned.vips()));
        }
    }

    #[test]
    fn unusable_files_are_refused_whole() {
        let good = render(&owned());
        for (bad, why) in [
            (good.replace("\"version\": 1", "\"version\": 2"), "unknown version 2"),
            (good.replace("192.0.2.80", "192.0.2"), "invalid IP address syntax"),
            (good.replace("2027-", "-"), "invalid time"),
            (good.replace("\"port\"", "\"prot\""), "unknown field"),
            (good[..good.len() / 2].to_owned(), "EOF"),
        ] {
            let error = parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
