//! Oracle for VPP's state, computed independently from the configuration, the displayed health and the overrides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use maglev_core::Name;
use maglev_core::config::{Backend, Config, ForeignVips, Frontend, Healthcheck, Pool};
use maglev_core::dataplane::{Step, VipKey, VipPlan};
use maglev_core::health::Health;
use maglev_core::view::{FrontendView, View};

use crate::vpp::{VipModel, VppModel, is_foreign};
use crate::world::RandomWorld;

/// Checks that VPP has the desired state.
pub fn check_converged(world: &RandomWorld) {
    let (vpp, config, view) = (&world.vpp, &world.config, world.view());
    // Without a frontend the global settings are not managed.
    assert!(vpp.conf == config.lb.conf || config.frontends.is_empty());
    let keeps_foreign = config.lb.foreign_vips == ForeignVips::Keep;
    for vip in vpp.vips.keys() {
        let foreign = is_foreign(vip) || world.foreign_vips.contains(vip);
        assert!(frontend_of(config, vip).is_some() || foreign && keeps_foreign, "{vip} is still there");
    }
    for (name, frontend) in &config.frontends {
        let Some(found) = vpp.vips.get(&frontend.vip) else {
            assert!(vpp.refuses(&frontend.vip, frontend.encap).is_some(), "{name} is not there");
            continue;
        };
        let shown = view.frontends.iter().find(|f| f.name == *name).unwrap();
        let has_backends = frontend.pools.iter().any(|p| !p.backends.is_empty());
        assert!(shown.startup_done || !has_backends, "{name} is held");
        if let Some(problem) = difference(world, name, frontend, found, &view) {
            panic!("{name}: {problem}: {found:?}");
        }
    }
}

/// Returns the VIPs in the desired state without a job.
pub fn settled_vips(world: &RandomWorld, view: &View) -> BTreeSet<VipKey> {
    let vpp = &world.vpp;
    let right = |(name, frontend): &(&Name, &Arc<Frontend>)| {
        let shown = view.frontends.iter().find(|f| f.name == **name).unwrap();
        let vip = frontend.vip;
        shown.startup_done
            && !vpp.is_busy(&vip)
            && !vpp.edited.contains(&vip.address)
            && vpp
                .vips
                .get(&vip)
                .is_some_and(|found| difference(world, name, frontend, found, view).is_none())
    };
    world.config.frontends.iter().filter(right).map(|(_, f)| f.vip).collect()
}

fn difference(
    world: &RandomWorld,
    name: &Name,
    frontend: &Frontend,
    found: &VipModel,
    view: &View,
) -> Option<String> {
    let weights: BTreeMap<_, _> = found.servers.iter().map(|(server, s)| (*server, s.weight)).collect();
    let wanted = weights_of(world, name, frontend, view);
    if weights != wanted {
        return Some(format!("{wanted:?} is wanted"));
    }
    let sticky = found.src_ip_sticky.is_none_or(|sticky| sticky == frontend.src_ip_sticky);
    (found.encap != frontend.encap || !sticky).then(|| format!("{frontend:?}"))
}

/// Returns the desired weights.
fn weights_of(world: &RandomWorld, name: &Name, frontend: &Frontend, view: &View) -> BTreeMap<IpAddr, u8> {
    let mut members = Vec::new();
    for pool in &frontend.pools {
        for (backend, configured) in &pool.backends {
            let path = (name.clone(), pool.name.clone(), backend.clone());
            let weight = world.expected.weight(&path).unwrap_or(*configured);
            members.push((&pool.name, backend, weight, health_of(view, backend) == Health::Up));
        }
    }
    let serving = members.iter().find(|(_, _, weight, up)| *up && *weight > 0).map(|(pool, ..)| *pool);
    let weight = |(pool, backend, weight, up): &(&Name, &Name, u8, bool)| {
        let serves = *up && serving == Some(*pool);
        let exact = frontend.pools.iter().find(|p| p.name == **pool).is_some_and(has_exact_weights);
        (world.config.backends[*backend].address, if serves { units(*weight, exact) } else { 0 })
    };
    members.iter().map(weight).collect()
}

/// Reports whether VPP gets the weights of a pool as they are.
pub fn has_exact_weights(pool: &Pool) -> bool {
    let weights = pool.backends.values();
    weights.clone().all(|weight| *weight <= 20)
        || weights.clone().any(|weight| matches!(weight, 1..=4 | 7 | 8))
}

/// Returns the weight in VPP for one that serves.
pub fn units(weight: u8, exact: bool) -> u8 {
    match weight {
        _ if exact => weight,
        0 => 0,
        1..=7 => 1,
        _ => (weight + 2) / 5,
    }
}

fn health_of(view: &View, backend: &Name) -> Health {
    view.backends.iter().find(|b| b.name == *backend).unwrap().health
}

/// Returns the frontend of a VIP.
pub fn frontend_of<'a>(config: &'a Config, vip: &VipKey) -> Option<&'a Name> {
    config.frontends.iter().find(|(_, f)| f.vip == *vip).map(|(name, _)| name)
}

/// Reports whether a VIP must keep some weight at each step of a plan, as it has some after the plan.
pub fn keeps_weight(plan: &VipPlan, config: &Config, view: &View, vpp: &VppModel) -> bool {
    let wants_weight = |f: &&FrontendView| {
        f.startup_done && f.pools.iter().flat_map(|p| &p.backends).any(|member| member.effective > 0)
    };
    let Some(name) = frontend_of(config, &plan.vip) else { return false };
    let mut servers = vpp.vips.get(&plan.vip).map(|v| v.servers.clone()).unwrap_or_default();
    for step in &plan.steps {
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

/// Returns the backends that a new configuration does not change.
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

/// Reports whether a new configuration changes neither a VIP nor its backends.
pub fn untouched(vip: &VipKey, old: &Config, new: &Config, (before, after): (&View, &View)) -> bool {
    let Some(name) = frontend_of(old, vip) else { return false };
    let unaffected = unaffected(old, new);
    let same = |backend: &Name| {
        unaffected.contains(backend) && health_of(before, backend) == health_of(after, backend)
    };
    old.frontends.get(name) == new.frontends.get(name)
        && old.frontends[name].pools.iter().flat_map(|p| p.backends.keys()).all(same)
}
