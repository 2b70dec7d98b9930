//! The show: what is done to the servers, and what comes of it.

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

use super::screen::{Row, Screen};
use super::environment::{SERVERS, Stage};
use super::table::{self, Table};
use maglev_lab::programs::program;

/// How long maglevd may take to bring VPP to what an act expects.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often VPP is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// What happens to the servers, and what VPP must come to.
pub struct Act {
    /// Says so.
    pub title: &'static str,
    /// Whether each server runs, in the order of [`SERVERS`].
    pub running: [bool; 3],
    /// What VPP must give each of them.
    pub weights: [u8; 3],
}

/// The show, which runs until it is dropped.
pub struct Show {
    screen: Screen,
    /// Before the stage, as maglevd waits a while for its clients when it ends.
    events: Streaming<WatchEventsResponse>,
    stage: Stage,
    health: BTreeMap<String, BackendState>,
    table: Table,
    /// When the act began.
    began: Instant,
}

impl Show {
    /// Starts everything.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn open() -> anyhow::Result<Self> {
        let screen = Screen::default();
        screen.title("vpp-maglev: the weights in VPP follow the health of the servers")?;
        let began = Instant::now();
        let mut stage = Stage::set().await?;
        let vpp = if stage.vpp_is_simulated() { "a simulated VPP" } else { "VPP" };
        screen.say(&format!(
            "Here run {vpp} {}, maglevd, its prober, and three web servers.
A server is probed every 200 ms, is down after 3 failures, and up again after 2 passes.
web1 has weight 100, web2 has 50. VPP gets 2 and 1: the same shares, in fewer buckets.",
            stage.vpp.version()
        ))?;
        let request = WatchEventsRequest { kinds: vec![EventKind::Backend.into()], ..Default::default() };
        let events = stage.connect().await?.watch_events(request).await?.into_inner();
        Ok(Self { screen, events, stage, health: BTreeMap::new(), table: Table::new(), began })
    }

    /// Whether somebody may be reading along.
    #[must_use]
    pub const fn has_readers(&self) -> bool {
        self.screen.is_terminal()
    }

    /// Plays an act until VPP has come to what is expected.
    ///
    /// # Errors
    /// It does not, in time.
    pub async fn play(&mut self, act: &Act) -> anyhow::Result<()> {
        self.screen.title(act.title)?;
        for (server, runs) in self.stage.servers.iter_mut().zip(act.running) {
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
            let (Act { title, weights, .. }, log) = (act, self.stage.last_words());
            bail!("{title}: VPP did not come to the weights {weights:?} within {DEADLINE:?}. maglevd's log ends:\n{log}")
        })
    }

    /// Tells the reader how to go on.
    ///
    /// # Errors
    /// maglevc is not built.
    pub fn hand_over(&self) -> anyhow::Result<()> {
        let folder = self.stage.folder().display();
        let maglevc = program("maglevc")?;
        let maglevc = maglevc.display();
        let (metrics, pid) = (self.stage.metrics, self.stage.maglevd());
        self.screen.title("It is yours until Ctrl-C, which ends and removes everything")?;
        self.screen.say(&format!(
            "  make a server sick      touch {folder}/web1.sick
  make it well again      rm {folder}/web1.sick
  ask maglevd             {maglevc} --server unix:{folder}/maglevd.sock show frontends
  read the metrics        http://{metrics}/metrics
  change the settings     {folder}/maglev.yaml, then: kill -HUP {pid}
  read the log            {folder}/maglevd.log
"
        ))?;
        Ok(())
    }

    /// Tells what happens, without end.
    ///
    /// # Errors
    /// maglevd or VPP has gone.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        self.began = Instant::now();
        loop {
            self.step().await?;
        }
    }

    /// Says the last word.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn close(&self) -> io::Result<()> {
        self.screen.title("VPP came to what each act expects. To play with all this yourself: make demo-run")
    }

    fn has_come_to(&self, act: &Act) -> bool {
        SERVERS.iter().zip(act.running).zip(act.weights).all(|((&(name, address, _), runs), weight)| {
            let health = if runs { BackendState::Up } else { BackendState::Down };
            self.health.get(name) == Some(&health) && weight_of(&self.table, address) == Some(weight)
        })
    }

    /// Waits for what happens next, but not for long.
    async fn step(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            event = self.events.message() => {
                let event = event.map_err(|status| anyhow!("maglevd is gone: {}", status.message()))?;
                let event = event.context("maglevd is gone")?.event;
                if let Some(Event::Backend(BackendEvent { name, transition: Some(transition), .. })) = event {
                    self.hear(name, &transition)?;
                }
            }
            () = sleep(PERIOD) => self.look().await?,
        }
        Ok(())
    }

    /// Takes down what maglevd says of a server.
    fn hear(&mut self, name: String, transition: &Transition) -> io::Result<()> {
        let state = transition.to();
        if transition.from() != state {
            let (word, why) = (state_word(state), cause(transition));
            self.screen.event(self.began.elapsed(), &format!("maglevd  {name} is {word}{why}"), word)?;
        }
        self.health.insert(name, state);
        Ok(())
    }

    /// Takes down what VPP has.
    async fn look(&mut self) -> anyhow::Result<()> {
        let table = table::read(&self.stage.vpp).await.context("VPP")?;
        for (name, address, _) in SERVERS {
            let what = match (weight_of(&self.table, address), weight_of(&table, address)) {
                (before, after) if before == after => continue,
                (Some(before), Some(after)) => format!("weight of {name} {before} -> {after}"),
                (None, Some(after)) => format!("has {name}, weight {after}"),
                (_, None) => format!("has lost {name}"),
            };
            self.screen.event(self.began.elapsed(), &format!("VPP      {what}"), "")?;
        }
        self.table = table;
        Ok(())
    }

    fn print_table(&self) -> io::Result<()> {
        let rows = SERVERS.map(|(name, address, pool)| {
            let entry = self.table.get(&address.into());
            Row {
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

fn weight_of(table: &Table, address: Ipv4Addr) -> Option<u8> {
    table.get(&address.into()).map(|entry| entry.weight)
}

/// Why, such as ` (L4CON connection refused)`.
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
