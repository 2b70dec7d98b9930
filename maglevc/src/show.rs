//! Calls that read the daemon's state.

use std::time::Duration;

use maglev_proto::v1::{
    Backend, CheckConfigRequest, CheckConfigResponse, ConfigFault, ExplainBackendRequest,
    ExplainFrontendRequest, Frontend, GetBackendRequest, GetFrontendRequest, GetHealthcheckRequest,
    GetLbCountersRequest, GetLbCountersResponse, GetLbStateRequest, GetLbStateResponse, GetVersionRequest,
    GetVersionResponse, GetVppInfoRequest, GetVppInfoResponse, Healthcheck, ListBackendsRequest,
    ListFrontendsRequest, ListHealthchecksRequest, ListOverridesRequest, ListOverridesResponse, Plan, Reason,
    ReloadConfigRequest, SyncLbStateRequest,
};
use tonic::{Code, Request, Status};

use crate::change::{self, Ordered, Weighed};
use crate::choose::{Unclear, choose, list, nearest};
use crate::client::{Client, Server};
use crate::command::Command;
use crate::failure::Failure;
use crate::grammar::{Kind, Verb};

/// Timeout of a call.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Result of a command.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The list of commands.
    Help,
    /// The daemon's version.
    Version(GetVersionResponse),
    /// All frontends.
    Frontends(Vec<Frontend>),
    /// One frontend.
    Frontend(Box<Frontend>),
    /// All backends.
    Backends(Vec<Backend>),
    /// One backend.
    Backend(Box<Backend>),
    /// All healthchecks.
    Healthchecks(Vec<Healthcheck>),
    /// One healthcheck.
    Healthcheck(Box<Healthcheck>),
    /// All overrides.
    Overrides(ListOverridesResponse),
    /// The connected VPP.
    VppInfo(GetVppInfoResponse),
    /// The state of VPP's load balancer.
    VppLbState(GetLbStateResponse),
    /// The traffic of VPP's load balancer.
    VppLbCounters(GetLbCountersResponse),
    /// Result of an action on a backend.
    Ordered(Box<Ordered>),
    /// Result of a change of weight.
    Weighed(Box<Weighed>),
    /// An explanation.
    Explained(Vec<Reason>),
    /// Result of a sync with VPP.
    Synced {
        /// The plan.
        plan: Plan,
        /// True if the plan was not carried out.
        dry_run: bool,
    },
    /// Result of a check of the configuration file.
    Checked(CheckConfigResponse),
    /// Errors that prevented a reload; `None` after a reload.
    Reloaded(Option<ConfigFault>),
}

impl Shown {
    /// Reports whether the command failed.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Checked(CheckConfigResponse { fault: Some(_), .. }) | Self::Reloaded(Some(_)))
    }
}

/// Runs a command that has one reply.
///
/// # Errors
/// Returns one line if the server cannot be reached or returns an error.
pub async fn ask(server: &Server, command: &Command) -> Result<Shown, Failure> {
    if command.verb == Verb::Help {
        return Ok(Shown::Help);
    }
    let mut client = server.connect().await.map_err(|error| Failure::unreachable(&error))?;
    let asked = ask_client(&mut client, command);
    let answer = tokio::time::timeout(TIMEOUT, asked).await;
    let answer = answer
        .map_err(|_| Failure::new(Code::DeadlineExceeded, format!("maglevd at {server} does not answer")))?;
    answer.map_err(|status| Failure::new(status.code(), server.failed(&status).to_string()))
}

async fn ask_client(client: &mut Client, command: &Command) -> Result<Shown, Status> {
    let name = |kind| command.name(kind).map(String::from);
    Ok(match command.verb {
        // These have no call.
        Verb::Help | Verb::Quit | Verb::WatchEvents => Shown::Help,
        Verb::ShowVersion => Shown::Version(client.get_version(GetVersionRequest {}).await?.into_inner()),
        Verb::ShowFrontends => match name(Kind::Frontend) {
            None => Shown::Frontends(frontends(client).await?),
            Some(name) => Shown::Frontend(Box::new(frontend(client, name).await?)),
        },
        Verb::ShowBackends => match name(Kind::Backend) {
            None => Shown::Backends(backends(client).await?),
            Some(name) => Shown::Backend(Box::new(backend(client, name).await?)),
        },
        Verb::ShowHealthchecks => match name(Kind::Healthcheck) {
            None => Shown::Healthchecks(healthchecks(client).await?),
            Some(name) => Shown::Healthcheck(Box::new(healthcheck(client, name).await?)),
        },
        Verb::ShowOverrides => Shown::Overrides(overrides(client).await?),
        Verb::ShowVppInfo => Shown::VppInfo(client.get_vpp_info(GetVppInfoRequest {}).await?.into_inner()),
        Verb::ShowVppLbState => {
            Shown::VppLbState(client.get_lb_state(GetLbStateRequest {}).await?.into_inner())
        }
        Verb::ShowVppLbCounters => {
            let counters = client.get_lb_counters(GetLbCountersRequest {}).await?;
            Shown::VppLbCounters(counters.into_inner())
        }
        Verb::SetBackend(order) => Shown::Ordered(Box::new(change::order(client, order, command).await?)),
        Verb::SetWeight => Shown::Weighed(Box::new(change::set_weight(client, command).await?)),
        Verb::UnsetWeight => Shown::Weighed(Box::new(change::unset_weight(client, command).await?)),
        Verb::ExplainBackend => {
            let name = backend_name(client, name(Kind::Backend).unwrap_or_default()).await?;
            let answer = client.explain_backend(ExplainBackendRequest { name }).await?;
            Shown::Explained(answer.into_inner().reasons)
        }
        Verb::ExplainFrontend => {
            let name = frontend(client, name(Kind::Frontend).unwrap_or_default()).await?.name;
            let answer = client.explain_frontend(ExplainFrontendRequest { name }).await?;
            Shown::Explained(answer.into_inner().reasons)
        }
        Verb::SyncVppLbState => {
            let dry_run = command.has("dry-run");
            let answer = client.sync_lb_state(SyncLbStateRequest { dry_run }).await?.into_inner();
            Shown::Synced { plan: answer.plan.unwrap_or_default(), dry_run }
        }
        Verb::ConfigCheck => {
            let plan = command.has("plan");
            Shown::Checked(client.check_config(CheckConfigRequest { plan }).await?.into_inner())
        }
        Verb::ConfigReload => {
            Shown::Reloaded(client.reload_config(ReloadConfigRequest {}).await?.into_inner().fault)
        }
    })
}

/// Lists the frontends.
pub async fn frontends(client: &mut Client) -> Result<Vec<Frontend>, Status> {
    Ok(client.list_frontends(ListFrontendsRequest {}).await?.into_inner().frontends)
}

/// Lists the backends.
pub async fn backends(client: &mut Client) -> Result<Vec<Backend>, Status> {
    Ok(client.list_backends(ListBackendsRequest {}).await?.into_inner().backends)
}

/// Lists the healthchecks.
pub async fn healthchecks(client: &mut Client) -> Result<Vec<Healthcheck>, Status> {
    Ok(client.list_healthchecks(ListHealthchecksRequest {}).await?.into_inner().healthchecks)
}

/// Lists the overrides.
pub async fn overrides(client: &mut Client) -> Result<ListOverridesResponse, Status> {
    Ok(client.list_overrides(ListOverridesRequest {}).await?.into_inner())
}

/// Returns the frontend with this name or unique prefix.
pub async fn frontend(client: &mut Client, name: String) -> Result<Frontend, Status> {
    let answer = match client.get_frontend(GetFrontendRequest { name: name.clone() }).await {
        Err(status) if status.code() == Code::NotFound => {
            let names = frontends(client).await?.into_iter().map(|frontend| frontend.name);
            let name = whole(&name, names, status)?;
            client.get_frontend(GetFrontendRequest { name }).await?
        }
        answer => answer?,
    };
    answer.into_inner().frontend.ok_or_else(empty)
}

/// Returns the backend with this name or unique prefix.
pub async fn backend(client: &mut Client, name: String) -> Result<Backend, Status> {
    let answer = match client.get_backend(GetBackendRequest { name: name.clone() }).await {
        Err(status) if status.code() == Code::NotFound => {
            let names = backends(client).await?.into_iter().map(|backend| backend.name);
            let name = whole(&name, names, status)?;
            client.get_backend(GetBackendRequest { name }).await?
        }
        answer => answer?,
    };
    answer.into_inner().backend.ok_or_else(empty)
}

async fn backend_name(client: &mut Client, name: String) -> Result<String, Status> {
    Ok(backend(client, name).await?.name)
}

async fn healthcheck(client: &mut Client, name: String) -> Result<Healthcheck, Status> {
    let answer =
        match client.get_healthcheck(Request::new(GetHealthcheckRequest { name: name.clone() })).await {
            Err(status) if status.code() == Code::NotFound => {
                let names = healthchecks(client).await?.into_iter().map(|check| check.name);
                let name = whole(&name, names, status)?;
                client.get_healthcheck(GetHealthcheckRequest { name }).await?
            }
            answer => answer?,
        };
    answer.into_inner().healthcheck.ok_or_else(empty)
}

/// Completes a prefix to a name. Returns the server's error with similar names if there is none, or an error with the
/// candidates if there are several.
pub fn whole(begun: &str, names: impl Iterator<Item = String>, unknown: Status) -> Result<String, Status> {
    let mut names: Vec<String> = names.collect();
    match choose(begun, &names) {
        Ok(index) => Ok(names.swap_remove(index)),
        Err(Unclear::Ambiguous(several)) => {
            Err(Status::invalid_argument(format!("`{begun}` is ambiguous: {}", list(&several))))
        }
        Err(Unclear::Unknown(_)) => Err(match nearest(begun, &names).as_slice() {
            [] => unknown,
            near => Status::not_found(format!("{}, did you mean: {}", unknown.message(), list(near))),
        }),
    }
}

/// Returns the status for a reply without its main field.
pub fn empty() -> Status {
    Status::internal("the server's answer is empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(begun: &str) -> Result<String, String> {
        let names = ["nginx0-ams", "nginx1-ams", "nginx1-fra"].map(String::from);
        whole(begun, names.into_iter(), Status::not_found("no such thing")).map_err(|s| s.message().into())
    }

    #[test]
    fn names_may_be_shortened() {
        assert_eq!(full("nginx0"), Ok("nginx0-ams".into()));
        assert_eq!(full("nginx1"), Err("`nginx1` is ambiguous: nginx1-ams, nginx1-fra".into()));
        assert_eq!(full("apache"), Err("no such thing".into()));
        assert_eq!(full("ngnix1-fra"), Err("no such thing, did you mean: nginx1-fra".into()));
    }
}
