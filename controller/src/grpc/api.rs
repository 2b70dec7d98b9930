//! Calls of the API. Most answer from a view of the current state.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use maglev_core::config::Role;
use maglev_core::health::BackendAction;
use maglev_core::view::View;
use maglev_proto::v1::maglev_server::Maglev;
use maglev_proto::v1::{
    CheckConfigRequest, CheckConfigResponse, DisableBackendRequest, DisableBackendResponse,
    EnableBackendRequest, EnableBackendResponse, ExplainBackendRequest, ExplainBackendResponse,
    ExplainFrontendRequest, ExplainFrontendResponse, GetBackendRequest, GetBackendResponse,
    GetFrontendRequest, GetFrontendResponse, GetHealthcheckRequest, GetHealthcheckResponse,
    GetLbCountersRequest, GetLbCountersResponse, GetLbStateRequest, GetLbStateResponse, GetVersionRequest,
    GetVersionResponse, GetVppInfoRequest, GetVppInfoResponse, ListBackendsRequest, ListBackendsResponse,
    ListFrontendsRequest, ListFrontendsResponse, ListHealthchecksRequest, ListHealthchecksResponse,
    ListOverridesRequest, ListOverridesResponse, PauseBackendRequest, PauseBackendResponse,
    ReloadConfigRequest, ReloadConfigResponse, ResumeBackendRequest, ResumeBackendResponse,
    SetFrontendPoolBackendWeightRequest, SetFrontendPoolBackendWeightResponse, SyncLbStateRequest,
    SyncLbStateResponse, UnsetFrontendPoolBackendWeightRequest, UnsetFrontendPoolBackendWeightResponse,
    WatchEventsRequest, WatchEventsResponse,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::answers::CallHold;
use super::lists::SharedList;
use super::overrides::{self, requester};
use super::plans::VppPlanner;
use super::status::{connected, not_found, shutting_down};
use super::{access, convert, counters, event_stream, plans};
use crate::handle::{Handle, NamedItem};
use crate::metrics::Metrics;
use crate::readings::ReadingFreshness;
use crate::reload::Reloader;
use crate::{log, version};

/// Implementation of the service.
pub struct ApiService {
    handle: Handle,
    log: log::LogBroadcast,
    reloader: Reloader,
    planner: VppPlanner,
    lists: SharedLists,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
}

/// Answers that depend on no request.
#[derive(Default)]
struct SharedLists {
    frontends: SharedList,
    backends: SharedList,
    healthchecks: SharedList,
    overrides: SharedList,
    lb_state: SharedList,
    lb_counters: SharedList,
}

type ApiReply<T> = Result<Response<T>, Status>;

impl ApiService {
    /// Creates a service whose streams end once `stopping` is true.
    pub fn new(
        handle: Handle,
        log: log::LogBroadcast,
        reloader: Reloader,
        metrics: Arc<Metrics>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let planner = VppPlanner::new(handle.clone(), reloader.clone());
        Self { handle, log, reloader, planner, lists: SharedLists::default(), metrics, stopping }
    }

    async fn view_of(&self, subject: NamedItem) -> Result<Arc<View>, Status> {
        self.handle.view_of(&subject).await.map_err(shutting_down)
    }
}

#[tonic::async_trait]
impl Maglev for ApiService {
    async fn list_frontends(&self, _: Request<ListFrontendsRequest>) -> ApiReply<ListFrontendsResponse> {
        let build = |view: &View, _: &Handle| {
            let frontends = view.frontends.iter().map(|frontend| convert::frontend(frontend, &view.config));
            Ok(ListFrontendsResponse { frontends: frontends.collect() })
        };
        self.lists.frontends.answer(&self.handle, build).await
    }

    async fn get_frontend(&self, request: Request<GetFrontendRequest>) -> ApiReply<GetFrontendResponse> {
        let name = request.into_inner().name;
        let view = self.view_of(NamedItem::Frontend(name.clone())).await?;
        let found = view.frontends.iter().find(|frontend| *frontend.name == *name);
        let frontend = found.ok_or_else(|| not_found("frontend", &name))?;
        let frontend = Some(convert::frontend(frontend, &view.config));
        Ok(Response::new(GetFrontendResponse { frontend }))
    }

    async fn list_backends(&self, _: Request<ListBackendsRequest>) -> ApiReply<ListBackendsResponse> {
        let build = |view: &View, _: &Handle| {
            let rejections = convert::rejections(&view.prober);
            let backends = view.backends.iter().map(|backend| convert::backend(backend, &rejections, view));
            Ok(ListBackendsResponse { backends: backends.collect() })
        };
        self.lists.backends.answer(&self.handle, build).await
    }

    async fn get_backend(&self, request: Request<GetBackendRequest>) -> ApiReply<GetBackendResponse> {
        let name = request.into_inner().name;
        let view = self.view_of(NamedItem::Backend(name.clone())).await?;
        let found = view.backends.iter().find(|backend| *backend.name == *name);
        let found = found.ok_or_else(|| not_found("backend", &name))?;
        let mut backend = convert::backend(found, &convert::rejections(&view.prober), &view);
        backend.transitions = found.transitions.iter().map(convert::transition).collect();
        Ok(Response::new(GetBackendResponse { backend: Some(backend) }))
    }

    async fn list_healthchecks(
        &self,
        _: Request<ListHealthchecksRequest>,
    ) -> ApiReply<ListHealthchecksResponse> {
        let build = |view: &View, _: &Handle| {
            let healthchecks = &view.config.healthchecks;
            let healthchecks = healthchecks.iter().map(|(name, check)| convert::healthcheck(name, check));
            Ok(ListHealthchecksResponse { healthchecks: healthchecks.collect() })
        };
        self.lists.healthchecks.answer(&self.handle, build).await
    }

    async fn get_healthcheck(
        &self,
        request: Request<GetHealthcheckRequest>,
    ) -> ApiReply<GetHealthcheckResponse> {
        let name = request.into_inner().name;
        // Any view has the configuration.
        let view = self.view_of(NamedItem::Backend(String::new())).await?;
        let found = view.config.healthchecks.get(name.as_str());
        let healthcheck = found.ok_or_else(|| not_found("healthcheck", &name))?;
        let healthcheck = Some(convert::healthcheck(&name, healthcheck));
        Ok(Response::new(GetHealthcheckResponse { healthcheck }))
    }

    async fn pause_backend(&self, request: Request<PauseBackendRequest>) -> ApiReply<PauseBackendResponse> {
        let caller_name = access::caller_name(&request);
        let PauseBackendRequest { name, metadata } = request.into_inner();
        let (backend, persist_error) =
            overrides::backend(&self.handle, &name, BackendAction::Pause, requester(caller_name, metadata)?)
                .await?;
        Ok(Response::new(PauseBackendResponse { backend, persist_error }))
    }

    async fn resume_backend(
        &self,
        request: Request<ResumeBackendRequest>,
    ) -> ApiReply<ResumeBackendResponse> {
        let caller_name = access::caller_name(&request);
        let ResumeBackendRequest { name } = request.into_inner();
        let (backend, persist_error) =
            overrides::backend(&self.handle, &name, BackendAction::Resume, requester(caller_name, None)?)
                .await?;
        Ok(Response::new(ResumeBackendResponse { backend, persist_error }))
    }

    async fn disable_backend(
        &self,
        request: Request<DisableBackendRequest>,
    ) -> ApiReply<DisableBackendResponse> {
        let caller_name = access::caller_name(&request);
        let DisableBackendRequest { name, metadata } = request.into_inner();
        let (backend, persist_error) = overrides::backend(
            &self.handle,
            &name,
            BackendAction::Disable,
            requester(caller_name, metadata)?,
        )
        .await?;
        Ok(Response::new(DisableBackendResponse { backend, persist_error }))
    }

    async fn enable_backend(
        &self,
        request: Request<EnableBackendRequest>,
    ) -> ApiReply<EnableBackendResponse> {
        let caller_name = access::caller_name(&request);
        let EnableBackendRequest { name, metadata } = request.into_inner();
        let (backend, persist_error) =
            overrides::backend(&self.handle, &name, BackendAction::Enable, requester(caller_name, metadata)?)
                .await?;
        Ok(Response::new(EnableBackendResponse { backend, persist_error }))
    }

    async fn set_frontend_pool_backend_weight(
        &self,
        request: Request<SetFrontendPoolBackendWeightRequest>,
    ) -> ApiReply<SetFrontendPoolBackendWeightResponse> {
        let caller_name = access::caller_name(&request);
        let SetFrontendPoolBackendWeightRequest { frontend, pool, backend, weight, metadata } =
            request.into_inner();
        let requester = requester(caller_name, metadata)?;
        let (frontend, persist_error) =
            overrides::weight(&self.handle, [frontend, pool, backend], Some(weight), requester).await?;
        Ok(Response::new(SetFrontendPoolBackendWeightResponse { frontend, persist_error }))
    }

    async fn unset_frontend_pool_backend_weight(
        &self,
        request: Request<UnsetFrontendPoolBackendWeightRequest>,
    ) -> ApiReply<UnsetFrontendPoolBackendWeightResponse> {
        let caller_name = access::caller_name(&request);
        let UnsetFrontendPoolBackendWeightRequest { frontend, pool, backend } = request.into_inner();
        let requester = requester(caller_name, None)?;
        let (frontend, persist_error) =
            overrides::weight(&self.handle, [frontend, pool, backend], None, requester).await?;
        Ok(Response::new(UnsetFrontendPoolBackendWeightResponse { frontend, persist_error }))
    }

    async fn list_overrides(&self, _: Request<ListOverridesRequest>) -> ApiReply<ListOverridesResponse> {
        let build = |view: &View, handle: &Handle| {
            let overrides = view.overrides.list().map(|listed| convert::over(&listed, &view.config));
            Ok(ListOverridesResponse {
                overrides: overrides.collect(),
                persist_error: handle.persist_error(),
            })
        };
        self.lists.overrides.answer(&self.handle, build).await
    }

    async fn explain_backend(
        &self,
        request: Request<ExplainBackendRequest>,
    ) -> ApiReply<ExplainBackendResponse> {
        let name = request.into_inner().name;
        let reasons = self.handle.explain(NamedItem::Backend(name.clone())).await.map_err(shutting_down)?;
        let reasons = reasons.ok_or_else(|| not_found("backend", &name))?;
        let reasons = reasons.into_iter().map(convert::reason).collect();
        Ok(Response::new(ExplainBackendResponse { reasons }))
    }

    async fn explain_frontend(
        &self,
        request: Request<ExplainFrontendRequest>,
    ) -> ApiReply<ExplainFrontendResponse> {
        let name = request.into_inner().name;
        let reasons = self.handle.explain(NamedItem::Frontend(name.clone())).await.map_err(shutting_down)?;
        let reasons = reasons.ok_or_else(|| not_found("frontend", &name))?;
        let reasons = reasons.into_iter().map(convert::reason).collect();
        Ok(Response::new(ExplainFrontendResponse { reasons }))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> ApiReply<Self::WatchEventsStream> {
        let choice = event_stream::EventFilter::try_from(request.get_ref())?;
        let hold = request.extensions().get::<CallHold>().cloned();
        let subscriber = self.metrics.subscriber();
        let stopping = self.stopping.clone();
        let stream =
            event_stream::events(choice, &self.handle, &self.log, subscriber, hold, stopping).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_version(&self, _: Request<GetVersionRequest>) -> ApiReply<GetVersionResponse> {
        Ok(Response::new(GetVersionResponse {
            version: version::VERSION.into(),
            commit: version::COMMIT.into(),
            build_date: version::BUILD_DATE.into(),
        }))
    }

    async fn get_vpp_info(&self, _: Request<GetVppInfoRequest>) -> ApiReply<GetVppInfoResponse> {
        let vpp = self.handle.snapshot().await.map_err(shutting_down)?.vpp();
        let info = connected(&vpp)?;
        Ok(Response::new(convert::vpp_info(info, vpp.since)))
    }

    async fn get_lb_state(&self, _: Request<GetLbStateRequest>) -> ApiReply<GetLbStateResponse> {
        let build = |view: &View, _: &Handle| {
            connected(&view.vpp)?;
            let unread = || Status::unavailable("VPP's load balancer has not been read yet");
            let actual = view.vpp.actual.as_ref().ok_or_else(unread)?;
            Ok(convert::lb_state(actual, view))
        };
        self.lists.lb_state.answer(&self.handle, build).await
    }

    async fn get_lb_counters(&self, _: Request<GetLbCountersRequest>) -> ApiReply<GetLbCountersResponse> {
        let build = |view: &View, handle: &Handle| {
            connected(&view.vpp)?;
            let unread = || Status::unavailable("VPP's counters have not been read yet, or are unreadable");
            let found = handle.counters().ok_or_else(unread)?;
            Ok(counters::lb_counters(&found, view))
        };
        self.lists.lb_counters.answer(&self.handle, build).await
    }

    async fn sync_lb_state(&self, request: Request<SyncLbStateRequest>) -> ApiReply<SyncLbStateResponse> {
        let SyncLbStateRequest { dry_run, fresh } = *request.get_ref();
        if fresh || !dry_run {
            access::require_role(&request, Role::Operate)?;
        }
        let freshness = match (fresh, dry_run) {
            (true, _) => ReadingFreshness::Required,
            (false, true) => ReadingFreshness::Shared,
            (false, false) => ReadingFreshness::Preferred,
        };
        let plan = self.planner.sync(freshness).await?;
        if !dry_run {
            self.handle.resync(access::caller_name(&request)).await.map_err(shutting_down)?;
        }
        Ok(Response::new(SyncLbStateResponse { plan: Some(plan) }))
    }

    async fn check_config(&self, request: Request<CheckConfigRequest>) -> ApiReply<CheckConfigResponse> {
        let CheckConfigRequest { plan, fresh } = *request.get_ref();
        if fresh {
            access::require_role(&request, Role::Operate)?;
        }
        let freshness = if fresh { ReadingFreshness::Required } else { ReadingFreshness::Shared };
        self.planner.check(plan.then_some(freshness)).await.map(Response::new)
    }

    async fn reload_config(&self, request: Request<ReloadConfigRequest>) -> ApiReply<ReloadConfigResponse> {
        let caller_name = access::caller_name(&request);
        let keep_overrides = request.into_inner().keep_overrides;
        let reloaded = self.reloader.reload(caller_name, keep_overrides).await.map_err(shutting_down)?;
        let (fault, warnings) = match reloaded {
            Ok(warnings) => (None, warnings),
            Err(error) => (Some(plans::config_fault(&error)), Vec::new()),
        };
        Ok(Response::new(ReloadConfigResponse { fault, warnings }))
    }
}
