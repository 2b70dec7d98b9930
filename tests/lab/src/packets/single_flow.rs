//! Packets of one flow to a VIP: from a real VPP's packet generator, or counted by the simulator.

use std::net::IpAddr;

use maglev_vpp::message::{CliInband, Vip};
use maglev_vpp::stats::CombinedCounter;
use maglev_vpp::{Error, VppClient};

use crate::dataplane::Vpp;
use maglev_vppsim::PacketOutcome;

/// Packet length from the IP header on.
pub const SIZE: u64 = 100;
/// Overhead of GRE over IPv4.
pub const GRE: u64 = 24;

/// Sends `count` packets of one new TCP flow to `vip` over IPv4, and waits until they are counted. The simulator counts them
/// for `server`; a real VPP chooses. Without a server they are dropped.
///
/// # Errors
/// If the connection to VPP is lost.
///
/// # Panics
/// If a command fails, or the simulator has no such VIP or server.
pub async fn send(
    vpp: &Vpp,
    client: &VppClient,
    vip: &Vip,
    count: u64,
    server: Option<IpAddr>,
) -> Result<(), Error> {
    if let Some(sim) = vpp.sim() {
        let packets = |packets| CombinedCounter { packets, bytes: packets * SIZE };
        let counted = match server {
            None => sim.count_traffic(vip, PacketOutcome::NoServer, None, packets(count)),
            Some(_) => {
                sim.count_traffic(vip, PacketOutcome::NewFlow, server, packets(1))
                    && sim.count_traffic(vip, PacketOutcome::ExistingFlow, server, packets(count - 1))
            }
        };
        assert!(counted, "the simulator has no VIP {vip}");
        return Ok(());
    }
    for command in commands(vip, count) {
        let reply = client.request(&CliInband::new(&command)).await?;
        // The interface may exist already. Other errors show when the stream runs.
        let may_fail = command.starts_with("create") || command.starts_with("set interface ip");
        if reply.retval != 0 && !may_fail {
            panic!("{command}: {}", reply.output.0);
        }
    }
    Ok(())
}

/// Returns the CLI commands. A stream runs until its packets are sent, which takes a moment.
fn commands(vip: &Vip, count: u64) -> [String; 5] {
    let (address, port) = (vip.prefix.address, vip.port);
    let name = format!("{address}-{port}-{count}");
    [
        "create packet-generator interface pg0".to_owned(),
        "set interface state pg0 up".to_owned(),
        "set interface ip address pg0 192.0.2.98/31".to_owned(),
        format!(
            "packet-generator new {{
  name {name}
  limit {count}
  node ip4-input
  interface pg0
  size {SIZE}-{SIZE}
  data {{ TCP: 192.0.2.99 -> {address} TCP: 1234 -> {port} incrementing 60 }}
}}"
        ),
        format!("packet-generator enable-stream {name}"),
    ]
}
