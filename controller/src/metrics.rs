//! Stub until the metrics land.
#![allow(missing_docs, clippy::all, clippy::unused_self)]
use crate::{handle::Handle, listen::Listener};
use maglev_core::{
    Name,
    config::Config,
    event::{Counts, Event},
    time::Now,
};
use maglev_ipc::Code;
use std::{sync::Arc, time::Duration};
#[derive(Debug, Default)]
pub struct Metrics;
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    All,
    Vip,
}
impl Metrics {
    pub fn new() -> Self {
        Self
    }
    pub fn vpp_sent(&self, _: &'static str) {}
    pub fn vpp_ended(&self, _: &'static str, _: &'static str, _: Duration) {}
    pub fn link_error(&self, _: &'static str, _: &'static str) {}
    pub fn sync(&self, _: Scope, _: Counts, _: Duration) {}
    pub fn reload(&self, _: bool, _: Now) {}
    pub fn retain(&self, _: &Config) {}
    pub fn event(&self, _: &Event) {}
    pub fn outcome(&self, _: &Name, _: &'static str, _: Code, _: Duration) {}
}
pub async fn serve(_: Vec<Listener>, _: Handle, _: Arc<Metrics>, _: impl Future<Output = ()>) {}
