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
use crate::grammar::{Kind, Order};
use crate::show::{self, empty, whole};

/// Result of an action on a backend.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The backend's name.
    pub name: String,
    /// The backend before the action; `None` if only an override of it was left.
    pub before: Option<Backend>,
    /// The backend after the action; `None` if it has left the configuration.
    pub after: Option<Backend>,
    /// Reason why a restart of the daemon would lose the change; empty if it would not.
    pub persist_error: String,
}

/// Result of a change of weight.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// The frontend's name.
    pub frontend: String,
    /// The pool's name.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The member before the change; `None` if only an override of it was left.
    pub before: Option<PoolBackend>,
    /// The member after the change; `None` if it has left the configuration.
    pub after: Option<PoolBackend>,
    /// Lifetime of the override.
    pub lifetime: Option<Duration>,
    /// Reason why a restart of the daemon would lose the change; empty if it would not.
    pub persist_error: String,
}

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
pub async fn order(client: &mut Client, order: Order, command: &Command) -> Result<Ordered, Status> {
    let given = command.name(Kind::Backend).unwrap_or_default();
    let before = find(client, given).await?;
    let name = before.as_ref().map_or_else(|| given.into(), |backend| backend.name.clone());
    let (after, persist_error) = give(client, order, name.clone(), metadata(command)?).await?;
    Ok(Ordered { name, before, after, persist_error })
}

/// Sends the call and returns the backend and the persist error. Only undoing calls may return no backend.
async fn give(
    client: &mut Client,
    order: Order,
    name: String,
    metadata: Option<OverrideMetadata>,
) -> Result<(Option<Backend>, String), Status> {
    Ok(match order {
        Order::Pause => {
            let answer = client.pause_backend(PauseBackendRequest { name, metadata }).await?.into_inner();
            (Some(answer.backend.ok_or_else(empty)?), answer.persist_error)
        }
        Order::Resume => {
            let answer = client.resume_backend(ResumeBackendRequest { name }).await?.into_inner();
            (answer.backend, answer.persist_error)
        }
        Order::Disable => {
            let answer = client.disable_backend(DisableBackendRequest { name, metadata }).await?.into_inner();
            (Some(answer.backend.ok_or_else(empty)?), answer.persist_error)
        }
        Order::Enable => {
            let answer = client.enable_backend(EnableBackendRequest { name, metadata }).await?.into_inner();
            (answer.backend, answer.persist_error)
        }
    })
}

/// Resolves the backend's name. Returns `None` if only an override still has this name: it must not be completed to
/// another backend.
async fn find(client: &mut Client, name: &str) -> Result<Option<Backend>, Status> {
    let request = maglev_proto::v1::GetBackendRequest { name: name.into() };
    match client.get_backend(request).await {
        Err(status) if status.code() == Code::NotFound => {}
        answer => return answer?.into_inner().backend.ok_or_else(empty).map(Some),
    }
    let overrides = show::overrides(client).await?.overrides;
    if overrides.iter().any(|one| one.frontend.is_empty() && one.backend == name) {
        return Ok(None);
    }
    show::backend(client, name.into()).await.map(Some)
}

/// Overrides the weight that the command names.
///
/// # Errors
/// Returns the server's status.
pub async fn set_weight(client: &mut Client, command: &Command) -> Result<Weighed, Status> {
    let member = member(client, command).await?;
    let request = SetFrontendPoolBackendWeightRequest {
        frontend: member.frontend.clone(),
        pool: member.pool.clone(),
        backend: member.backend.clone(),
        weight: command.number("weight").unwrap_or_default(),
        metadata: metadata(command)?,
    };
    let answer = client.set_frontend_pool_backend_weight(request).await?.into_inner();
    let weighed = member.weighed(answer.frontend, command.duration("for"), answer.persist_error);
    weighed.after.is_some().then_some(weighed).ok_or_else(empty)
}

/// Restores the configured weight that the command names.
///
/// # Errors
/// Returns the server's status.
pub async fn unset_weight(client: &mut Client, command: &Command) -> Result<Weighed, Status> {
    let member = member(client, command).await?;
    let request = UnsetFrontendPoolBackendWeightRequest {
        frontend: member.frontend.clone(),
        pool: member.pool.clone(),
        backend: member.backend.clone(),
    };
    let answer = client.unset_frontend_pool_backend_weight(request).await?.into_inner();
    Ok(member.weighed(answer.frontend, None, answer.persist_error))
}

/// Resolves the names of a member. Overrides of removed members come first: their names must not be completed to other
/// members.
async fn member(client: &mut Client, command: &Command) -> Result<Member, Status> {
    let given = |kind| command.name(kind).unwrap_or_default();
    let names = [Kind::Frontend, Kind::Pool, Kind::Member].map(given);
    let overrides = show::overrides(client).await?.overrides;
    if overrides.iter().any(|one| one.dangling && [&one.frontend, &one.pool, &one.backend] == names) {
        let [frontend, pool, backend] = names.map(String::from);
        return Ok(Member { frontend, pool, backend, before: None });
    }
    let frontend = show::frontend(client, given(Kind::Frontend).into()).await?;
    let unknown =
        |kind: &str, name: &str, of: &str| Status::not_found(format!("no {kind} is named `{name}` in {of}"));

    let (name, of) = (given(Kind::Pool), format!("frontend `{}`", frontend.name));
    let pools = frontend.pools.iter().map(|pool| pool.name.clone());
    let pool = whole(name, pools, unknown("pool", name, &of))?;

    let (name, of) = (given(Kind::Member), format!("pool `{pool}` of {of}"));
    let here = || frontend.pools.iter().filter(|one| one.name == pool).flat_map(|one| &one.backends);
    let unknown = unknown("backend", name, &of);
    let name = whole(name, here().map(|one| one.name.clone()), unknown)?;
    let before = here().find(|one| one.name == name).cloned();
    Ok(Member { frontend: frontend.name, pool, backend: name, before })
}

impl Member {
    /// Builds the result from the server's answer.
    fn weighed(self, answer: Option<Frontend>, lifetime: Option<Duration>, persist_error: String) -> Weighed {
        let Self { frontend, pool, backend, before } = self;
        let pools = answer.map(|answer| answer.pools).unwrap_or_default();
        let mut here = pools.into_iter().filter(|one| one.name == pool).flat_map(|one| one.backends);
        let after = here.find(|one| one.name == backend);
        Weighed { frontend, pool, backend, before, after, lifetime, persist_error }
    }
}

fn metadata(command: &Command) -> Result<Option<OverrideMetadata>, Status> {
    let reason = command.text("reason").unwrap_or_default();
    let lifetime = command.duration("for").map(maglev_proto::Duration::try_from).transpose();
    let lifetime = lifetime.map_err(|_| Status::invalid_argument("a duration is too long"))?;
    Ok((lifetime.is_some() || !reason.is_empty())
        .then(|| OverrideMetadata { reason: reason.into(), lifetime }))
}
