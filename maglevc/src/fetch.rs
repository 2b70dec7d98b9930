//! Calls that fetch named items, and the completion of their names.

use maglev_proto::v1::{
    Backend, Frontend, GetBackendRequest, GetFrontendRequest, GetHealthcheckRequest, Healthcheck,
    ListBackendsRequest, ListFrontendsRequest, ListHealthchecksRequest, ListOverridesRequest,
    ListOverridesResponse,
};
use tonic::{Code, Request, Status};

use crate::choose::{ChoiceError, choose, list, nearest};
use crate::client::Client;
use crate::natural;

/// Lists the frontends.
pub async fn frontends(client: &mut Client) -> Result<Vec<Frontend>, Status> {
    let mut all = client.list_frontends(ListFrontendsRequest {}).await?.into_inner().frontends;
    all.sort_by(|one, other| natural::compare(&one.name, &other.name));
    Ok(all)
}

/// Lists the backends.
pub async fn backends(client: &mut Client) -> Result<Vec<Backend>, Status> {
    let mut all = client.list_backends(ListBackendsRequest {}).await?.into_inner().backends;
    all.sort_by(|one, other| natural::compare(&one.name, &other.name));
    Ok(all)
}

/// Lists the healthchecks.
pub async fn healthchecks(client: &mut Client) -> Result<Vec<Healthcheck>, Status> {
    let mut all = client.list_healthchecks(ListHealthchecksRequest {}).await?.into_inner().healthchecks;
    all.sort_by(|one, other| natural::compare(&one.name, &other.name));
    Ok(all)
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
            let name = complete(&name, names, status)?;
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
            let name = complete(&name, names, status)?;
            client.get_backend(GetBackendRequest { name }).await?
        }
        answer => answer?,
    };
    answer.into_inner().backend.ok_or_else(empty)
}

/// Returns the frontend with exactly this name: a prefix could name another frontend than the one that has left the
/// configuration.
pub async fn whole_frontend(client: &mut Client, name: String) -> Result<Frontend, Status> {
    let answer = match client.get_frontend(GetFrontendRequest { name: name.clone() }).await {
        Err(status) if status.code() == Code::NotFound => {
            let names: Vec<String> = frontends(client).await?.into_iter().map(|one| one.name).collect();
            return Err(unknown(&name, &names, status));
        }
        answer => answer?,
    };
    answer.into_inner().frontend.ok_or_else(empty)
}

/// Returns the full name of the backend with this name or unique prefix.
pub async fn backend_name(client: &mut Client, name: String) -> Result<String, Status> {
    Ok(backend(client, name).await?.name)
}

/// Returns the healthcheck with this name or unique prefix.
pub async fn healthcheck(client: &mut Client, name: String) -> Result<Healthcheck, Status> {
    let answer =
        match client.get_healthcheck(Request::new(GetHealthcheckRequest { name: name.clone() })).await {
            Err(status) if status.code() == Code::NotFound => {
                let names = healthchecks(client).await?.into_iter().map(|check| check.name);
                let name = complete(&name, names, status)?;
                client.get_healthcheck(GetHealthcheckRequest { name }).await?
            }
            answer => answer?,
        };
    answer.into_inner().healthcheck.ok_or_else(empty)
}

/// Completes a prefix to a name. Returns the server's error with similar names if there is none, or an error with the
/// candidates if there are several.
fn complete(begun: &str, names: impl Iterator<Item = String>, unknown: Status) -> Result<String, Status> {
    let mut names: Vec<String> = names.collect();
    match choose(begun, &names) {
        Ok(index) => Ok(names.swap_remove(index)),
        Err(ChoiceError::Ambiguous(several)) => {
            Err(Status::invalid_argument(format!("`{begun}` is ambiguous: {}", list(&several))))
        }
        Err(ChoiceError::Unknown(_)) => Err(self::unknown(begun, &names, unknown)),
    }
}

/// Returns the server's error for an unknown name, with the names that begin so, or else with similar ones.
pub fn unknown(name: &str, names: &[String], unknown: Status) -> Status {
    let begun = names.iter().filter(|one| one.starts_with(name) && !name.is_empty());
    let mut near: Vec<String> = begun.cloned().collect();
    if near.is_empty() {
        near = nearest(name, names);
    }
    if near.is_empty() {
        return unknown;
    }
    Status::not_found(format!("{}, did you mean: {}", unknown.message(), list(&near)))
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
        complete(begun, names.into_iter(), Status::not_found("no such thing")).map_err(|s| s.message().into())
    }

    #[test]
    fn name_prefix_is_completed() {
        assert_eq!(full("nginx0"), Ok("nginx0-ams".into()));
        assert_eq!(full("nginx1"), Err("`nginx1` is ambiguous: nginx1-ams, nginx1-fra".into()));
        assert_eq!(full("apache"), Err("no such thing".into()));
        assert_eq!(full("ngnix1-fra"), Err("no such thing, did you mean: nginx1-fra".into()));
    }
}
