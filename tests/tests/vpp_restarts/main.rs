//! Flows and VPP's tables across restarts, mostly on the real VPP in `VPP_BIN`.

#![cfg(test)]

mod daemons;
mod hand_over;
mod vpp;

use maglev_lab::maglevd::Maglevd;
use maglev_lab::packets::until;
use maglev_proto::v1::{Backend, BackendState, ListBackendsRequest};

/// Waits until `maglevd` has fresh outcomes of each backend, and frontend `web` is out of its start-up hold.
fn until_in_control(maglevd: &Maglevd) {
    let backends = || -> Vec<Backend> {
        let mut client = maglevd.client.clone();
        maglevd.wait(client.list_backends(ListBackendsRequest {})).unwrap().into_inner().backends
    };
    let known = |backend: &Backend| backend.state() != BackendState::Unknown && !backend.stale;
    let in_control = || backends().iter().all(known) && maglevd.frontend("web").startup_done;
    until(in_control, || format!("{:#?}", backends()));
}
