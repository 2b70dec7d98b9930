//! The calls. Each one is a question to the view of the moment.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use maglev_core::view::{View, VppInfo, VppView};
use maglev_proto::v1::maglev_server::Maglev;
use maglev_proto::v1::{
    GetBackendRequest, GetBackendResponse, GetFrontendRequest, GetFrontendResponse, GetHealthCheckRequest,
    GetHealthCheckResponse, GetVersionRequest, GetVersionResponse, GetVppInfoRequest, GetVppInfoResponse,
    GetVpplbStateRequest, GetVpplbStateResponse, ListBackendsRequest, ListBackendsResponse,
    ListFrontendsRequest, ListFrontendsResponse, ListHealthChecksRequest, ListHealthChecksResponse,
    WatchEventsRequest, WatchEventsResponse,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{convert, watching};
use crate::handle::{Gone, Handle};
use crate::{log, version};

/// The service.
pub struct Api {
    handle: Handle,
    log: log::Tap,
    stopping: watch::Receiver<bool>,
}

type Reply<T> = Result<Response<T>, Status>;

impl Api {
    /// A service that ends its streams once `stopping` says so.
    pub fn new(handle: Handle, log: log::Tap, stopping: watch::Receiver<bool>) -> Self {
        Self { handle, log, stopping }
    }

    async fn view(&self) -> Result<Arc<View>, Status> {
        self.handle.view().await.map_err(gone)
    }
}

#[tonic::async_trait]
impl Maglev for Api {
    async fn list_frontends(&self, _: Request<ListFrontendsRequest>) -> Reply<ListFrontendsResponse> {
        let view = self.view().await?;
        let frontends =
            view.frontends.iter().map(|frontend| convert::frontend(frontend, &view.config)).collect();
        Ok(Response::new(ListFrontendsResponse { frontends }))
    }

    async fn get_frontend(&self, request: Request<GetFrontendRequest>) -> Reply<GetFrontendResponse> {
        let name = request.into_inner().name;
        let view = self.view().await?;
        let found = view.frontends.iter().find(|frontend| *frontend.name == *name);
        let frontend = found.ok_or_else(|| not_found("frontend", &name))?;
        let frontend = Some(convert::frontend(frontend, &view.config));
        Ok(Response::new(GetFrontendResponse { frontend }))
    }

    async fn list_backends(&self, _: Request<ListBackendsRequest>) -> Reply<ListBackendsResponse> {
        let view = self.view().await?;
        let refusals = convert::refusals(&view.prober);
        let backends = view.backends.iter().map(|backend| convert::backend(backend, &refusals)).collect();
        Ok(Response::new(ListBackendsResponse { backends }))
    }

    async fn get_backend(&self, request: Request<GetBackendRequest>) -> Reply<GetBackendResponse> {
        let name = request.into_inner().name;
        let view = self.view().await?;
        let found = view.backends.iter().find(|backend| *backend.name == *name);
        let found = found.ok_or_else(|| not_found("backend", &name))?;
        let mut backend = convert::backend(found, &convert::refusals(&view.prober));
        backend.transitions = found.transitions.iter().map(convert::transition).collect();
        Ok(Response::new(GetBackendResponse { backend: Some(backend) }))
    }

    async fn list_health_checks(
        &self,
        _: Request<ListHealthChecksRequest>,
    ) -> Reply<ListHealthChecksResponse> {
        let view = self.view().await?;
        let healthchecks = &view.config.healthchecks;
        let healthchecks =
            healthchecks.iter().map(|(name, check)| convert::healthcheck(name, check)).collect();
        Ok(Response::new(ListHealthChecksResponse { healthchecks }))
    }

    async fn get_health_check(
        &self,
        request: Request<GetHealthCheckRequest>,
    ) -> Reply<GetHealthCheckResponse> {
        let name = request.into_inner().name;
        let view = self.view().await?;
        let found = view.config.healthchecks.get(name.as_str());
        let healthcheck = found.ok_or_else(|| not_found("healthcheck", &name))?;
        let healthcheck = Some(convert::healthcheck(&name, healthcheck));
        Ok(Response::new(GetHealthCheckResponse { healthcheck }))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Reply<Self::WatchEventsStream> {
        let choice = watching::Choice::try_from(&request.into_inner())?;
        let stream = watching::events(choice, &self.handle, &self.log, self.stopping.clone());
        Ok(Response::new(Box::pin(stream.await.map_err(gone)?)))
    }

    async fn get_version(&self, _: Request<GetVersionRequest>) -> Reply<GetVersionResponse> {
        Ok(Response::new(GetVersionResponse {
            version: version::VERSION.into(),
            commit: version::COMMIT.into(),
            build_date: version::BUILD_DATE.into(),
        }))
    }

    async fn get_vpp_info(&self, _: Request<GetVppInfoRequest>) -> Reply<GetVppInfoResponse> {
        let view = self.view().await?;
        let info = connected(&view.vpp)?;
        Ok(Response::new(convert::vpp_info(info, view.vpp.since)))
    }

    async fn get_vpplb_state(&self, _: Request<GetVpplbStateRequest>) -> Reply<GetVpplbStateResponse> {
        let view = self.view().await?;
        connected(&view.vpp)?;
        let unread = || Status::unavailable("VPP's load balancer has not been read yet");
        let actual = view.vpp.actual.as_ref().ok_or_else(unread)?;
        Ok(Response::new(convert::lb_state(actual, &view)))
    }
}

fn gone(gone: Gone) -> Status {
    Status::unavailable(gone.to_string())
}

fn not_found(kind: &str, name: &str) -> Status {
    Status::not_found(format!("no {kind} is named `{name}`"))
}

fn connected(vpp: &VppView) -> Result<&VppInfo, Status> {
    if !vpp.enabled {
        return Err(Status::unavailable("VPP is not used: maglevd runs without --vpp-api-addr"));
    }
    vpp.info.as_ref().ok_or_else(|| Status::unavailable("VPP is not connected"))
}
