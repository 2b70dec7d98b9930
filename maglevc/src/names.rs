//! Live names for completion, fetched with a short deadline and cached for a few seconds.

use std::future::Future;
use std::time::{Duration, Instant};

use maglev_proto::v1::{Backend, Frontend, Healthcheck};
use tonic::Status;

use crate::client::{Client, ServerAddress};
use crate::command::PartialCommand;
use crate::grammar::NameKind;
use crate::{fetch, words};

/// Longest wait after TAB.
const DEADLINE: Duration = Duration::from_millis(400);

/// Lifetime of a cached answer, or of a failure.
const CACHE_LIFETIME: Duration = Duration::from_secs(3);

/// A name and a short description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LiveName {
    /// The name.
    pub name: String,
    /// Its state, address or the like.
    pub about: String,
}

/// The cached names of one server.
#[derive(Debug)]
pub struct NameCache {
    server: ServerAddress,
    frontends: CachedList<Frontend>,
    backends: CachedList<Backend>,
    healthchecks: CachedList<Healthcheck>,
}

#[derive(Debug)]
struct CachedList<T>(Option<(Instant, Vec<T>)>);

impl NameCache {
    /// Creates an empty cache for `server`.
    pub const fn new(server: ServerAddress) -> Self {
        Self {
            server,
            frontends: CachedList(None),
            backends: CachedList(None),
            healthchecks: CachedList(None),
        }
    }

    /// Returns the names of this kind that can follow `given`; empty if the server is slow.
    pub async fn of(&mut self, kind: NameKind, given: &PartialCommand) -> Vec<LiveName> {
        match kind {
            NameKind::Frontend => self.frontends().await.iter().map(frontend).collect(),
            NameKind::Pool => pools(self.frontends().await, given),
            NameKind::Member => members(self.frontends().await, given),
            NameKind::Backend => {
                let asked = |mut client: Client| async move { fetch::backends(&mut client).await };
                self.backends.get(&self.server, asked).await.iter().map(backend).collect()
            }
            NameKind::Healthcheck => {
                let asked = |mut client: Client| async move { fetch::healthchecks(&mut client).await };
                self.healthchecks.get(&self.server, asked).await.iter().map(healthcheck).collect()
            }
        }
    }

    /// Clears the cache after a change.
    pub fn forget(&mut self) {
        *self = Self::new(self.server.clone());
    }

    async fn frontends(&mut self) -> &[Frontend] {
        let asked = |mut client: Client| async move { fetch::frontends(&mut client).await };
        self.frontends.get(&self.server, asked).await
    }
}

impl<T> CachedList<T> {
    async fn get<F>(&mut self, server: &ServerAddress, ask: impl FnOnce(Client) -> F) -> &[T]
    where
        F: Future<Output = Result<Vec<T>, Status>>,
    {
        let fresh = self.0.take().filter(|(at, _)| at.elapsed() < CACHE_LIFETIME);
        let kept = match fresh {
            Some(kept) => kept,
            None => {
                let answer = async { ask(server.connect().await.ok()?).await.ok() };
                let answer = tokio::time::timeout(DEADLINE, answer).await.ok().flatten();
                (Instant::now(), answer.unwrap_or_default())
            }
        };
        &self.0.insert(kept).1
    }
}

fn frontend(one: &Frontend) -> LiveName {
    let about = format!("{}, {}", words::frontend_state(one.state()), words::vip(one.vip.as_ref()));
    LiveName { name: one.name.clone(), about }
}

fn backend(one: &Backend) -> LiveName {
    LiveName {
        name: one.name.clone(),
        about: format!("{}, {}", words::backend_state(one.state()), one.address),
    }
}

fn healthcheck(one: &Healthcheck) -> LiveName {
    LiveName { name: one.name.clone(), about: words::probe_type(one.r#type()) }
}

fn pools(frontends: &[Frontend], given: &PartialCommand) -> Vec<LiveName> {
    let Some(frontend) = chosen(frontends, given.name(NameKind::Frontend), |one| &one.name) else {
        return Vec::new();
    };
    let about = |name: &str| if *name == frontend.active_pool { "active".into() } else { String::new() };
    frontend.pools.iter().map(|pool| LiveName { name: pool.name.clone(), about: about(&pool.name) }).collect()
}

fn members(frontends: &[Frontend], given: &PartialCommand) -> Vec<LiveName> {
    let frontend = chosen(frontends, given.name(NameKind::Frontend), |one| &one.name);
    let pool = frontend.and_then(|one| chosen(&one.pools, given.name(NameKind::Pool), |pool| &pool.name));
    let members = pool.map(|pool| pool.backends.as_slice()).unwrap_or_default();
    let about = |state: &str, weight: u32| format!("{state}, weight {weight}");
    let name = |one: &maglev_proto::v1::PoolBackend| LiveName {
        name: one.name.clone(),
        about: about(&words::backend_state(one.state()), one.weight),
    };
    members.iter().map(name).collect()
}

/// Returns the one with exactly this name, as the commands with pools require it.
fn chosen<'a, T>(all: &'a [T], given: Option<&str>, name: fn(&T) -> &String) -> Option<&'a T> {
    all.iter().find(|one| given == Some(name(one)))
}
