//! Runs commands with one reply.

use std::time::Duration;

use maglev_proto::v1::{
    CheckConfigRequest, ExplainBackendRequest, ExplainFrontendRequest, GetLbCountersRequest,
    GetLbStateRequest, GetVersionRequest, GetVppInfoRequest, ReloadConfigRequest, SyncLbStateRequest,
};
use tonic::{Code, Status};

use crate::change;
use crate::client::{Client, ServerAddress};
use crate::command::Command;
use crate::failure::Failure;
use crate::fetch::{
    backend, backend_name, backends, frontend, frontends, healthcheck, healthchecks, overrides,
};
use crate::grammar::{NameKind, Verb};
use crate::result::CommandResult;

/// Timeout of a call.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Runs a command that has one reply.
///
/// # Errors
/// Returns one line if the server cannot be reached or returns an error.
pub async fn ask(server: &ServerAddress, command: &Command) -> Result<CommandResult, Failure> {
    if command.verb == Verb::Help {
        return Ok(CommandResult::Help(command.topic().map(String::from)));
    }
    let mut client = server.connect().await.map_err(|error| Failure::unreachable(&error))?;
    let asked = ask_client(&mut client, command);
    let answer = tokio::time::timeout(TIMEOUT, asked).await;
    let answer = answer
        .map_err(|_| Failure::new(Code::DeadlineExceeded, format!("maglevd at {server} does not answer")))?;
    match answer {
        Ok(answer) => Ok(answer),
        Err(status) => Err(server.failure(&status).await),
    }
}

async fn ask_client(client: &mut Client, command: &Command) -> Result<CommandResult, Status> {
    let name = |kind| command.name(kind).map(String::from);
    Ok(match command.verb {
        // These have no call.
        Verb::Help | Verb::Quit | Verb::WatchEvents => CommandResult::Help(None),
        Verb::ShowVersion => {
            CommandResult::Version(client.get_version(GetVersionRequest {}).await?.into_inner())
        }
        Verb::ShowFrontends => match name(NameKind::Frontend) {
            None => CommandResult::Frontends(frontends(client).await?),
            Some(name) => CommandResult::Frontend(Box::new(frontend(client, name).await?)),
        },
        Verb::ShowBackends => match name(NameKind::Backend) {
            None => CommandResult::Backends(backends(client).await?),
            Some(name) => CommandResult::Backend(Box::new(backend(client, name).await?)),
        },
        Verb::ShowHealthchecks => match name(NameKind::Healthcheck) {
            None => CommandResult::Healthchecks(healthchecks(client).await?),
            Some(name) => CommandResult::Healthcheck(Box::new(healthcheck(client, name).await?)),
        },
        Verb::ShowOverrides => CommandResult::Overrides(overrides(client).await?),
        Verb::ShowVppInfo => {
            CommandResult::VppInfo(client.get_vpp_info(GetVppInfoRequest {}).await?.into_inner())
        }
        Verb::ShowVppLbState => {
            CommandResult::VppLbState(client.get_lb_state(GetLbStateRequest {}).await?.into_inner())
        }
        Verb::ShowVppLbCounters => {
            let counters = client.get_lb_counters(GetLbCountersRequest {}).await?;
            CommandResult::VppLbCounters(counters.into_inner())
        }
        Verb::SetBackend(action) => {
            CommandResult::Action(Box::new(change::run_action(client, action, command).await?))
        }
        Verb::SetWeight => CommandResult::Weight(Box::new(change::set_weight(client, command).await?)),
        Verb::UnsetWeight => CommandResult::Weight(Box::new(change::unset_weight(client, command).await?)),
        Verb::ExplainBackend => {
            let name = backend_name(client, name(NameKind::Backend).unwrap_or_default()).await?;
            let answer = client.explain_backend(ExplainBackendRequest { name }).await?;
            CommandResult::Explained(answer.into_inner().reasons)
        }
        Verb::ExplainFrontend => {
            let name = frontend(client, name(NameKind::Frontend).unwrap_or_default()).await?.name;
            let answer = client.explain_frontend(ExplainFrontendRequest { name }).await?;
            CommandResult::Explained(answer.into_inner().reasons)
        }
        Verb::SyncVppLbState => {
            let (dry_run, fresh) = (command.has("dry-run"), command.has("fresh"));
            let answer = client.sync_lb_state(SyncLbStateRequest { dry_run, fresh }).await?.into_inner();
            CommandResult::Synced { plan: answer.plan.unwrap_or_default(), dry_run }
        }
        Verb::ConfigCheck => {
            let request = CheckConfigRequest { plan: command.has("plan"), fresh: command.has("fresh") };
            CommandResult::Checked(client.check_config(request).await?.into_inner())
        }
        Verb::ConfigReload => {
            let keep_overrides = command.has("keep-overrides");
            let request = ReloadConfigRequest { keep_overrides };
            CommandResult::Reloaded(client.reload_config(request).await?.into_inner())
        }
    })
}
