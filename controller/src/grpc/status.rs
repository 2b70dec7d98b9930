//! Statuses that several calls return.

use maglev_core::view::{VppInfo, VppView};
use tonic::Status;

use crate::handle::ShuttingDown;

/// Returns UNAVAILABLE during shutdown.
pub fn shutting_down(error: ShuttingDown) -> Status {
    Status::unavailable(error.to_string())
}

/// Returns NOT_FOUND.
pub fn not_found(kind: &str, name: &str) -> Status {
    Status::not_found(format!("no {kind} is named `{name}`"))
}

/// Returns UNAVAILABLE. The calls that need no VPP report the cause.
pub fn not_connected() -> Status {
    Status::unavailable("VPP is not connected: `explain frontend` and maglevd's log say why")
}

/// Returns the connected VPP.
///
/// # Errors
/// UNAVAILABLE, with the reason.
pub fn connected(vpp: &VppView) -> Result<&VppInfo, Status> {
    if !vpp.enabled {
        return Err(Status::unavailable("VPP is not used: maglevd runs without --vpp-api-addr"));
    }
    vpp.info.as_ref().ok_or_else(not_connected)
}
