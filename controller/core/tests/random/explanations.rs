//! What operators are told when they ask why: it is what is shown, and nothing in it contradicts what is so.

use maglev_core::failover::{PoolMember, decide};
use maglev_core::health::Health;
use maglev_core::state::{ExplanationLine, Topic};
use maglev_core::view::{BackendView, FrontendView, MemberView, View};

use crate::world::World;

/// Every explanation agrees with the view.
pub fn agree(world: &World) {
    let view = world.view();
    for backend in &view.backends {
        let told = world.explain_backend(&backend.name).unwrap();
        backend_agrees(backend, &view, &told);
    }
    for frontend in &view.frontends {
        let told = world.explain_frontend(&frontend.name).unwrap();
        frontend_agrees(frontend, &view, &told);
        let vip = world.config.frontends[&frontend.name].vip;
        let at_work = told.iter().any(|reason| reason.text.contains("VPP is at work"));
        assert!(!at_work || world.vpp.works_on(&vip), "nothing is under way: {told:?}");
    }
    assert_eq!((world.explain_backend("nobody"), world.explain_frontend("nobody")), (None, None));
}

fn backend_agrees(backend: &BackendView, view: &View, told: &[ExplanationLine]) {
    assert!(told[0].text.starts_with(&format!("{} is {}", backend.name, backend.health)), "{told:?}");
    assert!(told.iter().all(|reason| !reason.text.is_empty()), "{told:?}");
    let (mut weights, mut in_vpp) = (lines(told, Topic::Weight), lines(told, Topic::Vpp));
    let mut agrees = view.vpp.actual.is_some();
    for frontend in &view.frontends {
        let Some((pool, member)) = member_of(frontend, backend) else { continue };
        let start = format!("{} in {}, pool {pool}: ", member.effective, frontend.name);
        assert!(weights.next().is_some_and(|line| line.starts_with(&start)), "{start}: {told:?}");
        if let Some(actual) = member.in_vpp {
            let start = format!("{}: weight {actual}", frontend.name);
            assert!(
                view.vpp.actual.is_none() || in_vpp.next().is_some_and(|l| l.starts_with(&start)),
                "{told:?}"
            );
        } else if view.vpp.actual.is_some() {
            let start = format!("{}: not", frontend.name);
            assert!(in_vpp.next().is_some_and(|line| line.starts_with(&start)), "{told:?}");
        }
        foretells(frontend, member, told);
        agrees &= member.in_vpp == Some(member.effective / divisor(frontend));
    }
    assert_eq!(weights.next(), None, "{told:?}");
    let used = view.frontends.iter().any(|f| member_of(f, backend).is_some());
    assert_eq!(told[0].text.contains("; VPP "), used && !agrees, "{told:?}");
    let says = |topic, part| lines(told, topic).any(|line| line.contains(part));
    assert_eq!(says(Topic::Operator, "resume` ends that"), backend.health == Health::Paused, "{told:?}");
    let out =
        says(Topic::Operator, "disabled by") || says(Topic::State, "the configuration has `enabled: false`");
    assert_eq!(out, backend.health == Health::Disabled, "{told:?}");
    let overrides = view.overrides.of_backend(&backend.name).count();
    assert_eq!(lines(told, Topic::Operator).count(), overrides, "{told:?}");
}

/// What is said to follow once a backend is up would follow.
fn foretells(frontend: &FrontendView, member: &MemberView, told: &[ExplanationLine]) {
    if member.health == Health::Up || member.weight == 0 {
        return;
    }
    let pools = frontend.pools.iter().enumerate();
    let members = pools.flat_map(|(pool, p)| p.backends.iter().map(move |m| (pool, m))).map(|(pool, m)| {
        let health = if m.name == member.name { Health::Up } else { m.health };
        (m.name == member.name, PoolMember { pool, health, weight: m.weight })
    });
    let (is_it, members): (Vec<_>, Vec<_>) = members.unzip();
    let weights = decide(&members, !frontend.startup_done).weights;
    let at = is_it.iter().position(|it| *it).unwrap();
    let foretold = if weights[at] > 0 { "once up it has" } else { "once up it stands by with" };
    let line = |reason: &ExplanationLine| {
        reason.topic == Topic::Weight
            && reason.text.contains(&format!(" in {}, ", frontend.name))
            && reason.text.contains(&format!("{foretold} {}", member.weight))
    };
    assert!(told.iter().any(line), "{foretold}: {told:?}");
}

fn frontend_agrees(frontend: &FrontendView, view: &View, told: &[ExplanationLine]) {
    assert!(told[0].text.starts_with(&format!("{} is {}, for ", frontend.name, frontend.state)), "{told:?}");
    let mut weights = lines(told, Topic::Weight);
    for (index, (pool, line)) in frontend.pools.iter().zip(lines(told, Topic::Pool)).enumerate() {
        let serves = line.starts_with(&format!("{} serves: ", pool.name));
        assert_eq!(serves, frontend.active_pool == Some(index), "{told:?}");
        for member in &pool.backends {
            let start = format!("{} for {} of {}: ", member.effective, member.name, pool.name);
            let line = weights.next().unwrap();
            assert!(line.starts_with(&start), "{start}: {told:?}");
            if let Some(actual) = member.in_vpp {
                assert!(line.contains(&format!("; VPP: weight {actual}")), "{told:?}");
            }
        }
    }
    assert_eq!(lines(told, Topic::Startup).next().is_some(), !frontend.startup_done, "{told:?}");
    let there = lines(told, Topic::Vpp).any(|line| line.contains(" is there: "));
    let has_vip = |vip| view.vpp.actual.as_ref().is_some_and(|actual| actual.vips.contains_key(vip));
    assert_eq!(there, has_vip(&view.config.frontends[&frontend.name].vip), "{told:?}");
}

fn lines(told: &[ExplanationLine], topic: Topic) -> impl Iterator<Item = &str> {
    told.iter().filter(move |reason| reason.topic == topic).map(|reason| reason.text.as_str())
}

fn member_of<'a>(frontend: &'a FrontendView, backend: &BackendView) -> Option<(&'a str, &'a MemberView)> {
    let members = frontend.pools.iter().flat_map(|p| p.backends.iter().map(move |m| (&*p.name, m)));
    members.into_iter().find(|(_, member)| member.name == backend.name)
}

/// What the weights sent to VPP are divided by.
fn divisor(frontend: &FrontendView) -> u8 {
    let weights = || frontend.pools.iter().flat_map(|p| &p.backends).map(|member| member.weight);
    (1..=100).rev().find(|d| weights().all(|weight| weight % d == 0)).unwrap()
}
