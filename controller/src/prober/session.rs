//! Session on one link to the prober, from Hello to its end.

use maglev_ipc::message::{HEARTBEAT_INTERVAL, PEER_TIMEOUT};
use maglev_ipc::{ToProber, VERSION};
use maglev_ipc_link as link;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::inbound::ProberProtocol;
use super::outgoing::OutgoingQueue;
use super::{ConnectProber, LinkError, MessageTransport, ProberCommand, ProberLink};
use crate::version;

/// Maximum number of messages to read before other work.
const READ_BATCH: usize = 64;

/// Session on one link to the prober.
pub struct ProberSession<'a, R: ConnectProber> {
    owner: &'a mut ProberLink<R>,
    link: &'a mut R::Transport,
    /// Messages not yet sent.
    outgoing: OutgoingQueue,
    inbound: ProberProtocol,
    /// True once a check set was sent on this link. Earlier commands were meant for a previous link.
    set_sent: bool,
}

impl<'a, R: ConnectProber> ProberSession<'a, R> {
    pub fn new(owner: &'a mut ProberLink<R>, link: &'a mut R::Transport) -> Self {
        let hello = ToProber::Hello { version: VERSION, release: version::VERSION.to_owned() };
        let outgoing = OutgoingQueue::new(hello);
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
                _ = heartbeat.tick() => {
                    if self.outgoing.is_stalled() {
                        return Err(LinkError::Stalled);
                    }
                    self.outgoing.push_heartbeat();
                }
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
                Ok(()) => self.outgoing.pop(),
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
                self.set_sent = true;
                self.outgoing.push_set(set);
            }
            ProberCommand::Pace(check, interval) if self.set_sent => {
                self.outgoing.push_interval(check, interval);
            }
            ProberCommand::Checks(_) | ProberCommand::Pace(..) => {}
        }
    }
}

#[cfg(test)]
mod tests;
