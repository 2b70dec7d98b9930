//! Model of VPP that accepts every request, unless a command makes it fail.

use std::collections::BTreeMap;
use std::net::IpAddr;

use maglev_core::dataplane::{ActualAs, ActualState, ActualVip, Encap, LbConf, VipKey, VipPlan, VppMemory};
use maglev_core::plan;
use maglev_core::state::{Input, ListedVip, Output};
use maglev_core::time::WallTime;
use maglev_core::view::VppInfo;

use super::world::ScenarioWorld;

/// Model of VPP.
#[derive(Default)]
pub struct ScriptedVpp {
    pub pid: u32,
    pub up: bool,
    pub actual: ActualState,
    pub is_paused: bool,
    /// True if its command line is readable, which reports src-ip-sticky.
    pub reports_sticky: bool,
    pub asked: Vec<Output>,
    pub rejections: usize,
    pub rejects_conf: bool,
    pub memory: Option<VppMemory>,
}

impl ScenarioWorld {
    /// Connects VPP. `boot` is its start time, if its stats segment is readable.
    pub fn vpp_up(&mut self, boot: Option<WallTime>) {
        self.vpp.up = true;
        if self.vpp.actual.conf.is_none() {
            self.vpp.actual.conf = Some(default_conf());
        }
        let (version, build_date) = ("26.10".into(), String::new());
        let is_paused = std::mem::replace(&mut self.vpp.is_paused, true);
        self.feed(Input::VppUp(VppInfo { version, build_date, pid: self.vpp.pid, boot }));
        if let Some(memory) = self.vpp.memory {
            self.feed(Input::VppMeasured(memory));
        }
        self.vpp.is_paused = is_paused;
        self.vpp_answers_all();
    }

    /// Reconnects before the first read is answered: two full reads are requested on the connection that stays, and the
    /// second answer arrives last.
    pub fn vpp_reconnects_early(&mut self) {
        self.vpp.is_paused = true;
        self.vpp_up(None);
        self.feed(Input::VppDown);
        self.vpp_up(None);
        assert_eq!(std::mem::take(&mut self.vpp.asked), [Output::ReadAll, Output::ReadAll]);
        let read = Input::AllRead(without_sticky(self.vpp.actual.clone()));
        self.feed(read.clone());
        self.vpp.is_paused = false;
        self.vpp_answers_all();
        self.feed(read);
    }

    pub fn vpp_down(&mut self) {
        self.vpp.up = false;
        self.vpp.asked.clear();
        self.feed(Input::VppDown);
    }

    /// Answers all requests.
    pub fn vpp_answers_all(&mut self) {
        if self.vpp.is_paused || !self.vpp.up {
            return;
        }
        while !self.vpp.asked.is_empty() {
            let asked = self.vpp.asked.remove(0);
            let answer = self.vpp_answer(asked);
            self.feed(answer);
        }
    }

    /// Executes all requests, and loses the answers.
    pub fn vpp_loses_answers(&mut self) {
        for asked in std::mem::take(&mut self.vpp.asked) {
            self.vpp_answer(asked);
        }
    }

    pub fn vpp_answer(&mut self, asked: Output) -> Input {
        match asked {
            Output::ReadAll => {
                self.lines.push("vpp: read all".into());
                let actual = self.vpp.actual.clone();
                Input::AllRead(if self.vpp.reports_sticky { actual } else { without_sticky(actual) })
            }
            Output::ListVips => {
                self.lines.push("vpp: list".into());
                let listed = |(vip, found): (&VipKey, &ActualVip)| {
                    (*vip, ListedVip { encap: found.encap, table_length: found.table_length })
                };
                Input::VipsListed(self.vpp.actual.conf, self.vpp.actual.vips.iter().map(listed).collect())
            }
            Output::ReadServers(vip) => {
                self.lines.push(format!("vpp: read servers of {vip}"));
                let servers = self.vpp.actual.vips.get(&vip).map(|found| found.servers.clone());
                Input::ServersRead(vip, servers.unwrap_or_default())
            }
            Output::ReadVip(vip) => {
                self.lines.push(format!("vpp: read {vip}"));
                Input::VipRead(vip, without_sticky(self.vpp.actual.clone()).vips.remove(&vip))
            }
            Output::SetConf(_) if self.vpp.rejects_conf => {
                self.lines.push("vpp: REJECTS conf".into());
                Input::ConfSet(Some("INVALID_MEMORY_SIZE".into()))
            }
            Output::SetConf(conf) => {
                self.lines.push(format!("vpp: conf {} {}", conf.ipv4_src, conf.sticky_buckets_per_core));
                self.vpp.actual.conf = Some(conf);
                Input::ConfSet(None)
            }
            Output::Apply(plan) => self.vpp_apply(&plan),
            other => panic!("not a request to VPP: {other:?}"),
        }
    }

    pub fn vpp_apply(&mut self, plan: &VipPlan) -> Input {
        let vip = plan.vip;
        let mut found = self.vpp.actual.vips.remove(&vip);
        let mut done = 0;
        for step in &plan.steps {
            if self.vpp.rejections > 0 {
                self.vpp.rejections -= 1;
                self.lines.push(format!("vpp: {vip}: REJECTS {step}"));
                break;
            }
            self.lines.push(format!("vpp: {vip}: {step}"));
            plan::apply(step, &mut found);
            done += 1;
        }
        if let Some(found) = found {
            self.vpp.actual.vips.insert(vip, found);
        }
        let error = (done < plan.steps.len()).then(|| "INVALID_VALUE".to_owned());
        Input::StepsApplied { vip, done, error }
    }

    pub fn edit(&mut self, address: &str, server: &str, weight: &str) {
        let address: IpAddr = address.parse().unwrap();
        let vip = self.vpp.actual.vips.keys().find(|vip| vip.address == address).copied();
        let vip = vip.unwrap_or(VipKey::host(address, 255, 0));
        let found = self.vpp.actual.vips.entry(vip).or_insert_with(|| ActualVip {
            encap: Encap::Gre4,
            table_length: Some(1024),
            src_ip_sticky: None,
            servers: BTreeMap::new(),
        });
        found
            .servers
            .insert(server.parse().unwrap(), ActualAs { weight: weight.parse().unwrap(), buckets: 0 });
    }
}

pub fn default_conf() -> LbConf {
    LbConf {
        ipv4_src: "255.255.255.255".parse().unwrap(),
        ipv6_src: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
        sticky_buckets_per_core: 1024,
        flow_timeout: 40,
    }
}

/// Removes src-ip-sticky, which VPP's API does not report.
pub fn without_sticky(mut actual: ActualState) -> ActualState {
    actual.vips.values_mut().for_each(|vip| vip.src_ip_sticky = None);
    actual
}
