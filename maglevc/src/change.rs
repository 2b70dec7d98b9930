//! Calls that change overrides.

use std::time::Duration;

use maglev_proto::v1::{
    Backend, DisableBackendRequest, EnableBackendRequest, Frontend, OverrideMetadata, PauseBackendRequest,
    PoolBackend, ResumeBackendRequest, SetFrontendPoolBackendWeightRequest,
    UnsetFrontendPoolBackendWeightRequest,
};
use tonic::{Code, Status};

use crate::client::Client;
use crate::command::Command;
use crate::fetch::{self, empty, unknown};
use crate::grammar::{BackendAction, NameKind};
use crate::result::{ActionResult, WeightResult};

/// A backend of a pool.
struct Member {
    frontend: String,
    pool: String,
    backend: String,
    /// The member before the change; `None` if only an override of it was left.
    before: Option<PoolBackend>,
}

/// Performs an action on the backend that the command names.
///
/// # Errors
/// Returns the server's status.
pub async fn run_action(
    client: &mut Client,
    action: BackendAction,
    command: &Command,
) -> Result<ActionResult, Status> {
    let given = command.name(NameKind::Backend).unwrap_or_default();
    let before = find(client, given).await?;
    let name = before.as_ref().map_or_else(|| given.into(), |backend| backend.name.clone());
    let (after, persist_error) = send_action(client, action, name.clone(), metadata(command)?).await?;
    Ok(ActionResult { name, before, after, persist_error })
}

/// Sends the call and returns the backend and the persist error. Only undoing calls may return no backend.
async fn send_action(
    client: &mut Client,
    action: BackendAction,
    name: String,
    metadata: Option<OverrideMetadata>,
) -> Result<(Option<Backend>, String), Status> {
    Ok(match action {
        BackendAction::Pause => {
            let answer = client.pause_backend(PauseBackendRequest { name, metadata }).await?.into_inner();
            (Some(answer.backend.ok_or_else(empty)?), answer.persist_error)
        }
        BackendAction::Resume => {
            let answer = client.resume_backend(ResumeBackendRequest { name }).await?.into_inner();
            (answer.backend, answer.persist_error)
        }
        BackendAction::Disable => {
            let answer = client.disable_backend(DisableBackendRequest { name, metadata }).await?.into_inner();
            (Some(answer.backend.ok_or_else(empty)?), answer.persist_error)
        }
        BackendAction::Enable => {
            let answer = client.enable_backend(EnableBackendRequest { name, metadata }).await?.into_inner();
            (answer.backend, answer.persist_error)
        }
    })
}

/// Returns the backend with exactly this name, or `None` if only an override still has it. A prefix is refused: the one
/// that a script names may have left the configuration, and another begin with its name.
async fn find(client: &mut Client, name: &str) -> Result<Option<Backend>, Status> {
    let request = maglev_proto::v1::GetBackendRequest { name: name.into() };
    let status = match client.get_backend(request).await {
        Err(status) if status.code() == Code::NotFound => status,
        answer => return answer?.into_inner().backend.ok_or_else(empty).map(Some),
    };
    let overrides = fetch::overrides(client).await?.overrides;
    if overrides.iter().any(|one| one.frontend.is_empty() && one.backend == name) {
        return Ok(None);
    }
    let names: Vec<String> = fetch::backends(client).await?.into_iter().map(|one| one.name).collect();
    Err(unknown(name, &names, status))
}

/// Overrides the weight that the command names.
///
/// # Errors
/// Returns the server's status.
pub async fn set_weight(client: &mut Client, command: &Command) -> Result<WeightResult, Status> {
    let member = member(client, command).await?;
    let request = SetFrontendPoolBackendWeightRequest {
        frontend: member.frontend.clone(),
        pool: member.pool.clone(),
        backend: member.backend.clone(),
        weight: command.number("weight").unwrap_or_default(),
        metadata: metadata(command)?,
    };
    let answer = client.set_frontend_pool_backend_weight(request).await?.into_inner();
    let result = member.into_result(answer.frontend, command.duration("for"), answer.persist_error);
    result.after.is_some().then_some(result).ok_or_else(empty)
}

/// Restores the configured weight that the command names.
///
/// # Errors
/// Returns the server's status.
pub async fn unset_weight(client: &mut Client, command: &Command) -> Result<WeightResult, Status> {
    let member = member(client, command).await?;
    let request = UnsetFrontendPoolBackendWeightRequest {
        frontend: member.frontend.clone(),
        pool: member.pool.clone(),
        backend: member.backend.clone(),
    };
    let answer = client.unset_frontend_pool_backend_weight(request).await?.into_inner();
    Ok(member.into_result(answer.frontend, None, answer.persist_error))
}

/// Finds the member with exactly these names. Overrides of removed members come first.
async fn member(client: &mut Client, command: &Command) -> Result<Member, Status> {
    let given = |kind| command.name(kind).unwrap_or_default();
    let names = [NameKind::Frontend, NameKind::Pool, NameKind::Member].map(given);
    let overrides = fetch::overrides(client).await?.overrides;
    if overrides.iter().any(|one| one.dangling && [&one.frontend, &one.pool, &one.backend] == names) {
        let [frontend, pool, backend] = names.map(String::from);
        return Ok(Member { frontend, pool, backend, before: None });
    }
    let frontend = fetch::whole_frontend(client, given(NameKind::Frontend).into()).await?;
    let [_, pool, backend] = names;
    let of = format!("frontend `{}`", frontend.name);
    let Some(members) = frontend.pools.iter().find(|one| one.name == pool).map(|one| &one.backends) else {
        let pools = frontend.pools.iter().map(|one| one.name.clone());
        return Err(no("pool", pool, &of, pools));
    };
    let Some(before) = members.iter().find(|one| one.name == backend).cloned() else {
        let members = members.iter().map(|one| one.name.clone());
        return Err(no("backend", backend, &format!("pool `{pool}` of {of}"), members));
    };
    Ok(Member { frontend: frontend.name, pool: pool.into(), backend: backend.into(), before: Some(before) })
}

/// Returns the error for a name that `parent` has not.
fn no(kind: &str, name: &str, parent: &str, names: impl Iterator<Item = String>) -> Status {
    let names: Vec<String> = names.collect();
    unknown(name, &names, Status::not_found(format!("no {kind} is named `{name}` in {parent}")))
}

impl Member {
    /// Builds the result from the server's answer.
    fn into_result(
        self,
        answer: Option<Frontend>,
        lifetime: Option<Duration>,
        persist_error: String,
    ) -> WeightResult {
        let Self { frontend, pool, backend, before } = self;
        let pools = answer.map(|answer| answer.pools).unwrap_or_default();
        let mut here = pools.into_iter().filter(|one| one.name == pool).flat_map(|one| one.backends);
        let after = here.find(|one| one.name == backend);
        WeightResult { frontend, pool, backend, before, after, lifetime, persist_error }
    }
}

fn metadata(command: &Command) -> Result<Option<OverrideMetadata>, Status> {
    let reason = command.text("reason").unwrap_or_default();
    let lifetime = command.duration("for").map(maglev_proto::Duration::try_from).transpose();
    let lifetime = lifetime.map_err(|_| Status::invalid_argument("a duration is too long"))?;
    Ok((lifetime.is_some() || !reason.is_empty())
        .then(|| OverrideMetadata { reason: reason.into(), lifetime }))
}
