//! What VPP has of a frontend, and why it has no more.

use alloc::format;
use alloc::string::String;

use super::super::frontends::Slot;
use super::super::sync::{Failure, Job, is_nat};
use super::super::{State, Timer, show};
use super::standing::Standing;
use super::words::until;
use crate::config::ForeignVips;
use crate::dataplane::{ActualAs, ActualVip, Step, VipKey};
use crate::time::Now;

impl State {
    /// When something is tried again, as the end of a sentence.
    pub(super) fn next_try(&self, timer: Timer, now: Now) -> String {
        let next = self.timers.iter().find(|(_, a)| *a == timer);
        next.map_or_else(String::new, |(at, _)| format!("; next try in {}", until(*at - now.mono)))
    }
}

impl Standing<'_> {
    /// Whether VPP has the weight that health and failover ask for. Only to be asked when VPP has been read.
    pub fn agrees(&self, slot: &Slot, effective: u8) -> bool {
        self.server(slot).is_some_and(|s| s.weight == effective / self.divisor)
    }

    pub fn server(&self, slot: &Slot) -> Option<&ActualAs> {
        self.found.and_then(|vip| vip.servers.get(&slot.address))
    }

    /// What VPP has of a server, and why that is not what it should be. Only to be asked when VPP has been read.
    pub fn in_vpp(&self, slot: &Slot, effective: u8) -> String {
        let Some(found) = self.found else {
            return format!("not there, as the VIP is not: {}", self.absence());
        };
        let Some(server) = found.servers.get(&slot.address) else {
            return format!("not there yet: {}", self.progress());
        };
        let has = server.weight;
        let to = self.wanted.servers.get(&slot.address).map_or(has, |s| s.weight);
        let target = effective / self.divisor;
        if has != to {
            return format!("weight {has}, to become {to}: {}", self.progress());
        }
        if to != target {
            return format!(
                "weight {has}, kept while {} is held; health asks for {target}",
                self.frontend.name
            );
        }
        let scale = if self.divisor > 1 && has > 0 {
            format!(" ({effective} / {})", self.divisor)
        } else {
            String::new()
        };
        format!("weight {has}{scale}{}{}", share(found, *server), self.leftover(slot, has))
    }

    /// What becomes of the flows of a server that has no weight.
    fn leftover(&self, slot: &Slot, has: u8) -> &'static str {
        let kept = has == 0 && self.state.sync.inferred.may_have_flows(self.frontend.vip, slot.address);
        if kept { "; flows that it had go on" } else { "" }
    }

    /// What VPP has of the VIP itself. Only to be asked when VPP has been read.
    pub fn vip_in_vpp(&self) -> String {
        let vip = self.frontend.vip;
        let Some(found) = self.found else { return format!("{vip} is not there: {}", self.absence()) };
        let table =
            found.table_length.map_or_else(String::new, |length| format!(", table of {length} entries"));
        let scale =
            if self.divisor > 1 { format!(", weights divided by {}", self.divisor) } else { String::new() };
        let word = format!("{vip} is there: {}{table}{scale}", found.encap);
        match self.job() {
            Some(Job::Running(steps)) => format!("{word}; {}", at_work(steps)),
            Some(Job::Reading | Job::Waiting) | None => word,
        }
    }

    /// The last failure, and when it is tried again.
    pub fn failure(&self) -> Option<String> {
        let Failure { step, error, times } = self.state.sync.failures.get(&self.frontend.vip)?;
        let often = if *times > 1 { format!(", {times} times in a row") } else { String::new() };
        let again = match self.job() {
            Some(Job::Waiting) => self.state.next_try(Timer::Retry(self.frontend.vip), self.now),
            _ => "; it is being tried again".into(),
        };
        Some(format!("`{step}` failed: {error}{often}{again}"))
    }

    /// What is wrong with its table, if anything.
    pub fn too_short(&self) -> Option<String> {
        let found = self.found?;
        show::too_short(found, found.table_length.unwrap_or_else(|| self.frontend.table_length()))
    }

    /// That the VIP gets no traffic, if that is so.
    pub fn shadowed(&self) -> Option<&'static str> {
        self.state.sync.shadowed.contains(&self.frontend.vip).then_some(show::SHADOWED)
    }

    fn job(&self) -> Option<&Job> {
        self.state.sync.jobs.get(&self.frontend.vip)
    }

    /// Why VPP does not have the VIP.
    fn absence(&self) -> String {
        let (sync, vip) = (&self.state.sync, &self.frontend.vip);
        match (self.job(), sync.blocker(vip, self.wanted.encap)) {
            (None | Some(Job::Reading), Some(blocker)) => self.blocked(blocker),
            _ => self.progress(),
        }
    }

    /// What stands in the way.
    fn blocked(&self, blocker: VipKey) -> String {
        let (state, word) = (self.state, format!("VPP has {blocker} on this address, which allows no other"));
        if let Some(index) = state.vips.get(&blocker) {
            return format!("{word}; it is of frontend {}", state.frontends[*index].name);
        }
        let nat = state.sync.found(&blocker).is_some_and(|found| is_nat(found.encap));
        if state.sync.retired.contains(&blocker)
            || state.config.lb.foreign_vips == ForeignVips::Remove && !nat
        {
            format!("{word}; it is to be removed")
        } else {
            format!("{word}; it is nobody's here, and stays")
        }
    }

    /// What is under way with the VIP.
    fn progress(&self) -> String {
        match self.job() {
            Some(Job::Running(steps)) => at_work(steps),
            Some(Job::Reading) => "VPP is being read".into(),
            Some(Job::Waiting) => self.failure().unwrap_or_else(|| "it is tried again".into()),
            None => "VPP has not been told yet".into(),
        }
    }
}

fn at_work(steps: &[Step]) -> String {
    match steps {
        [] => "VPP is at work".into(),
        [step] => format!("VPP is at work: {step}"),
        [step, rest @ ..] => format!("VPP is at work: {step}, and {} more", rest.len()),
    }
}

/// A server's share of new flows, where it is known.
fn share(vip: &ActualVip, server: ActualAs) -> String {
    let all: u64 = vip.servers.values().map(|s| u64::from(s.buckets)).sum();
    if vip.table_length.is_none() || all == 0 || server.weight == 0 {
        return String::new();
    }
    let permille = (u64::from(server.buckets) * 1000 + all / 2) / all;
    format!(", {}.{}% of new flows", permille / 10, permille % 10)
}
