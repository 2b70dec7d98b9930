//! Explanation of a frontend's VIP in VPP.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::frontends::FrontendSlot;
use super::super::vip_reconciler::{VipFailure, VipJob};
use super::super::{State, Timer, show};
use super::context::FrontendContext;
use super::format::until;
use crate::dataplane::{ActualAs, ActualVip, Step, VipKey};
use crate::maglev::WeightScale;
use crate::time::Now;

impl State {
    /// Returns the time of a retry, as the end of a sentence.
    pub(super) fn next_retry(&self, timer: Timer, now: Now) -> String {
        let next = self.timers.iter().find(|(_, a)| *a == timer);
        next.map_or_else(String::new, |(at, _)| format!("; next try in {}", until(*at - now.mono)))
    }
}

impl FrontendContext<'_> {
    /// Reports whether VPP has the effective weight. VPP must have been read.
    pub fn agrees(&self, slot: &FrontendSlot, effective: u8) -> bool {
        self.server(slot).is_some_and(|s| s.weight == slot.scale.units(effective))
    }

    pub fn server(&self, slot: &FrontendSlot) -> Option<&ActualAs> {
        self.found.and_then(|vip| vip.servers.get(&slot.address))
    }

    /// Returns a server's weight in VPP, and the reason of a difference. VPP must have been read.
    pub fn in_vpp(&self, slot: &FrontendSlot, effective: u8) -> String {
        let Some(found) = self.found else {
            return format!("not there, as the VIP is not: {}", self.absence());
        };
        let Some(server) = found.servers.get(&slot.address) else {
            return format!("not there yet: {}", self.progress());
        };
        let has = server.weight;
        let to = self.wanted.servers.get(&slot.address).map_or(has, |s| s.weight);
        let target = slot.scale.units(effective);
        if has != to {
            return format!("weight {has}, to become {to}: {}", self.progress());
        }
        if to != target {
            return format!(
                "weight {has}, kept while {} is held; health asks for {target}",
                self.frontend.name
            );
        }
        format!(
            "weight {has}{}{}{}",
            units_of(effective, slot.scale),
            share(found, *server),
            self.remaining_flows(slot, has)
        )
    }

    /// Returns a note about the flows of a server without weight.
    fn remaining_flows(&self, slot: &FrontendSlot, has: u8) -> &'static str {
        let kept = has == 0 && self.state.inferred.may_have_flows(self.frontend.vip, slot.address);
        if kept { "; its existing flows continue" } else { "" }
    }

    /// Returns the VIP in VPP. VPP must have been read.
    pub fn vip_in_vpp(&self) -> String {
        let vip = self.frontend.vip;
        let Some(found) = self.found else { return format!("{vip} is not there: {}", self.absence()) };
        let table =
            found.table_length.map_or_else(String::new, |length| format!(", table of {length} entries"));
        let word = format!("{vip} is there: {}{table}", found.encap);
        match self.job() {
            Some(VipJob::Running(steps)) => format!("{word}; {}", describe_steps(steps)),
            Some(VipJob::Reading | VipJob::Waiting) | None => word,
        }
    }

    /// Returns the last failure, and the time of the retry.
    pub fn failure(&self) -> Option<String> {
        let VipFailure { step, error, times } = self.state.vip_jobs.failure(&self.frontend.vip)?;
        let often = if *times > 1 { format!(", {times} times in a row") } else { String::new() };
        let again = match self.job() {
            Some(VipJob::Waiting) => self.state.next_retry(Timer::RetryVip(self.frontend.vip), self.now),
            _ => "; the retry is in progress".into(),
        };
        Some(format!("`{step}` failed: {error}{often}{again}"))
    }

    /// Returns a warning if the weights exceed the table.
    pub fn weights_exceed_table(&self) -> Option<String> {
        let found = self.found?;
        show::weights_exceed_table(
            found,
            found.table_length.unwrap_or_else(|| self.frontend.config.created_table_length()),
        )
    }

    /// Returns a warning if a VIP created now would have another table.
    pub fn other_table(&self) -> Option<String> {
        show::other_table(self.frontend, self.found?)
    }

    /// Returns a warning if VPP has the address on an interface.
    pub fn address_conflict(&self) -> Option<&'static str> {
        self.state.observed.conflicts().contains(&self.frontend.vip).then_some(show::ADDRESS_CONFLICT)
    }

    /// Returns a warning while another client changes the VIP again and again.
    pub fn drift(&self) -> Option<String> {
        self.state.drift_warning(&self.frontend.vip, self.now.mono)
    }

    /// Returns notes about MTUs and subnets that may lose packets.
    pub fn surroundings(&self) -> Vec<String> {
        let found = self.state.observed.surroundings(&self.frontend.vip);
        found.map_or_else(Vec::new, |found| found.notes(&self.frontend.vip, self.frontend.config.encap))
    }

    fn job(&self) -> Option<&VipJob> {
        self.state.vip_jobs.job(&self.frontend.vip)
    }

    /// Returns the reason for which VPP does not have the VIP.
    fn absence(&self) -> String {
        let (state, vip) = (self.state, &self.frontend.vip);
        match (self.job(), state.creation_blocker(vip, self.wanted.encap)) {
            (None | Some(VipJob::Reading), Some(blocker)) => self.describe_blocker(blocker),
            _ => self.progress(),
        }
    }

    /// Returns the description of a VIP that blocks this one.
    fn describe_blocker(&self, blocker: VipKey) -> String {
        let (state, word) = (self.state, format!("VPP has {blocker} on this address, which allows no other"));
        if let Some(index) = state.frontend_by_vip.get(&blocker) {
            return format!("{word}; it is of frontend {}", state.frontends[*index].name);
        }
        if state.observed.vip(&blocker).is_none_or(|found| state.is_unwanted(&blocker, found.encap)) {
            format!("{word}; it is to be removed")
        } else {
            format!("{word}; it is foreign, and stays")
        }
    }

    /// Returns the job of the VIP.
    fn progress(&self) -> String {
        match self.job() {
            Some(VipJob::Running(steps)) => describe_steps(steps),
            Some(VipJob::Reading) => "VPP is being read".into(),
            Some(VipJob::Waiting) => self.failure().unwrap_or_else(|| "a retry is due".into()),
            None => "not sent to VPP yet".into(),
        }
    }
}

fn describe_steps(steps: &[Step]) -> String {
    match steps {
        [] => "VPP is applying steps".into(),
        [step] => format!("VPP is applying steps: {step}"),
        [step, rest @ ..] => format!("VPP is applying steps: {step}, and {} more", rest.len()),
    }
}

/// Returns the origin of a weight in VPP, unless it is the effective weight itself.
fn units_of(effective: u8, scale: WeightScale) -> String {
    let step = scale.step();
    match scale.rounded(effective) {
        _ if step == 1 || effective == 0 => String::new(),
        rounded if rounded == effective => format!(" ({effective} / {step})"),
        rounded => format!(" ({effective} / {step}, rounded: as for {rounded})"),
    }
}

/// Returns a server's share of new flows, if it is known.
fn share(vip: &ActualVip, server: ActualAs) -> String {
    let all: u64 = vip.servers.values().map(|s| u64::from(s.buckets)).sum();
    if vip.table_length.is_none() || all == 0 || server.weight == 0 {
        return String::new();
    }
    let permille = (u64::from(server.buckets) * 1000 + all / 2) / all;
    format!(", {}.{}% of new flows", permille / 10, permille % 10)
}
