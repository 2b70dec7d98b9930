//! Removed servers and VIPs linger until they are collected.

use super::plugin::{Crash, Plugin};

/// Seconds between two collections, of the whole plugin and of one VIP.
pub(super) const RUN: u32 = 60;
/// Seconds that a removed server is kept at least.
const CONCURRENCY_TIMEOUT: u32 = 10;

impl Plugin {
    /// Does what VPP does by itself until `now`.
    ///
    /// # Errors
    /// See [`Crash`].
    pub fn tick(&mut self, now: u32) -> Result<(), Crash> {
        while self.next_collection <= now {
            self.collect_all(self.next_collection)?;
            self.next_collection += RUN;
        }
        Ok(())
    }

    fn collect_all(&mut self, now: u32) -> Result<(), Crash> {
        let vips: Vec<usize> = self.vips.iter().map(|(index, _)| index).collect();
        for index in vips {
            self.collect(index, now)?;
            if self.vips.get(index).is_some_and(|vip| !vip.used && vip.servers.is_empty() && index != 0) {
                self.vips.remove(index);
            }
        }
        Ok(())
    }

    /// Frees the ghosts of a VIP, if it is time.
    pub(super) fn collect(&mut self, vip: usize, now: u32) -> Result<(), Crash> {
        let Some(state) = self.vips.get_any_mut(vip) else { return Ok(()) };
        if now < state.last_collection + RUN {
            return Ok(());
        }
        state.last_collection = now;
        let members: Vec<(usize, usize)> = state.servers.iter().map(|(slot, index)| (slot, *index)).collect();
        let nat_port = state.family.is_nat().then_some(state.target_port);
        for (slot, index) in members {
            let Some(server) = self.servers.get(index) else { continue };
            let address = server.address;
            if server.used || now < server.last_used + CONCURRENCY_TIMEOUT || self.references(index) > 0 {
                continue;
            }
            if nat_port.is_some_and(|port| !self.nat.remove(&(address, port))) {
                return Err(Crash("two NAT VIPs shared a server and its port".into()));
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
