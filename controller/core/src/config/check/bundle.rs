//! Certificates of `ca-file`s.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use maglev_ipc::bundle::certificates;
use maglev_ipc::check::{MAX_BUNDLE, MAX_BUNDLES};

use super::super::Bundle;
use super::{Read, Scope};

/// Bundles read so far. Each file is read once, and equal files share a bundle.
pub struct Bundles<'r, 'f> {
    read: &'r mut Read<'f>,
    by_path: BTreeMap<String, Arc<Bundle>>,
    by_id: BTreeMap<u32, Arc<Bundle>>,
}

impl<'r, 'f> Bundles<'r, 'f> {
    pub fn new(read: &'r mut Read<'f>) -> Self {
        Self { read, by_path: BTreeMap::new(), by_id: BTreeMap::new() }
    }

    pub fn load(&mut self, scope: &mut Scope<'_>, path: &str) -> Option<Arc<Bundle>> {
        if let Some(known) = self.by_path.get(path) {
            return Some(known.clone());
        }
        match self.load_new(path) {
            Ok(bundle) => {
                self.by_path.insert(path.to_owned(), bundle.clone());
                Some(bundle)
            }
            Err(why) => scope.refuse(format!("{path:?}: {why}")),
        }
    }

    fn load_new(&mut self, path: &str) -> Result<Arc<Bundle>, String> {
        // Independent of the daemon's working directory.
        if !path.starts_with('/') {
            return Err("not an absolute path".to_owned());
        }
        let pem = (self.read)(path)?;
        if pem.len() > MAX_BUNDLE {
            return Err(format!("larger than {MAX_BUNDLE} bytes"));
        }
        certificates(&pem)?;

        let id = fnv1a(&pem);
        match self.by_id.get(&id) {
            Some(known) if known.pem == pem => return Ok(known.clone()),
            Some(_) => return Err("has the checksum of another ca-file: add an empty line to it".to_owned()),
            None if self.by_id.len() == MAX_BUNDLES => {
                return Err(format!("more than {MAX_BUNDLES} different ca-files"));
            }
            None => {}
        }
        let bundle = Arc::new(Bundle { id, pem });
        self.by_id.insert(id, bundle.clone());
        Ok(bundle)
    }
}

/// Computes FNV-1a. Collisions need no protection: the file's author could as well edit the file.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
