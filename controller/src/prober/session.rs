//! One link to the prober, from the greeting to its end.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use maglev_core::state::CheckSet;
use maglev_ipc::message::{HEARTBEAT, MAX_BATCH, SILENCE};
use maglev_ipc::{CheckId, ControllerLink, ToProber, VERSION, link};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::hearing::Hearing;
use super::{Command, Fault, Link};
use crate::version;

/// How many messages are read before others get their turn.
const READ_BATCH: usize = 64;

/// One link to the prober.
pub struct Session<'a> {
    owner: &'a mut Link,
    link: &'a mut ControllerLink,
    /// What is still to be sent.
    outgoing: &'a mut VecDeque<ToProber>,
    hearing: Hearing,
    /// A set has been sent on this link. Until then, what the core says was meant for an earlier one.
    begun: bool,
}

impl<'a> Session<'a> {
    pub fn new(
        owner: &'a mut Link,
        link: &'a mut ControllerLink,
        outgoing: &'a mut VecDeque<ToProber>,
    ) -> Self {
        outgoing.clear();
        outgoing.push_back(ToProber::Hello { version: VERSION, release: version::VERSION.to_owned() });
        Self { owner, link, outgoing, hearing: Hearing::default(), begun: false }
    }

    /// Serves the link until it ends. Why it did, and whether the prober had said who it is.
    pub async fn run(&mut self) -> (Fault, bool) {
        let Err(fault) = self.serve().await;
        (fault, self.hearing.greeted())
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Fault> {
        let socket = readiness(self.link)?;
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = Instant::now() + SILENCE;
        loop {
            tokio::select! {
                ready = socket.readable() => {
                    ready?;
                    if !self.receive().await? {
                        not_ready(&socket, Interest::READABLE);
                    }
                    deadline = Instant::now() + SILENCE;
                }
                ready = socket.writable(), if !self.outgoing.is_empty() => {
                    ready?;
                    if !self.send()? {
                        not_ready(&socket, Interest::WRITABLE);
                    }
                }
                command = self.owner.commands.recv() => self.take(command.ok_or(Fault::Done)?),
                _ = heartbeat.tick() => self.outgoing.push_back(ToProber::Heartbeat),
                () = sleep_until(deadline) => return Err(Fault::Silent),
                changed = self.owner.netns.changed() => {
                    return Err(if changed.is_ok() { Fault::Moved } else { Fault::Done });
                }
            }
        }
    }

    /// Sends what there is. Whether there may be room for more.
    fn send(&mut self) -> Result<bool, Fault> {
        while let Some(message) = self.outgoing.front() {
            match self.link.send(message) {
                Ok(()) => _ = self.outgoing.pop_front(),
                Err(link::Error::WouldBlock) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Receives what there is, up to a bound, and tells the core. Whether there may be more.
    async fn receive(&mut self) -> Result<bool, Fault> {
        let mut inputs = Vec::new();
        let mut more = true;
        for _ in 0..READ_BATCH {
            match self.link.receive() {
                Ok(message) => self.hearing.take(message, &mut inputs)?,
                Err(link::Error::WouldBlock) => {
                    more = false;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !inputs.is_empty() {
            self.owner.inputs.send(inputs).await.map_err(|_| Fault::Done)?;
        }
        Ok(more)
    }

    fn take(&mut self, command: Command) {
        match command {
            // An amendment is to a set that was sent on this link.
            Command::Checks(set) if self.begun || self.hearing.greeted() && set.dropped.is_none() => {
                self.take_set(set);
            }
            Command::Pace(check, interval) if self.begun => self.take_pace(check, interval),
            Command::Checks(_) | Command::Pace(..) => {}
        }
    }

    fn take_set(&mut self, set: CheckSet) {
        self.begun = true;
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
        self.outgoing.extend(checks.into_iter().map(|(id, interval, check)| ToProber::Check {
            id,
            interval,
            check: check.into(),
        }));
        self.outgoing.push_back(ToProber::Commit { generation });
    }

    fn take_pace(&mut self, check: CheckId, interval: Duration) {
        match self.outgoing.back_mut() {
            Some(ToProber::Pace(paces)) if paces.len() < MAX_BATCH => paces.push((check, interval)),
            _ => self.outgoing.push_back(ToProber::Pace(vec![(check, interval)])),
        }
    }
}

/// The link's descriptor, to wait for. tokio has no type for sockets of type `SOCK_SEQPACKET`; all that is asked of
/// this one is when the link can be read or written.
fn readiness(link: &ControllerLink) -> io::Result<UnixStream> {
    UnixStream::from_std(link.as_fd().try_clone_to_owned()?.into())
}

/// Tells tokio that the link has nothing more to read, or takes no more.
fn not_ready(socket: &UnixStream, interest: Interest) {
    let _ = socket.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
}
