//! gRPC server. `proto/maglev/v1/maglev.proto` describes the API.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use maglev_proto::DESCRIPTORS;
use maglev_proto::v1::maglev_server::MaglevServer;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::handle::Handle;
use crate::listen::Listener;
use crate::log;
use crate::metrics::Metrics;
use crate::reload::Reloader;

mod access;
mod answers;
mod api;
mod budget;
mod convert;
mod counters;
pub mod event_stream;
mod incoming;
mod lists;
mod metrics_layer;
mod names;
pub mod overrides;
mod plans;
mod status;
#[cfg(test)]
mod tests;
mod transport;

use access::AuthLayer;
use answers::AnswerBudget;
use api::ApiService;
pub use incoming::limit_per_listener;
use metrics_layer::MetricsLayer;

/// Maximum size of a request.
const MAX_REQUEST: usize = 1 << 20;

/// Maximum number of concurrent calls of one connection.
const MAX_STREAMS: u32 = 64;

/// Maximum time until a call's response begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of HTTP/2 keepalive pings.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Time to wait for the answer to a ping before closing the connection.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shutdown time for streams of health and reflection; event streams end at once.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Failure of the server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The compiled-in description of the API is invalid.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server failed.
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Returns the file descriptor sets of everything that [`ApiServer`] serves.
#[must_use]
pub fn descriptors(reflection: bool) -> Vec<&'static [u8]> {
    use tonic_reflection::pb::{v1, v1alpha};
    let mut descriptors = vec![DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    if reflection {
        descriptors.extend([v1::FILE_DESCRIPTOR_SET, v1alpha::FILE_DESCRIPTOR_SET]);
    }
    descriptors
}

/// gRPC server of the API, the standard health service and, if requested, reflection.
#[derive(Clone)]
pub struct ApiServer {
    /// Access to the driver.
    pub handle: Handle,
    /// Log lines for clients that watch.
    pub log: log::LogBroadcast,
    /// Reloader of the configuration.
    pub reloader: Reloader,
    /// Metrics of calls.
    pub metrics: Arc<Metrics>,
    /// Serves reflection.
    pub reflection: bool,
    /// Maximum number of connections of each listener.
    pub connection_limit: usize,
}

impl ApiServer {
    /// Serves on `listeners` until `shutdown` completes. Event streams then end with a status.
    ///
    /// # Errors
    /// The server failed. No client can cause that.
    pub async fn serve(
        self,
        listeners: Vec<Listener>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        if listeners.is_empty() {
            shutdown.await;
            return Ok(());
        }
        let (stop, stopping) = watch::channel(false);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<MaglevServer<ApiService>>().await;

        let connections = incoming::incoming(listeners, self.connection_limit, self.reloader.access());
        let answers = AnswerBudget::default();
        let gate = AuthLayer::new(self.reloader.access().clone(), answers.clone());
        let calls = MetricsLayer(self.metrics.calls());
        let api = ApiService::new(self.handle, self.log, self.reloader, self.metrics, stopping.clone());
        let mut routes = Routes::new(MaglevServer::new(api).max_decoding_message_size(MAX_REQUEST))
            .add_service(health_service.max_decoding_message_size(MAX_REQUEST));
        if self.reflection {
            routes = add_reflection(routes)?;
        }
        let server = Server::builder()
            .layer(calls)
            .timeout(ANSWER_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(gate)
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, stopped(stopping));

        let mut server = std::pin::pin!(server);
        tokio::select! {
            ended = &mut server => return Ok(ended?),
            never = answers.expire_stalled() => match never {},
            () = shutdown => {}
        }
        report_not_serving(&health).await;
        stop.send_replace(true);
        // Remaining connections are closed when the process exits.
        tokio::time::timeout(DRAIN_TIMEOUT, server).await.unwrap_or(Ok(())).map_err(ServeError::from)
    }
}

/// Completes once the server stops.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn report_not_serving(health: &HealthReporter) {
    health.set_service_status("", ServingStatus::NotServing).await;
    health.set_not_serving::<MaglevServer<ApiService>>().await;
}

/// Adds both versions: older clients such as grpcurl know only v1alpha.
fn add_reflection(routes: Routes) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes
        .add_service(builder().build_v1()?.max_decoding_message_size(MAX_REQUEST))
        .add_service(builder().build_v1alpha()?.max_decoding_message_size(MAX_REQUEST)))
}
