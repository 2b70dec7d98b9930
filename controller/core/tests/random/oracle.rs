//! What should be, worked out anew and from the outside: from the configuration, the health that is shown, and what
//! operators want.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use maglev_core::Name;
use maglev_core::config::{Backend, Config, ForeignVips, Frontend, Healthcheck};
use maglev_core::dataplane::{Step, VipKey, VipPlan};
use maglev_core::health::Health;
use maglev_core::view::{FrontendView, View};

use crate::vpp::{Vip, Vpp, is_foreign};
use crate::world::World;

/// VPP is what it should be.
pub fn converged(world: &World) {
    let (vpp, config, view) = (&world.vpp, &world.config, world.view());
    // Without a frontend they are none of ours.
    assert!(vpp.conf == config.lb.conf || config.frontends.is_empty());
    let keeps_foreign = config.lb.foreign_vips == ForeignVips::Keep;
    for vip in vpp.vips.keys() {
        let foreign = is_foreign(vip) || world.strangers.contains(vip);
        assert!(frontend_of(config, vip).is_some() || foreign && keeps_foreign, "{vip} is still there");
    }
    for (name, frontend) in &config.frontends {
        let Some(found) = vpp.vips.get(&frontend.vip) else {
            assert!(vpp.refuses(&frontend.vip, frontend.encap).is_some(), "{name} is not there");
            continue;
        };
        let shown = view.frontends.iter().find(|f| f.name == *name).unwrap();
        let anybody = frontend.pools.iter().any(|p| !p.backends.is_empty());
        assert!(shown.startup_done || !anybody, "{name} is held");
        if let Some(problem) = difference(world, name, frontend, found, &view) {
            panic!("{name}: {problem}: {found:?}");
        }
    }
}

/// The VIPs that are what they should be, and for which nothing is under way.
pub fn settled(world: &World, view: &View) -> BTreeSet<VipKey> {
    let vpp = &world.vpp;
    let right = |(name, frontend): &(&Name, &Arc<Frontend>)| {
        let shown = view.frontends.iter().find(|f| f.name == **name).unwrap();
        let vip = frontend.vip;
        shown.startup_done
            && !vpp.works_on(&vip)
            && !vpp.edited.contains(&vip.address)
            && vpp
                .vips
                .get(&vip)
                .is_some_and(|found| difference(world, name, frontend, found, view).is_none())
    };
    world.config.frontends.iter().filter(right).map(|(_, f)| f.vip).collect()
}

fn difference(world: &World, name: &Name, frontend: &Frontend, found: &Vip, view: &View) -> Option<String> {
    let weights: BTreeMap<_, _> = found.servers.iter().map(|(server, s)| (*server, s.weight)).collect();
    let wanted = weights_of(world, name, frontend, view);
    if weights != wanted {
        return Some(format!("{wanted:?} is wanted"));
    }
    let sticky = found.src_ip_sticky.is_none_or(|sticky| sticky == frontend.src_ip_sticky);
    (found.encap != frontend.encap || !sticky).then(|| format!("{frontend:?}"))
}

/// The weights that VPP should have.
fn weights_of(world: &World, name: &Name, frontend: &Frontend, view: &View) -> BTreeMap<IpAddr, u8> {
    let mut members = Vec::new();
    for pool in &frontend.pools {
        for (backend, configured) in &pool.backends {
            let path = (name.clone(), pool.name.clone(), backend.clone());
            let weight = world.wishes.weight(&path).unwrap_or(*configured);
            members.push((&pool.name, backend, weight, health_of(view, backend) == Health::Up));
        }
    }
    let divides_all = |d: &u8| members.iter().all(|(_, _, weight, _)| weight % d == 0);
    let divisor = (1..=100).rev().find(divides_all).unwrap();
    let serving = members.iter().find(|(_, _, weight, up)| *up && *weight > 0).map(|(pool, ..)| *pool);
    let weight = |(pool, backend, weight, up): &(&Name, &Name, u8, bool)| {
        let serves = *up && serving == Some(*pool);
        (world.config.backends[*backend].address, if serves { weight / divisor } else { 0 })
    };
    members.iter().map(weight).collect()
}

fn health_of(view: &View, backend: &Name) -> Health {
    view.backends.iter().find(|b| b.name == *backend).unwrap().health
}

/// The frontend that a VIP belongs to.
pub fn frontend_of<'a>(config: &'a Config, vip: &VipKey) -> Option<&'a Name> {
    config.frontends.iter().find(|(_, f)| f.vip == *vip).map(|(name, _)| name)
}

/// Whether a VIP must not lose its last weight on the way through a run: it is to have some in the end.
pub fn keeps_weight(run: &VipPlan, config: &Config, view: &View, vpp: &Vpp) -> bool {
    let wants_weight = |f: &&FrontendView| {
        f.startup_done && f.pools.iter().flat_map(|p| &p.backends).any(|member| member.effective > 0)
    };
    let Some(name) = frontend_of(config, &run.vip) else { return false };
    let mut servers = vpp.vips.get(&run.vip).map(|v| v.servers.clone()).unwrap_or_default();
    for step in &run.steps {
        match step {
            Step::AddAs { server, weight } | Step::SetWeight { server, to: weight, .. } => {
                servers.entry(*server).or_default().weight = *weight;
            }
            Step::RemoveAs { server } => _ = servers.remove(server),
            Step::CreateVip { .. } | Step::RemoveVip => return false,
        }
    }
    view.frontends.iter().filter(|f| f.name == *name).any(|f| wants_weight(&f))
        || servers.values().any(|s| s.weight > 0)
}

/// The backends of which a new configuration says nothing new.
pub fn unaffected(old: &Config, new: &Config) -> BTreeSet<Name> {
    let settings = |config: &Config, backend: &Backend| {
        let healthcheck = backend.healthcheck.as_ref();
        (backend.address, healthcheck.map(|h| Healthcheck::clone(&config.healthchecks[h])))
    };
    let same = |(name, backend): &(&Name, &Backend)| {
        new.backends.get(*name).is_some_and(|b| settings(new, b) == settings(old, backend))
    };
    old.backends.iter().filter(same).map(|(name, _)| name.clone()).collect()
}

/// Whether a new configuration says nothing new of a VIP and of the backends behind it.
pub fn untouched(vip: &VipKey, old: &Config, new: &Config, (before, after): (&View, &View)) -> bool {
    let Some(name) = frontend_of(old, vip) else { return false };
    let unaffected = unaffected(old, new);
    let same = |backend: &Name| {
        unaffected.contains(backend) && health_of(before, backend) == health_of(after, backend)
    };
    old.frontends.get(name) == new.frontends.get(name)
        && old.frontends[name].pools.iter().flat_map(|p| p.backends.keys()).all(same)
}
