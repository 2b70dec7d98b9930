//! A VPP that does what it is asked, unless told to fail.

use std::collections::BTreeMap;
use std::net::IpAddr;

use maglev_core::dataplane::{ActualAs, ActualState, ActualVip, Encap, LbConf, VipKey, VipPlan};
use maglev_core::plan;
use maglev_core::state::{Input, ListedVip, Output};
use maglev_core::time::WallTime;
use maglev_core::view::VppInfo;

use super::world::World;

/// A VPP that does what it is asked.
#[derive(Default)]
pub struct Vpp {
    pub pid: u32,
    pub up: bool,
    pub actual: ActualState,
    pub waiting: bool,
    /// Its command line can be read, which tells of src-ip-sticky.
    pub tells_all: bool,
    pub asked: Vec<Output>,
    pub refusals: usize,
    pub refuses_conf: bool,
}

impl World {
    /// `boot` is since when it runs, if its stats can be read.
    pub fn vpp_up(&mut self, boot: Option<WallTime>) {
        self.vpp.up = true;
        if self.vpp.actual.conf.is_none() {
            self.vpp.actual.conf = Some(default_conf());
        }
        let (version, build_date) = ("26.10".into(), String::new());
        self.tell(Input::VppUp(VppInfo { version, build_date, pid: self.vpp.pid, boot }));
    }

    /// It is lost and back before we know of it, so all is asked for twice on the connection that stays, and what was read
    /// the second time is told last.
    pub fn vpp_comes_twice(&mut self) {
        self.vpp.waiting = true;
        self.vpp_up(None);
        self.tell(Input::VppDown);
        self.vpp_up(None);
        assert_eq!(std::mem::take(&mut self.vpp.asked), [Output::ReadAll, Output::ReadAll]);
        let read = Input::AllRead(untold(self.vpp.actual.clone()));
        self.tell(read.clone());
        self.vpp.waiting = false;
        self.vpp_works();
        self.tell(read);
    }

    pub fn vpp_down(&mut self) {
        self.vpp.up = false;
        self.vpp.asked.clear();
        self.tell(Input::VppDown);
    }

    /// Answers everything that is asked of VPP.
    pub fn vpp_works(&mut self) {
        if self.vpp.waiting || !self.vpp.up {
            return;
        }
        while !self.vpp.asked.is_empty() {
            let asked = self.vpp.asked.remove(0);
            let answer = self.vpp_answers(asked);
            self.tell(answer);
        }
    }

    /// Does everything that is asked of VPP, and loses the answers.
    pub fn vpp_works_unheard(&mut self) {
        for asked in std::mem::take(&mut self.vpp.asked) {
            self.vpp_answers(asked);
        }
    }

    pub fn vpp_answers(&mut self, asked: Output) -> Input {
        match asked {
            Output::ReadAll => {
                self.said.push("vpp: read all".into());
                let actual = self.vpp.actual.clone();
                Input::AllRead(if self.vpp.tells_all { actual } else { untold(actual) })
            }
            Output::ListVips => {
                self.said.push("vpp: list".into());
                let listed = |(vip, found): (&VipKey, &ActualVip)| {
                    (*vip, ListedVip { encap: found.encap, table_length: found.table_length })
                };
                Input::VipsListed(self.vpp.actual.conf, self.vpp.actual.vips.iter().map(listed).collect())
            }
            Output::ReadServers(vip) => {
                self.said.push(format!("vpp: read servers of {vip}"));
                let servers = self.vpp.actual.vips.get(&vip).map(|found| found.servers.clone());
                Input::ServersRead(vip, servers.unwrap_or_default())
            }
            Output::ReadVip(vip) => {
                self.said.push(format!("vpp: read {vip}"));
                Input::VipRead(vip, untold(self.vpp.actual.clone()).vips.remove(&vip))
            }
            Output::SetConf(_) if self.vpp.refuses_conf => {
                self.said.push("vpp: REFUSES conf".into());
                Input::ConfSet(Some("INVALID_MEMORY_SIZE".into()))
            }
            Output::SetConf(conf) => {
                self.said.push(format!("vpp: conf {} {}", conf.ipv4_src, conf.sticky_buckets_per_core));
                self.vpp.actual.conf = Some(conf);
                Input::ConfSet(None)
            }
            Output::Apply(run) => self.vpp_runs(&run),
            other => panic!("not asked of VPP: {other:?}"),
        }
    }

    pub fn vpp_runs(&mut self, run: &VipPlan) -> Input {
        let vip = run.vip;
        let mut found = self.vpp.actual.vips.remove(&vip);
        let mut done = 0;
        for step in &run.steps {
            if self.vpp.refusals > 0 {
                self.vpp.refusals -= 1;
                self.said.push(format!("vpp: {vip}: REFUSES {step}"));
                break;
            }
            self.said.push(format!("vpp: {vip}: {step}"));
            plan::apply(step, &mut found);
            done += 1;
        }
        if let Some(found) = found {
            self.vpp.actual.vips.insert(vip, found);
        }
        let error = (done < run.steps.len()).then(|| "INVALID_VALUE".to_owned());
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

/// What VPP tells of what it has.
pub fn untold(mut actual: ActualState) -> ActualState {
    actual.vips.values_mut().for_each(|vip| vip.src_ip_sticky = None);
    actual
}
