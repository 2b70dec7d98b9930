//! Asking the daemon for what there is.

use maglev_proto::v1::{
    Backend, CheckConfigRequest, CheckConfigResponse, ConfigFault, Frontend, GetBackendRequest,
    GetFrontendRequest, GetHealthCheckRequest, GetVersionRequest, GetVersionResponse, GetVppInfoRequest,
    GetVppInfoResponse, GetVpplbCountersRequest, GetVpplbCountersResponse, GetVpplbStateRequest,
    GetVpplbStateResponse, HealthCheck, ListBackendsRequest, ListFrontendsRequest, ListHealthChecksRequest,
    Plan, ReloadConfigRequest, SyncVpplbStateRequest,
};
use tonic::{Code, Request, Status};

use crate::client::{Client, Server};
use crate::command::{What, choose};

/// How long an answer may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// What there is to show.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The daemon's version.
    Version(GetVersionResponse),
    /// Every frontend.
    Frontends(Vec<Frontend>),
    /// One frontend.
    Frontend(Box<Frontend>),
    /// Every backend.
    Backends(Vec<Backend>),
    /// One backend.
    Backend(Box<Backend>),
    /// Every healthcheck.
    HealthChecks(Vec<HealthCheck>),
    /// One healthcheck.
    HealthCheck(Box<HealthCheck>),
    /// The VPP that is connected.
    VppInfo(GetVppInfoResponse),
    /// What VPP's load balancer has.
    VppLbState(GetVpplbStateResponse),
    /// How much traffic VPP's load balancer has seen.
    VppLbCounters(GetVpplbCountersResponse),
    /// What a comparison with VPP does, or would do.
    Synced {
        /// The plan.
        plan: Plan,
        /// Whether it is not carried out.
        dry_run: bool,
    },
    /// What is wrong with the configuration file, and what a reload would do.
    Checked(CheckConfigResponse),
    /// Why there was no reload, if there was none.
    Reloaded(Option<ConfigFault>),
}

impl Shown {
    /// Whether what was asked for was not to be had.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Checked(CheckConfigResponse { fault: Some(_), .. }) | Self::Reloaded(Some(_)))
    }
}

/// Asks `server` for `what`.
///
/// # Errors
/// The server cannot be reached, or says no; in one line.
pub async fn ask(server: &Server, what: What) -> anyhow::Result<Shown> {
    let mut client = server.connect().await?;
    let asked = ask_client(&mut client, what);
    let answer = tokio::time::timeout(TIMEOUT, asked).await;
    let answer = answer.map_err(|_| anyhow::anyhow!("maglevd at {server} does not answer"))?;
    answer.map_err(|status| server.failed(&status))
}

async fn ask_client(client: &mut Client, what: What) -> Result<Shown, Status> {
    Ok(match what {
        What::Version => Shown::Version(client.get_version(GetVersionRequest {}).await?.into_inner()),
        What::Frontends(None) => Shown::Frontends(frontends(client).await?),
        What::Frontends(Some(name)) => Shown::Frontend(Box::new(frontend(client, name).await?)),
        What::Backends(None) => Shown::Backends(backends(client).await?),
        What::Backends(Some(name)) => Shown::Backend(Box::new(backend(client, name).await?)),
        What::HealthChecks(None) => Shown::HealthChecks(healthchecks(client).await?),
        What::HealthChecks(Some(name)) => Shown::HealthCheck(Box::new(healthcheck(client, name).await?)),
        What::VppInfo => Shown::VppInfo(client.get_vpp_info(GetVppInfoRequest {}).await?.into_inner()),
        What::VppLbState => {
            Shown::VppLbState(client.get_vpplb_state(GetVpplbStateRequest {}).await?.into_inner())
        }
        What::VppLbCounters => {
            let counters = client.get_vpplb_counters(GetVpplbCountersRequest {}).await?;
            Shown::VppLbCounters(counters.into_inner())
        }
        What::Sync { dry_run } => {
            let answer = client.sync_vpplb_state(SyncVpplbStateRequest { dry_run }).await?.into_inner();
            Shown::Synced { plan: answer.plan.unwrap_or_default(), dry_run }
        }
        What::ConfigCheck { plan } => {
            Shown::Checked(client.check_config(CheckConfigRequest { plan }).await?.into_inner())
        }
        What::ConfigReload => {
            Shown::Reloaded(client.reload_config(ReloadConfigRequest {}).await?.into_inner().fault)
        }
    })
}

async fn frontends(client: &mut Client) -> Result<Vec<Frontend>, Status> {
    Ok(client.list_frontends(ListFrontendsRequest {}).await?.into_inner().frontends)
}

async fn backends(client: &mut Client) -> Result<Vec<Backend>, Status> {
    Ok(client.list_backends(ListBackendsRequest {}).await?.into_inner().backends)
}

async fn healthchecks(client: &mut Client) -> Result<Vec<HealthCheck>, Status> {
    Ok(client.list_health_checks(ListHealthChecksRequest {}).await?.into_inner().healthchecks)
}

async fn frontend(client: &mut Client, name: String) -> Result<Frontend, Status> {
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

async fn backend(client: &mut Client, name: String) -> Result<Backend, Status> {
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

async fn healthcheck(client: &mut Client, name: String) -> Result<HealthCheck, Status> {
    let answer =
        match client.get_health_check(Request::new(GetHealthCheckRequest { name: name.clone() })).await {
            Err(status) if status.code() == Code::NotFound => {
                let names = healthchecks(client).await?.into_iter().map(|check| check.name);
                let name = whole(&name, names, status)?;
                client.get_health_check(GetHealthCheckRequest { name }).await?
            }
            answer => answer?,
        };
    answer.into_inner().healthcheck.ok_or_else(empty)
}

/// The name that `begun` begins. If there is none, the server has said it all; if there are several, they are named.
fn whole(begun: &str, names: impl Iterator<Item = String>, unknown: Status) -> Result<String, Status> {
    let mut candidates: Vec<String> = names.filter(|name| name.starts_with(begun)).collect();
    if candidates.is_empty() {
        return Err(unknown);
    }
    let index = choose(begun, &candidates).map_err(Status::invalid_argument)?;
    Ok(candidates.swap_remove(index))
}

fn empty() -> Status {
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
    }
}
