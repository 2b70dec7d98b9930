//! Asking the daemon to override the configuration.

use std::time::Duration;

use maglev_proto::v1::{
    Backend, DisableBackendRequest, EnableBackendRequest, Frontend, Note, PauseBackendRequest, PoolBackend,
    ResumeBackendRequest, SetFrontendPoolBackendWeightRequest, UnsetFrontendPoolBackendWeightRequest,
};
use tonic::{Code, Status};

use crate::client::Client;
use crate::command::Command;
use crate::grammar::{Kind, Order};
use crate::show::{self, empty, whole};

/// What was done to a backend.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// As it was. Absent if the configuration does not have it, and only an override was left of it.
    pub before: Option<Backend>,
    /// As it is.
    pub after: Backend,
}

/// What became of the weight of a backend of a pool.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// The frontend's name.
    pub frontend: String,
    /// The pool's name.
    pub pool: String,
    /// As it was.
    pub before: PoolBackend,
    /// As it is.
    pub after: PoolBackend,
    /// For how long.
    pub lifetime: Option<Duration>,
}

/// Where a weight is.
struct Member {
    frontend: String,
    pool: String,
    backend: PoolBackend,
}

/// Does something to the backend that the command names.
///
/// # Errors
/// The server says no.
pub async fn order(client: &mut Client, order: Order, command: &Command) -> Result<Ordered, Status> {
    let given = command.name(Kind::Backend).unwrap_or_default();
    let before = find(client, given).await?;
    let name = before.as_ref().map_or_else(|| given.into(), |backend| backend.name.clone());
    let note = note(command)?;
    let after = match order {
        Order::Pause => client.pause_backend(PauseBackendRequest { name, note }).await?.into_inner().backend,
        Order::Resume => client.resume_backend(ResumeBackendRequest { name }).await?.into_inner().backend,
        Order::Disable => {
            client.disable_backend(DisableBackendRequest { name, note }).await?.into_inner().backend
        }
        Order::Enable => {
            client.enable_backend(EnableBackendRequest { name, note }).await?.into_inner().backend
        }
    };
    Ok(Ordered { before, after: after.ok_or_else(empty)? })
}

/// The backend that is meant. None if it has left the configuration and an override still names it: its name must not be
/// taken for the beginning of another's.
async fn find(client: &mut Client, name: &str) -> Result<Option<Backend>, Status> {
    let request = maglev_proto::v1::GetBackendRequest { name: name.into() };
    match client.get_backend(request).await {
        Err(status) if status.code() == Code::NotFound => {}
        answer => return answer?.into_inner().backend.ok_or_else(empty).map(Some),
    }
    let overrides = show::overrides(client).await?;
    if overrides.iter().any(|one| one.frontend.is_empty() && one.backend == name) {
        return Ok(None);
    }
    show::backend(client, name.into()).await.map(Some)
}

/// Gives the backend that the command names another weight.
///
/// # Errors
/// The server says no.
pub async fn set_weight(client: &mut Client, command: &Command) -> Result<Weighed, Status> {
    let member = member(client, command).await?;
    let request = SetFrontendPoolBackendWeightRequest {
        frontend: member.frontend.clone(),
        pool: member.pool.clone(),
        backend: member.backend.name.clone(),
        weight: command.number("weight").unwrap_or_default(),
        note: note(command)?,
    };
    let answer = client.set_frontend_pool_backend_weight(request).await?.into_inner().frontend;
    weighed(member, answer, command.duration("for"))
}

/// Gives the backend that the command names its configured weight.
///
/// # Errors
/// The server says no.
pub async fn unset_weight(client: &mut Client, command: &Command) -> Result<Weighed, Status> {
    let member = member(client, command).await?;
    let request = UnsetFrontendPoolBackendWeightRequest {
        frontend: member.frontend.clone(),
        pool: member.pool.clone(),
        backend: member.backend.name.clone(),
    };
    let answer = client.unset_frontend_pool_backend_weight(request).await?.into_inner().frontend;
    weighed(member, answer, None)
}

async fn member(client: &mut Client, command: &Command) -> Result<Member, Status> {
    let given = |kind| command.name(kind).unwrap_or_default();
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
    let backend = here().find(|one| one.name == name).cloned().ok_or_else(empty)?;
    Ok(Member { frontend: frontend.name, pool, backend })
}

fn weighed(member: Member, answer: Option<Frontend>, lifetime: Option<Duration>) -> Result<Weighed, Status> {
    let Member { frontend, pool, backend: before } = member;
    let answer = answer.ok_or_else(empty)?;
    let here = answer.pools.into_iter().filter(|one| one.name == pool).flat_map(|one| one.backends);
    let after = here.into_iter().find(|one| one.name == before.name).ok_or_else(empty)?;
    Ok(Weighed { frontend, pool, before, after, lifetime })
}

fn note(command: &Command) -> Result<Option<Note>, Status> {
    let reason = command.text("reason").unwrap_or_default();
    let lifetime = command.duration("for").map(maglev_proto::Duration::try_from).transpose();
    let lifetime = lifetime.map_err(|_| Status::invalid_argument("a duration is too long"))?;
    Ok((lifetime.is_some() || !reason.is_empty()).then(|| Note { reason: reason.into(), lifetime }))
}
