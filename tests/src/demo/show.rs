//! Script of the demo: actions on the servers and their effects.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use maglev_proto::v1::watch_events_response::Event;
use maglev_proto::v1::{
    BackendEvent, BackendState, EventKind, Transition, WatchEventsRequest, WatchEventsResponse, transition,
};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::environment::{DemoEnvironment, SERVERS};
use super::screen::{DemoScreen, TableRow};
use super::table::{self, ServerTable};
use maglev_lab::programs::program;

/// Timeout for VPP to reach the state that an act expects.
const DEADLINE: Duration = Duration::from_secs(10);
/// Poll interval of VPP.
const PERIOD: Duration = Duration::from_millis(20);

/// An action on the servers and the expected state of VPP.
pub struct Act {
    /// Description.
    pub title: &'static str,
    /// Expected running state of each server, in the order of [`SERVERS`].
    pub running: [bool; 3],
    /// Expected weight of each server in VPP.
    pub weights: [u8; 3],
}

/// A running demo. Ended on drop.
pub struct DemoRun {
    screen: DemoScreen,
    /// Dropped before the environment, because an exiting maglevd waits for its clients.
    events: Streaming<WatchEventsResponse>,
    environment: DemoEnvironment,
    health: BTreeMap<String, BackendState>,
    table: ServerTable,
    /// Start of the act.
    began: Instant,
}

impl DemoRun {
    /// Starts everything.
    ///
    /// # Errors
    /// If a program does not start.
    pub async fn open() -> anyhow::Result<Self> {
        let screen = DemoScreen::default();
        screen.title("vpp-maglev: the weights in VPP follow the health of the servers")?;
        let began = Instant::now();
        let mut environment = DemoEnvironment::start().await?;
        let vpp = if environment.vpp_is_simulated() { "a simulated VPP" } else { "VPP" };
        screen.say(&format!(
            "Running: {vpp} {}, maglevd, its prober, and three web servers.
Each server is probed every 200 ms. It is down after 3 failures and up after 2 passes.
The weights 100 of web1 and 50 of web2 are 20 and 10 in VPP: it gets a fifth of each weight.",
            environment.vpp.version()
        ))?;
        let request = WatchEventsRequest { kinds: vec![EventKind::Backend.into()], ..Default::default() };
        let events = environment.connect().await?.watch_events(request).await?.into_inner();
        Ok(Self { screen, events, environment, health: BTreeMap::new(), table: ServerTable::new(), began })
    }

    /// True if output goes to a terminal.
    #[must_use]
    pub const fn is_interactive(&self) -> bool {
        self.screen.is_terminal()
    }

    /// Plays an act until VPP reaches the expected state.
    ///
    /// # Errors
    /// If it does not do so in time.
    pub async fn play(&mut self, act: &Act) -> anyhow::Result<()> {
        self.screen.title(act.title)?;
        for (server, runs) in self.environment.servers.iter_mut().zip(act.running) {
            if server.is_running() != runs {
                self.began = Instant::now();
                server.toggle().await.with_context(|| server.address.to_string())?;
            }
        }
        let played = timeout(DEADLINE, async {
            while !self.has_come_to(act) {
                self.step().await?;
            }
            anyhow::Ok(())
        })
        .await;
        self.print_table()?;
        played.unwrap_or_else(|_| {
            let (Act { title, weights, .. }, log) = (act, self.environment.log_tail());
            bail!("{title}: VPP did not reach the weights {weights:?} within {DEADLINE:?}. End of maglevd's log:\n{log}")
        })
    }

    /// Prints how to continue by hand.
    ///
    /// # Errors
    /// If maglevc is not built.
    pub fn hand_over(&self) -> anyhow::Result<()> {
        let directory = self.environment.directory().display();
        let maglevc = program("maglevc")?;
        let maglevc = maglevc.display();
        let (metrics, pid) = (self.environment.metrics, self.environment.maglevd());
        self.screen.title("Everything keeps running until Ctrl-C, which removes it all")?;
        self.screen.say(&format!(
            "  make a server fail      touch {directory}/web1.failing
  let it recover          rm {directory}/web1.failing
  query maglevd           {maglevc} --server unix:{directory}/maglevd.sock show frontends
  read the metrics        http://{metrics}/metrics
  change its settings     {directory}/maglev.yaml, then: kill -HUP {pid}
  read the log            {directory}/maglevd.log
"
        ))?;
        Ok(())
    }

    /// Prints events without end.
    ///
    /// # Errors
    /// If maglevd or VPP exits.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        self.began = Instant::now();
        loop {
            self.step().await?;
        }
    }

    /// Prints the conclusion.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn close(&self) -> io::Result<()> {
        self.screen.title("VPP reached the expected state in every act. To experiment: make demo-run")
    }

    fn has_come_to(&self, act: &Act) -> bool {
        SERVERS.iter().zip(act.running).zip(act.weights).all(|((&(name, address, _), runs), weight)| {
            let health = if runs { BackendState::Up } else { BackendState::Down };
            self.health.get(name) == Some(&health) && weight_of(&self.table, address) == Some(weight)
        })
    }

    /// Waits for the next event or poll interval.
    async fn step(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            event = self.events.message() => {
                let event = event.map_err(|status| anyhow!("maglevd has exited: {}", status.message()))?;
                let event = event.context("maglevd has exited")?.event;
                if let Some(Event::Backend(BackendEvent { name, transition: Some(transition), .. })) = event {
                    self.record_transition(name, &transition)?;
                }
            }
            () = sleep(PERIOD) => self.refresh_table().await?,
        }
        Ok(())
    }

    /// Records a transition and prints it.
    fn record_transition(&mut self, name: String, transition: &Transition) -> io::Result<()> {
        let state = transition.to();
        if transition.from() != state {
            let (word, cause) = (state_word(state), cause(transition));
            self.screen.event(self.began.elapsed(), &format!("maglevd  {name} is {word}{cause}"), word)?;
        }
        self.health.insert(name, state);
        Ok(())
    }

    /// Reads VPP's table and prints the changes.
    async fn refresh_table(&mut self) -> anyhow::Result<()> {
        let table = table::read(&self.environment.vpp).await.context("VPP")?;
        for (name, address, _) in SERVERS {
            let what = match (weight_of(&self.table, address), weight_of(&table, address)) {
                (before, after) if before == after => continue,
                (Some(before), Some(after)) => format!("weight of {name} {before} -> {after}"),
                (None, Some(after)) => format!("has {name}, weight {after}"),
                (_, None) => format!("lost {name}"),
            };
            self.screen.event(self.began.elapsed(), &format!("VPP      {what}"), "")?;
        }
        self.table = table;
        Ok(())
    }

    fn print_table(&self) -> io::Result<()> {
        let rows = SERVERS.map(|(name, address, pool)| {
            let entry = self.table.get(&address.into());
            TableRow {
                name,
                pool,
                health: self.health.get(name).map_or("unknown", |&state| state_word(state)),
                weight: entry.map(|entry| entry.weight),
                buckets: entry.map_or(0, |entry| entry.buckets),
            }
        });
        self.screen.table(&rows)
    }
}

fn weight_of(table: &ServerTable, address: Ipv4Addr) -> Option<u8> {
    table.get(&address.into()).map(|entry| entry.weight)
}

/// Returns the cause, such as ` (L4CON connection refused)`.
fn cause(transition: &Transition) -> String {
    match &transition.cause {
        Some(transition::Cause::Verdict(verdict)) => {
            let code = verdict.code().as_str_name().trim_start_matches("CODE_");
            format!(" ({})", format!("{code} {}", verdict.detail).trim_end())
        }
        _ => String::new(),
    }
}

const fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Unspecified | BackendState::Unknown => "unknown",
        BackendState::Up => "up",
        BackendState::Down => "down",
        BackendState::Paused => "paused",
        BackendState::Disabled => "disabled",
        BackendState::Removed => "removed",
    }
}
