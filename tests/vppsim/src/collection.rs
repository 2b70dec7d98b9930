//! The collection of removed servers and VIPs, which stay in their slots until then.

use super::crash::OutOfBounds;
use super::plugin::LbPlugin;
use super::state::COLLECTION_INTERVAL;

/// Minimum number of seconds for which a removed server is kept.
const CONCURRENCY_TIMEOUT: u32 = 10;

impl LbPlugin {
    /// Runs VPP's periodic work up to `now`.
    ///
    /// # Errors
    /// See [`OutOfBounds`].
    pub fn tick(&mut self, now: u32) -> Result<(), OutOfBounds> {
        while self.next_collection <= now {
            self.collect_all(self.next_collection)?;
            self.next_collection += COLLECTION_INTERVAL;
        }
        Ok(())
    }

    fn collect_all(&mut self, now: u32) -> Result<(), OutOfBounds> {
        let vips: Vec<usize> = self.vips.iter().map(|(index, _)| index).collect();
        for index in vips {
            self.collect(index, now)?;
            if self.vips.get(index).is_some_and(|vip| !vip.used && vip.servers.is_empty() && index != 0) {
                self.vips.remove(index);
            }
        }
        Ok(())
    }

    /// Frees the removed servers of a VIP, if its collection is due.
    pub(super) fn collect(&mut self, vip: usize, now: u32) -> Result<(), OutOfBounds> {
        let Some(state) = self.vips.get_any_mut(vip) else { return Ok(()) };
        if now < state.last_collection + COLLECTION_INTERVAL {
            return Ok(());
        }
        state.last_collection = now;
        let members: Vec<(usize, usize)> = state.servers.iter().map(|(slot, index)| (slot, *index)).collect();
        let nat_port = state.family.is_nat().then_some(state.target_port);
        for (slot, index) in members {
            let Some(server) = self.servers.get(index) else { continue };
            let address = server.address;
            if server.used || now < server.last_used + CONCURRENCY_TIMEOUT || self.flow_count(index) > 0 {
                continue;
            }
            if nat_port.is_some_and(|port| !self.nat.remove(&(address, port))) {
                return Err(OutOfBounds("two NAT VIPs shared a server and its port".into()));
            }
            self.fib.remove_server(address);
            self.servers.remove(index);
            if let Some(state) = self.vips.get_any_mut(vip) {
                state.servers.remove(slot);
            }
        }
        Ok(())
    }
}
