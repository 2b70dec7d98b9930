//! Calls that plan a sync or a reload.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use maglev_core::config::{Config, Problem};
use maglev_core::dataplane::{Step, VipKey};
use maglev_core::state::{PlanPreview, VipPreview};
use maglev_proto::v1;
use tokio::task::spawn_blocking;
use tonic::Status;

use super::convert::vip;
use super::status::{connected, not_connected, shutting_down};
use crate::clock;
use crate::config::{LoadError, report};
use crate::handle::Handle;
use crate::published::VppReading;

/// Returns the changes to VPP as it is now, after a reload to `config` if given.
pub async fn plan(handle: &Handle, config: Option<Arc<Config>>) -> Result<v1::Plan, Status> {
    let connection = connected(&handle.view().await.map_err(shutting_down)?.vpp).map(drop);
    if let (Err(_), Some(config)) = (&connection, &config) {
        return notes_alone(handle, config).await;
    }
    connection?;
    let reading = handle.read_vpp().await.map_err(shutting_down)?;
    let (VppReading { actual, flows }, turn) = reading.ok_or_else(not_connected)?;
    let snapshot = handle.snapshot().await.map_err(shutting_down)?;
    // Large tables take time, so this runs off the worker threads.
    let preview = spawn_blocking(move || {
        let _turn = turn;
        snapshot.state.preview(actual, config, clock::now())
    })
    .await;
    let preview = preview.map_err(|error| Status::internal(format!("cannot plan: {error}")))?;
    Ok(convert(&preview, &flows))
}

/// Returns what can be told of a reload while VPP is not connected.
async fn notes_alone(handle: &Handle, config: &Arc<Config>) -> Result<v1::Plan, Status> {
    let snapshot = handle.snapshot().await.map_err(shutting_down)?;
    let notes = snapshot.state.reload_notes(config, clock::now());
    let missing = "VPP is not connected: the steps are not known".to_owned();
    let notes = notes.iter().map(ToString::to_string).chain([missing]).collect();
    Ok(v1::Plan { notes, ..v1::Plan::default() })
}

fn convert(preview: &PlanPreview, flows: &BTreeMap<(VipKey, IpAddr), u64>) -> v1::Plan {
    let vip_plan = |planned: &VipPreview| v1::VipPlan {
        vip: Some(vip(&planned.vip)),
        frontend: planned.frontend.as_deref().unwrap_or_default().into(),
        steps: planned.steps.iter().map(ToString::to_string).collect(),
        new_flows_moved: planned.new_flows_moved,
        flows_flushed: flushed_flows(planned, flows),
        recreates_vip: planned.recreates_vip,
    };
    v1::Plan {
        updates_global_conf: preview.conf.is_some(),
        vips: preview.vips.iter().map(vip_plan).collect(),
        notes: preview.notes.iter().map(ToString::to_string).collect(),
    }
}

/// Returns the number of flows that the plan flushes, if any and if VPP reports them.
fn flushed_flows(planned: &VipPreview, flows: &BTreeMap<(VipKey, IpAddr), u64>) -> Option<u64> {
    let flushed_flows = planned.steps.iter().filter_map(|step| match step {
        Step::RemoveAs { server } | Step::SetWeight { server, flush: true, .. } => Some(server),
        _ => None,
    });
    let flows = flushed_flows.filter_map(|server| flows.get(&(planned.vip, *server)));
    flows.copied().reduce(|sum, flows| sum + flows)
}

/// Converts a load error.
pub fn config_fault(error: &LoadError) -> v1::ConfigFault {
    let problem = |problem: &Problem| v1::ConfigProblem {
        path: problem.path.clone(),
        message: problem.message.clone(),
    };
    match error {
        LoadError::Semantic { problems, .. } => {
            v1::ConfigFault { parse_error: String::new(), problems: problems.iter().map(problem).collect() }
        }
        LoadError::Read { .. } | LoadError::Parse { .. } => {
            v1::ConfigFault { parse_error: report(error).1.concat(), problems: Vec::new() }
        }
    }
}
