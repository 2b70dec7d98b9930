//! A prober that sends, and never reads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use maglev_ipc::ToController;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::*;
use crate::metrics::Metrics;

struct DeafProber;

impl ConnectProber for DeafProber {
    type Transport = Self;

    async fn connect(&self, _: Option<&str>) -> Result<Self, LinkError> {
        Ok(Self)
    }
}

impl MessageTransport for DeafProber {
    fn send(&self, _: &ToProber) -> Result<(), link::Error> {
        Err(link::Error::WouldBlock)
    }

    fn receive(&mut self) -> Result<ToController, link::Error> {
        Err(link::Error::WouldBlock)
    }

    /// Resolves twice a second, as if a heartbeat had come.
    async fn readable(&self) -> io::Result<()> {
        sleep(HEARTBEAT_INTERVAL / 2).await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn prober_that_never_reads_loses_its_link() {
    let (_netns, netns) = watch::channel(None);
    let (inputs, _inputs) = mpsc::channel(1);
    let (_commands, commands) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut owner = ProberLink { connector: DeafProber, netns, inputs, commands, metrics };
    let mut transport = DeafProber;
    let mut session = ProberSession::new(&mut owner, &mut transport);
    let (fault, _) = timeout(Duration::from_secs(60), session.run()).await.unwrap();
    assert!(matches!(fault, LinkError::Stalled), "{fault}");
}
