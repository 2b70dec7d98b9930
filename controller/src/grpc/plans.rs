//! Calls that plan a sync or a reload.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use maglev_core::config::{Config, Problem};
use maglev_core::dataplane::{Step, VipKey};
use maglev_core::state::{PlanPreview, VipPreview};
use maglev_proto::v1::{self, CheckConfigResponse};
use tokio::task::spawn_blocking;
use tonic::Status;

use super::convert::vip;
use super::status::{connected, not_connected, shutting_down};
use crate::clock;
use crate::coalesced::CoalescedWork;
use crate::config::{LoadError, report};
use crate::handle::{Handle, ShuttingDown};
use crate::readings::{ReadingError, ReadingFreshness};
use crate::reload::Reloader;

/// VppPlanner of syncs and reloads. One plan of a kind is made at a time, for all who ask for it.
pub struct VppPlanner {
    handle: Handle,
    reloader: Reloader,
    syncs: [CoalescedWork<Result<v1::Plan, Status>>; ReadingFreshness::COUNT],
    plans: [CoalescedWork<Result<CheckConfigResponse, Status>>; ReadingFreshness::COUNT],
    checks: CoalescedWork<Result<CheckConfigResponse, Status>>,
}

impl VppPlanner {
    /// Creates a planner.
    pub fn new(handle: Handle, reloader: Reloader) -> Self {
        let (syncs, plans, checks) = Default::default();
        Self { handle, reloader, syncs, plans, checks }
    }

    /// Returns the changes that bring VPP to the desired state.
    pub async fn sync(&self, freshness: ReadingFreshness) -> Result<v1::Plan, Status> {
        let handle = self.handle.clone();
        let work = || async move { plan(&handle, None, freshness).await };
        self.syncs[freshness as usize].run(work).await.ok_or(ShuttingDown).map_err(shutting_down)?
    }

    /// Checks the configuration file, and plans its reload if a freshness is given.
    pub async fn check(&self, freshness: Option<ReadingFreshness>) -> Result<CheckConfigResponse, Status> {
        let (handle, reloader) = (self.handle.clone(), self.reloader.clone());
        let work = || async move { check(&handle, &reloader, freshness).await };
        let coalesced = freshness.map_or(&self.checks, |freshness| &self.plans[freshness as usize]);
        coalesced.run(work).await.ok_or(ShuttingDown).map_err(shutting_down)?
    }
}

async fn check(
    handle: &Handle,
    reloader: &Reloader,
    freshness: Option<ReadingFreshness>,
) -> Result<CheckConfigResponse, Status> {
    let config = match reloader.check().await.map_err(shutting_down)? {
        Ok(loaded) => loaded.config,
        Err(error) => return Ok(CheckConfigResponse { fault: Some(config_fault(&error)), plan: None }),
    };
    let plan = match freshness {
        Some(freshness) => Some(plan(handle, Some(Arc::new(config)), freshness).await?),
        None => None,
    };
    Ok(CheckConfigResponse { fault: None, plan })
}

/// Returns the changes to VPP as it was read, after a reload to `config` if given.
async fn plan(
    handle: &Handle,
    config: Option<Arc<Config>>,
    freshness: ReadingFreshness,
) -> Result<v1::Plan, Status> {
    let connection = connected(&handle.snapshot().await.map_err(shutting_down)?.vpp()).map(drop);
    if let (Err(_), Some(config)) = (&connection, &config) {
        return notes_alone(handle, config).await;
    }
    connection?;
    let shared = handle.read_vpp(freshness).await.map_err(shutting_down)?.map_err(unread)?;
    let snapshot = handle.snapshot().await.map_err(shutting_down)?;
    // Large tables take time, so this runs off the worker threads.
    let planned = spawn_blocking(move || {
        let age = shared.age();
        let actual = shared.actual(snapshot.state.actual().as_deref());
        let preview = snapshot.state.preview(actual, config, clock::now());
        v1::Plan { reading_age: age.try_into().ok(), ..convert(&preview, &shared.reading().flows) }
    });
    planned.await.map_err(|error| Status::internal(format!("cannot plan: {error}")))
}

fn unread(error: ReadingError) -> Status {
    match error {
        ReadingError::NotConnected => not_connected(),
        ReadingError::BudgetExhausted => Status::resource_exhausted(error.to_string()),
    }
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
        reading_age: None,
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
