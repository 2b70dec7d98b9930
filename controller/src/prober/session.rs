//! Session on one link to the prober, from Hello to its end.

use std::collections::VecDeque;
use std::time::Duration;

use maglev_core::state::CheckSet;
use maglev_ipc::message::{HEARTBEAT_INTERVAL, MAX_BATCH, PEER_TIMEOUT};
use maglev_ipc::{CheckId, ToProber, VERSION};
use maglev_ipc_link as link;
use maglev_ipc_link::batch_checks;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::inbound::ProberProtocol;
use super::{ConnectProber, LinkError, MessageTransport, ProberCommand, ProberLink};
use crate::version;

/// Maximum number of messages to read before other work.
const READ_BATCH: usize = 64;

/// Session on one link to the prober.
pub struct ProberSession<'a, R: ConnectProber> {
    owner: &'a mut ProberLink<R>,
    link: &'a mut R::Transport,
    /// Messages not yet sent.
    outgoing: &'a mut VecDeque<ToProber>,
    inbound: ProberProtocol,
    /// True once a check set was sent on this link. Earlier commands were meant for a previous link.
    set_sent: bool,
}

impl<'a, R: ConnectProber> ProberSession<'a, R> {
    pub fn new(
        owner: &'a mut ProberLink<R>,
        link: &'a mut R::Transport,
        outgoing: &'a mut VecDeque<ToProber>,
    ) -> Self {
        outgoing.clear();
        outgoing.push_back(ToProber::Hello { version: VERSION, release: version::VERSION.to_owned() });
        Self { owner, link, outgoing, inbound: ProberProtocol::default(), set_sent: false }
    }

    /// Serves the link until it ends. Returns the reason, and true if the prober had identified itself.
    pub async fn run(&mut self) -> (LinkError, bool) {
        let Err(fault) = self.serve().await;
        (fault, self.inbound.is_identified())
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, LinkError> {
        let mut heartbeat = interval(HEARTBEAT_INTERVAL);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut received = Instant::now();
        let timeout = sleep_until(received + PEER_TIMEOUT);
        tokio::pin!(timeout);
        loop {
            // Biased: a prober that sends without end cannot starve the commands, and reading comes before the
            // timeout.
            tokio::select! {
                biased;
                changed = self.owner.netns.changed() => {
                    return Err(if changed.is_ok() { LinkError::NetnsChanged } else { LinkError::ShuttingDown });
                }
                _ = heartbeat.tick() => self.outgoing.push_back(ToProber::Heartbeat),
                command = self.owner.commands.recv() => self.take(command.ok_or(LinkError::ShuttingDown)?),
                ready = self.link.writable(), if !self.outgoing.is_empty() => {
                    ready?;
                    self.send()?;
                }
                ready = self.link.readable() => {
                    ready?;
                    self.receive().await?;
                    received = Instant::now();
                }
                // Reset on expiry rather than for each message.
                () = &mut timeout => {
                    if received.elapsed() >= PEER_TIMEOUT {
                        return Err(LinkError::Timeout);
                    }
                    timeout.as_mut().reset(received + PEER_TIMEOUT);
                }
            }
        }
    }

    /// Sends as many messages as there is room for.
    fn send(&mut self) -> Result<(), LinkError> {
        while let Some(message) = self.outgoing.front() {
            match self.link.send(message) {
                Ok(()) => _ = self.outgoing.pop_front(),
                Err(link::Error::WouldBlock) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives a bounded number of messages, and forwards their inputs to the core.
    async fn receive(&mut self) -> Result<(), LinkError> {
        let mut inputs = Vec::new();
        for _ in 0..READ_BATCH {
            match self.link.receive() {
                Ok(message) => self.inbound.take(message, &mut inputs)?,
                Err(link::Error::WouldBlock) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if !inputs.is_empty() {
            self.owner.inputs.send(inputs).await.map_err(|_| LinkError::ShuttingDown)?;
        }
        Ok(())
    }

    fn take(&mut self, command: ProberCommand) {
        match command {
            // An amendment refers to a set sent on this link.
            ProberCommand::Checks(set)
                if self.set_sent || self.inbound.is_identified() && set.dropped.is_none() =>
            {
                self.queue_set(set);
            }
            ProberCommand::Pace(check, interval) if self.set_sent => self.queue_interval(check, interval),
            ProberCommand::Checks(_) | ProberCommand::Pace(..) => {}
        }
    }

    fn queue_set(&mut self, set: CheckSet) {
        self.set_sent = true;
        let CheckSet { generation, dropped, bundles, checks } = set;
        self.outgoing.push_back(match &dropped {
            Some(_) => ToProber::Amend { generation },
            None => ToProber::Begin { generation },
        });
        let dropped = dropped.unwrap_or_default();
        self.outgoing.extend(dropped.chunks(MAX_BATCH).map(|names| ToProber::Drop(names.to_vec())));
        let bundles =
            bundles.iter().map(|bundle| ToProber::Bundle { id: bundle.id, pem: bundle.pem.clone() });
        self.outgoing.extend(bundles);
        self.outgoing.extend(batch_checks(checks));
        self.outgoing.push_back(ToProber::Commit { generation });
    }

    fn queue_interval(&mut self, check: CheckId, interval: Duration) {
        match self.outgoing.back_mut() {
            Some(ToProber::SetIntervals(paces)) if paces.len() < MAX_BATCH => paces.push((check, interval)),
            _ => self.outgoing.push_back(ToProber::SetIntervals(vec![(check, interval)])),
        }
    }
}
