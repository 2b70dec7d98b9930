//! The connection of `maglevd` to VPP.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use maglev_core::time::WallTime;
use maglev_vpp::frame::{self, FrameSplitter};
use maglev_vpp::message::{LbAddDelAsV2, LbAddDelVipV2, LbAsSetWeight, LbConf, LbFlushVip, Message};
use maglev_vpp::{ClientOptions, Error, VppClient};
use maglevd::vpp::{CLIENT_NAME, ConnectVpp};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, sleep_until};

use super::pipe::{PipeReader, PipeWriter, SimPipe};
use super::process::SimProcess;
use super::simulation::Simulation;
use super::vpp_model::PipeConnection;
use maglev_vppsim::crash::OutOfBounds;
use maglev_vppsim::process::{ClientConnection, ReplyQueue};

/// Maximum number of bytes in flight to VPP.
const ROOM: usize = 4096;
/// Requests that change the dataplane.
const WRITES: [&str; 5] =
    [LbConf::NAME, LbAddDelVipV2::NAME, LbAddDelAsV2::NAME, LbAsSetWeight::NAME, LbFlushVip::NAME];

/// `maglevd`'s way to connect to the running VPP.
pub struct SimVppConnector {
    /// The simulation.
    pub sim: Arc<Simulation>,
    /// The connecting process.
    pub process: Arc<SimProcess>,
}

impl ConnectVpp for SimVppConnector {
    async fn connect(&self, options: ClientOptions) -> Result<VppClient, Error> {
        let failed = || Error::Connect {
            path: "api.sock".into(),
            reason: Arc::new(io::ErrorKind::ConnectionRefused.into()),
        };
        let (conditions, seeds) = (self.sim.vpp_conditions(), [self.sim.next_seed(), self.sim.next_seed()]);
        let (to, from) = (SimPipe::new(&conditions, ROOM, seeds[0]), SimPipe::new(&conditions, 0, seeds[1]));
        let connection = Arc::new(PipeConnection(Arc::clone(&from)));
        let slot = self.sim.with(|world| {
            let vpp = world.vpp.as_mut()?;
            vpp.connections.retain(|connection| connection.strong_count() > 0);
            vpp.connections.push(Arc::downgrade(&connection));
            let slot = vpp.process.register(Arc::<PipeConnection>::clone(&connection));
            Some((slot, vpp.process.identity.generation))
        });
        let (slot, generation) = slot.ok_or_else(failed)?;
        tokio::spawn(serve(Arc::clone(&self.sim), PipeReader::new(&to), connection, slot, generation));
        VppClient::from_stream(
            (PipeReader::new(&from), PipeWriter::new(&to, &self.process)),
            CLIENT_NAME,
            options,
        )
        .await
    }

    async fn boot(&self, _: PathBuf) -> Option<WallTime> {
        let (fails, boot) = self.sim.with(|world| {
            let boot = world.vpp.as_ref().map(|vpp| vpp.process.identity.boot_time);
            (world.stats_failure, boot.filter(|_| world.host.stats))
        });
        let boot = boot?;
        if Instant::now() < fails.0 {
            sleep(fails.1).await;
            return None;
        }
        Some(WallTime(boot * 1_000_000_000))
    }
}

/// Serves one connection until it ends.
async fn serve(
    sim: Arc<Simulation>,
    mut reader: PipeReader,
    connection: Arc<PipeConnection>,
    slot: usize,
    generation: u32,
) {
    let mut splitter = FrameSplitter::default();
    while let Ok(1..) = reader.read_buf(splitter.read_buffer()).await {
        let mut out = ReplyQueue::default();
        loop {
            let payload = match splitter.next_payload() {
                Ok(Some(payload)) => payload.to_vec(),
                Ok(None) => break,
                Err(_) => return connection.close(),
            };
            let hung_until = sim.with(|world| world.vpp.as_ref().map(|vpp| vpp.hung_until));
            if let Some(hung_until) = hung_until {
                sleep_until(hung_until).await;
            }
            if !handle(&sim, slot, generation, &payload, &mut out) {
                return connection.close();
            }
        }
        for (connection, bytes) in out.0 {
            connection.write(&bytes);
        }
    }
    connection.close();
    sim.with(|world| {
        if let Some(vpp) = world.vpp.as_mut().filter(|vpp| vpp.process.identity.generation == generation) {
            vpp.process.unregister(slot);
        }
    });
}

/// Handles one message. Returns false if VPP does not run any more.
fn handle(sim: &Simulation, slot: usize, generation: u32, payload: &[u8], out: &mut ReplyQueue) -> bool {
    let (lives, write) = sim.with(|world| {
        let Some(vpp) = world.vpp.as_mut().filter(|vpp| vpp.process.identity.generation == generation) else {
            return (false, None);
        };
        if vpp.crash_after == Some(0) {
            return (false, None);
        }
        if vpp.reject_until < Instant::now() {
            vpp.process.faults.rejections.clear();
        }
        let before = vpp.process.calls.len();
        if let Err(OutOfBounds(why)) = vpp.process.handle(slot, payload, out) {
            world.violations.push(format!("VPP crashed: {why}"));
            return (false, None);
        }
        let write = vpp.process.calls.get(before).filter(|call| WRITES.contains(&call.name));
        let write = write.map(|call| describe_write(call.name, payload));
        vpp.process.calls.clear();
        if let Some(left) = &mut vpp.crash_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                sim.vpp_ended.notify_one();
                return (false, write);
            }
        }
        (true, write)
    });
    if let Some((vip, text)) = write {
        sim.on_vpp_write(vip, &text);
    }
    lives
}

/// Returns the VIP of a write, and a description.
fn describe_write(name: &str, payload: &[u8]) -> (Option<IpAddr>, String) {
    let (vip, text) = match name {
        LbAddDelVipV2::NAME => {
            let Ok((_, LbAddDelVipV2 { vip, is_del, .. })) = frame::decode(payload) else {
                return unknown(name);
            };
            (vip, if is_del { "remove".to_owned() } else { "create".to_owned() })
        }
        LbAddDelAsV2::NAME => {
            let Ok((_, LbAddDelAsV2 { vip, address, weight, is_del, .. })) = frame::decode(payload) else {
                return unknown(name);
            };
            (vip, if is_del { format!("remove {address}") } else { format!("add {address} weight {weight}") })
        }
        LbAsSetWeight::NAME => {
            let Ok((_, LbAsSetWeight { vip, address, weight, is_flush })) = frame::decode(payload) else {
                return unknown(name);
            };
            (vip, format!("{address} weight {weight}{}", if is_flush { ", flush" } else { "" }))
        }
        _ => return unknown(name),
    };
    (Some(vip.prefix.address), format!("{} {text}", vip.prefix.address))
}

fn unknown(name: &str) -> (Option<IpAddr>, String) {
    (None, name.to_owned())
}
