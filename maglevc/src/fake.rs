//! A fake daemon: it answers every call from [`fixture`], and stores changes.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use maglev_proto::v1::maglev_server::{Maglev, MaglevServer};
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::*;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, oneshot};
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::fixture;

type Reply<T> = Result<Response<T>, Status>;

/// State of the fake daemon.
#[derive(Debug)]
pub struct FakeState {
    /// The frontends.
    pub frontends: Vec<Frontend>,
    /// The backends.
    pub backends: Vec<Backend>,
    /// The overrides.
    pub overrides: Vec<Override>,
    /// Error of persisting overrides; empty for none.
    pub persist_error: String,
    /// Status that every change returns, if set.
    pub refusal: Option<Status>,
    /// Errors of its configuration file.
    pub fault: Option<ConfigFault>,
    /// Plan of its changes to VPP.
    pub plan: Plan,
}

/// A running fake daemon, stopped on drop.
pub struct FakeDaemon {
    /// The shared state.
    pub state: Arc<Mutex<FakeState>>,
    directory: tempfile::TempDir,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
    events: broadcast::Sender<WatchEventsResponse>,
}

struct Api {
    state: Arc<Mutex<FakeState>>,
    events: broadcast::Sender<WatchEventsResponse>,
}

impl FakeDaemon {
    /// Starts a daemon on its own socket.
    pub fn start() -> Self {
        let state = FakeState {
            frontends: vec![fixture::web()],
            backends: vec![fixture::nginx0(), fixture::nginx1(), fixture::sorry()],
            overrides: fixture::overrides(),
            persist_error: String::new(),
            refusal: None,
            fault: None,
            plan: fixture::plan(),
        };
        let directory = tempfile::tempdir().unwrap();
        let mut fake = Self { state: Arc::new(Mutex::new(state)), directory, running: None };
        fake.resume();
        fake
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("maglevd.sock")
    }

    /// Returns its address.
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Sends an event to all subscribers.
    pub fn tell(&self, event: Event) {
        let event = WatchEventsResponse { at: Some(fixture::at(60)), replay: false, event: Some(event) };
        // There may be no subscriber.
        let _ = self.running.as_ref().unwrap().events.send(event);
    }

    /// Stops the daemon and resets all connections.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let _ = running.stop.send(());
        running.thread.join().unwrap();
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Starts the daemon again.
    pub fn resume(&mut self) {
        let (events, _) = broadcast::channel(64);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = {
            let _context = runtime.enter();
            UnixListener::bind(self.socket()).unwrap()
        };
        let api = Api { state: Arc::clone(&self.state), events: events.clone() };
        let serve = tonic::transport::Server::builder()
            .add_service(MaglevServer::new(api))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    served = serve => served.unwrap(),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        self.running = Some(Running { stop, thread, events });
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Api {
    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap()
    }

    fn changeable(&self) -> Result<MutexGuard<'_, FakeState>, Status> {
        let state = self.state();
        state.refusal.clone().map_or(Ok(state), Err)
    }

    fn order(
        &self,
        name: &str,
        metadata: Option<OverrideMetadata>,
        to: BackendState,
        kind: Option<OverrideKind>,
    ) -> Result<(Option<Backend>, String), Status> {
        let mut state = self.changeable()?;
        let persist_error = state.persist_error.clone();
        let backend = state.backends.iter_mut().find(|one| one.name == name);
        let backend = backend.ok_or_else(|| no("backend", name))?;
        backend.state = to.into();
        backend.overrides = kind.map(|kind| fixture::override_of(name, kind, metadata)).into_iter().collect();
        Ok((Some(backend.clone()), persist_error))
    }

    /// Removes overrides of a removed item. Returns true if there were any.
    fn forget(&self, dangling: [&str; 3], kinds: &[OverrideKind]) -> Result<bool, Status> {
        let mut state = self.changeable()?;
        let before = state.overrides.len();
        let named = |one: &Override| [&one.frontend, &one.pool, &one.backend] == dangling;
        state.overrides.retain(|one| !(one.dangling && named(one) && kinds.contains(&one.kind())));
        Ok(state.overrides.len() < before)
    }

    fn weigh(
        &self,
        frontend: &str,
        pool: &str,
        backend: &str,
        weight: Option<u32>,
    ) -> Result<(Option<Frontend>, String), Status> {
        if weight.is_none() && self.forget([frontend, pool, backend], &[OverrideKind::Weight])? {
            let state = self.state();
            let left = state.frontends.iter().find(|one| one.name == frontend).cloned();
            return Ok((left, state.persist_error.clone()));
        }
        let mut state = self.changeable()?;
        let persist_error = state.persist_error.clone();
        let frontend_of = state.frontends.iter_mut().find(|one| one.name == frontend);
        let frontend = frontend_of.ok_or_else(|| no("frontend", frontend))?;
        let members =
            frontend.pools.iter_mut().filter(|one| one.name == pool).flat_map(|one| &mut one.backends);
        let member = members.into_iter().find(|one| one.name == backend);
        let member = member.ok_or_else(|| no("backend", backend))?;
        member.overridden = weight.is_some();
        member.weight = weight.unwrap_or(member.configured_weight);
        member.rounded_weight = (member.weight + 2) / 5 * 5;
        Ok((Some(frontend.clone()), persist_error))
    }
}

fn no(kind: &str, name: &str) -> Status {
    Status::not_found(format!("no {kind} is named `{name}`"))
}

fn reply<T>(answer: T) -> Reply<T> {
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl Maglev for Api {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn list_frontends(&self, _: Request<ListFrontendsRequest>) -> Reply<ListFrontendsResponse> {
        reply(ListFrontendsResponse { frontends: self.state().frontends.clone() })
    }

    async fn get_frontend(&self, asked: Request<GetFrontendRequest>) -> Reply<GetFrontendResponse> {
        let name = asked.into_inner().name;
        let found = self.state().frontends.iter().find(|one| one.name == name).cloned();
        reply(GetFrontendResponse { frontend: Some(found.ok_or_else(|| no("frontend", &name))?) })
    }

    async fn list_backends(&self, _: Request<ListBackendsRequest>) -> Reply<ListBackendsResponse> {
        reply(ListBackendsResponse { backends: self.state().backends.clone() })
    }

    async fn get_backend(&self, asked: Request<GetBackendRequest>) -> Reply<GetBackendResponse> {
        let name = asked.into_inner().name;
        let found = self.state().backends.iter().find(|one| one.name == name).cloned();
        reply(GetBackendResponse { backend: Some(found.ok_or_else(|| no("backend", &name))?) })
    }

    async fn list_healthchecks(
        &self,
        _: Request<ListHealthchecksRequest>,
    ) -> Reply<ListHealthchecksResponse> {
        reply(ListHealthchecksResponse { healthchecks: vec![fixture::healthcheck()] })
    }

    async fn get_healthcheck(&self, asked: Request<GetHealthcheckRequest>) -> Reply<GetHealthcheckResponse> {
        let name = asked.into_inner().name;
        let found = Some(fixture::healthcheck()).filter(|one| one.name == name);
        reply(GetHealthcheckResponse { healthcheck: Some(found.ok_or_else(|| no("healthcheck", &name))?) })
    }

    async fn pause_backend(&self, asked: Request<PauseBackendRequest>) -> Reply<PauseBackendResponse> {
        let PauseBackendRequest { name, metadata } = asked.into_inner();
        let (backend, persist_error) =
            self.order(&name, metadata, BackendState::Paused, Some(OverrideKind::Paused))?;
        reply(PauseBackendResponse { backend, persist_error })
    }

    async fn resume_backend(&self, asked: Request<ResumeBackendRequest>) -> Reply<ResumeBackendResponse> {
        let name = asked.into_inner().name;
        if self.forget(["", "", &name], &[OverrideKind::Paused])? {
            return reply(ResumeBackendResponse {
                backend: None,
                persist_error: self.state().persist_error.clone(),
            });
        }
        let (backend, persist_error) = self.order(&name, None, BackendState::Unknown, None)?;
        reply(ResumeBackendResponse { backend, persist_error })
    }

    async fn disable_backend(&self, asked: Request<DisableBackendRequest>) -> Reply<DisableBackendResponse> {
        let DisableBackendRequest { name, metadata } = asked.into_inner();
        let (backend, persist_error) =
            self.order(&name, metadata, BackendState::Disabled, Some(OverrideKind::Disabled))?;
        reply(DisableBackendResponse { backend, persist_error })
    }

    async fn enable_backend(&self, asked: Request<EnableBackendRequest>) -> Reply<EnableBackendResponse> {
        let EnableBackendRequest { name, metadata } = asked.into_inner();
        if self.forget(["", "", &name], &[OverrideKind::Disabled, OverrideKind::Enabled])? {
            return reply(EnableBackendResponse {
                backend: None,
                persist_error: self.state().persist_error.clone(),
            });
        }
        let lasting = metadata.is_some().then_some(OverrideKind::Enabled);
        let (backend, persist_error) = self.order(&name, metadata, BackendState::Unknown, lasting)?;
        reply(EnableBackendResponse { backend, persist_error })
    }

    async fn set_frontend_pool_backend_weight(
        &self,
        asked: Request<SetFrontendPoolBackendWeightRequest>,
    ) -> Reply<SetFrontendPoolBackendWeightResponse> {
        let asked = asked.into_inner();
        let (frontend, persist_error) =
            self.weigh(&asked.frontend, &asked.pool, &asked.backend, Some(asked.weight))?;
        reply(SetFrontendPoolBackendWeightResponse { frontend, persist_error })
    }

    async fn unset_frontend_pool_backend_weight(
        &self,
        asked: Request<UnsetFrontendPoolBackendWeightRequest>,
    ) -> Reply<UnsetFrontendPoolBackendWeightResponse> {
        let asked = asked.into_inner();
        let (frontend, persist_error) = self.weigh(&asked.frontend, &asked.pool, &asked.backend, None)?;
        reply(UnsetFrontendPoolBackendWeightResponse { frontend, persist_error })
    }

    async fn list_overrides(&self, _: Request<ListOverridesRequest>) -> Reply<ListOverridesResponse> {
        let state = self.state();
        reply(ListOverridesResponse {
            overrides: state.overrides.clone(),
            persist_error: state.persist_error.clone(),
        })
    }

    async fn explain_backend(&self, _: Request<ExplainBackendRequest>) -> Reply<ExplainBackendResponse> {
        reply(ExplainBackendResponse { reasons: fixture::reasons() })
    }

    async fn explain_frontend(&self, _: Request<ExplainFrontendRequest>) -> Reply<ExplainFrontendResponse> {
        reply(ExplainFrontendResponse { reasons: fixture::reasons() })
    }

    async fn watch_events(&self, _: Request<WatchEventsRequest>) -> Reply<Self::WatchEventsStream> {
        let replay = fixture::replay();
        let more = BroadcastStream::new(self.events.subscribe()).filter_map(Result::ok);
        reply(Box::pin(tokio_stream::iter(replay).chain(more).map(Ok)))
    }

    async fn get_version(&self, _: Request<GetVersionRequest>) -> Reply<GetVersionResponse> {
        reply(GetVersionResponse {
            version: "1.2.3".into(),
            commit: "c0ffee".into(),
            build_date: String::new(),
        })
    }

    async fn get_vpp_info(&self, _: Request<GetVppInfoRequest>) -> Reply<GetVppInfoResponse> {
        reply(fixture::vpp_info())
    }

    async fn get_lb_state(&self, _: Request<GetLbStateRequest>) -> Reply<GetLbStateResponse> {
        reply(GetLbStateResponse { conf: Some(fixture::conf()), vips: vec![fixture::lb_vip()] })
    }

    async fn get_lb_counters(&self, _: Request<GetLbCountersRequest>) -> Reply<GetLbCountersResponse> {
        reply(fixture::lb_counters())
    }

    async fn sync_lb_state(&self, asked: Request<SyncLbStateRequest>) -> Reply<SyncLbStateResponse> {
        let state = if asked.into_inner().dry_run { self.state() } else { self.changeable()? };
        reply(SyncLbStateResponse { plan: Some(state.plan.clone()) })
    }

    async fn check_config(&self, asked: Request<CheckConfigRequest>) -> Reply<CheckConfigResponse> {
        let state = self.state();
        let plan = (asked.into_inner().plan && state.fault.is_none()).then(|| state.plan.clone());
        reply(CheckConfigResponse { fault: state.fault.clone(), plan })
    }

    async fn reload_config(&self, _: Request<ReloadConfigRequest>) -> Reply<ReloadConfigResponse> {
        let warning = "override `disabled` has no effect any more: backend web1 is gone".to_owned();
        reply(ReloadConfigResponse { fault: self.changeable()?.fault.clone(), warnings: vec![warning] })
    }
}
