//! The connection to VPP, and the identity of the VPP instance behind it.

use alloc::string::String;

use crate::ownership::VppRun;
use crate::time::{Now, WallTime};
use crate::view::VppInfo;

/// The connection to VPP.
#[derive(Clone, Debug)]
pub(super) struct VppSession {
    is_enabled: bool,
    info: Option<VppInfo>,
    since: WallTime,
    fault: Option<String>,
    instance: Option<VppInstance>,
}

/// Identity of one run of the VPP process.
#[derive(Clone, Copy, Debug)]
struct VppInstance {
    pid: u32,
    /// Start of the process, once the stats segment has reported it.
    boot: Option<WallTime>,
    /// True if the stats segment reported it on the last connection.
    boot_known: bool,
}

/// Comparison of a new connection's VPP with the VPP of the connection before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InstanceChange {
    /// No connection before.
    First,
    /// The same instance.
    Same,
    /// Another instance.
    Restarted,
    /// Another instance than the first one seen with this process id. As its boot time was unknown on the last connection, it
    /// may already have been connected then.
    MaybeRestarted,
}

impl VppSession {
    /// Creates the session. VPP is never programmed unless `is_enabled`.
    pub const fn new(is_enabled: bool, now: Now) -> Self {
        Self { is_enabled, info: None, since: now.wall, fault: None, instance: None }
    }

    /// Reports whether VPP is to be programmed at all.
    pub const fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Reports whether VPP is connected.
    pub const fn is_connected(&self) -> bool {
        self.info.is_some()
    }

    /// Returns the connected VPP.
    pub const fn info(&self) -> Option<&VppInfo> {
        self.info.as_ref()
    }

    /// Returns the time of the last connection or disconnection.
    pub const fn since(&self) -> WallTime {
        self.since
    }

    /// Returns the reason of the last failed connection attempt since VPP was connected.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Records a failed connection attempt.
    pub fn set_fault(&mut self, fault: String) {
        self.fault = Some(fault);
    }

    /// Returns the run of VPP connected last, if its start time is known.
    pub fn run(&self) -> Option<VppRun> {
        let VppInstance { pid, boot, .. } = self.instance?;
        boot.map(|boot| VppRun { pid, boot })
    }

    /// Records a new connection.
    pub fn connect(&mut self, info: VppInfo, now: Now) -> InstanceChange {
        let before = self.instance;
        // An unreadable stats segment does not make it another instance.
        let is_same = before.is_some_and(|instance| {
            instance.pid == info.pid
                && instance.boot.is_none_or(|before| info.boot.is_none_or(|now| now == before))
        });
        let known = before.filter(|_| is_same).and_then(|instance| instance.boot);
        let boot = info.boot.or(known);
        self.instance = Some(VppInstance { pid: info.pid, boot, boot_known: info.boot.is_some() });
        let change = match before {
            None => InstanceChange::First,
            Some(_) if is_same => InstanceChange::Same,
            Some(before) if before.boot_known || before.pid != info.pid => InstanceChange::Restarted,
            Some(_) => InstanceChange::MaybeRestarted,
        };
        self.info = Some(info);
        self.fault = None;
        self.since = now.wall;
        change
    }

    /// Records the loss of the connection. Returns false if there was none.
    pub fn disconnect(&mut self, now: Now) -> bool {
        if self.info.take().is_none() {
            return false;
        }
        self.since = now.wall;
        true
    }
}
