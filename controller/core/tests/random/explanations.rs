//! Explanations agree with the view.

use maglev_core::failover::{FailoverMember, decide};
use maglev_core::health::Health;
use maglev_core::state::{ExplanationLine, Topic};
use maglev_core::view::{BackendView, FrontendView, MemberView, View};

use crate::world::RandomWorld;

/// Checks every explanation against the view.
pub fn check_explanations(world: &RandomWorld) {
    let view = world.view();
    for backend in &view.backends {
        let lines = world.explain_backend(&backend.name).unwrap();
        check_backend(backend, &view, &lines);
    }
    for frontend in &view.frontends {
        let lines = world.explain_frontend(&frontend.name).unwrap();
        check_frontend(frontend, &view, &lines);
        let vip = world.config.frontends[&frontend.name].vip;
        let at_work = lines.iter().any(|reason| reason.text.contains("VPP is applying steps"));
        assert!(!at_work || world.vpp.is_busy(&vip), "no job is in flight: {lines:?}");
    }
    assert_eq!((world.explain_backend("missing"), world.explain_frontend("missing")), (None, None));
}

fn check_backend(backend: &BackendView, view: &View, lines: &[ExplanationLine]) {
    assert!(lines[0].text.starts_with(&format!("{} is {}", backend.name, backend.health)), "{lines:?}");
    assert!(lines.iter().all(|reason| !reason.text.is_empty()), "{lines:?}");
    let (mut weights, mut in_vpp) = (texts(lines, Topic::Weight), texts(lines, Topic::Vpp));
    let mut agrees = view.vpp.actual.is_some();
    for frontend in &view.frontends {
        let Some((pool, member)) = member_of(frontend, backend) else { continue };
        let start = format!("{} in {}, pool {pool}: ", member.effective, frontend.name);
        assert!(weights.next().is_some_and(|line| line.starts_with(&start)), "{start}: {lines:?}");
        if let Some(actual) = member.in_vpp {
            let start = format!("{}: weight {actual}", frontend.name);
            assert!(
                view.vpp.actual.is_none() || in_vpp.next().is_some_and(|l| l.starts_with(&start)),
                "{lines:?}"
            );
        } else if view.vpp.actual.is_some() {
            let start = format!("{}: not", frontend.name);
            assert!(in_vpp.next().is_some_and(|line| line.starts_with(&start)), "{lines:?}");
        }
        check_prediction(frontend, member, lines);
        agrees &= member.in_vpp == Some(wanted_in_vpp(view, frontend, member));
    }
    assert_eq!(weights.next(), None, "{lines:?}");
    let used = view.frontends.iter().any(|f| member_of(f, backend).is_some());
    assert_eq!(lines[0].text.contains("; VPP "), used && !agrees, "{lines:?}");
    let says = |topic, part| texts(lines, topic).any(|line| line.contains(part));
    assert_eq!(says(Topic::Operator, "resume` ends that"), backend.health == Health::Paused, "{lines:?}");
    let out =
        says(Topic::Operator, "disabled by") || says(Topic::State, "the configuration has `enabled: false`");
    assert_eq!(out, backend.health == Health::Disabled, "{lines:?}");
    let overrides = view.overrides.of_backend(&backend.name).count();
    assert_eq!(texts(lines, Topic::Operator).count(), overrides, "{lines:?}");
}

/// Checks the predicted weight of a backend that comes up.
fn check_prediction(frontend: &FrontendView, member: &MemberView, lines: &[ExplanationLine]) {
    if member.health == Health::Up || member.weight == 0 {
        return;
    }
    let pools = frontend.pools.iter().enumerate();
    let members = pools.flat_map(|(pool, p)| p.backends.iter().map(move |m| (pool, m))).map(|(pool, m)| {
        let health = if m.name == member.name { Health::Up } else { m.health };
        (
            m.name == member.name,
            FailoverMember { pool, health, weight: m.weight, keeps_weight: m.effective > 0 },
        )
    });
    let (is_it, mut members): (Vec<_>, Vec<_>) = members.unzip();
    let mut all = frontend.pools.iter().flat_map(|pool| &pool.backends);
    if let Some(pool) = frontend.active_pool.filter(|_| all.all(|m| m.effective == 0)) {
        // Only leaving servers serve. They stay while a backend before this one is unknown, if they were before it as well.
        let at = is_it.iter().position(|it| *it).unwrap();
        let pool_of_it = members[at].pool;
        let is_undecided =
            |m: &FailoverMember| m.pool < pool_of_it && m.health == Health::Unknown && m.weight > 0;
        if pool < pool_of_it && members.iter().any(is_undecided) {
            members.push(FailoverMember { pool, health: Health::Up, weight: 1, keeps_weight: true });
        }
    }
    // A hold that follows health waits for no unknown backend, and has no latest end.
    let held = format!("{} is held for ", frontend.name);
    let is_hold = |line: &&str| line.starts_with(&held);
    let follows = texts(lines, Topic::Startup).filter(is_hold).any(|line| {
        let end = ["startup-min-delay", "startup-max-delay", "at the latest", "until a verdict"];
        !end.iter().any(|end| line.contains(end))
    });
    let leaves = frontend.warnings.iter().any(|warning| warning.contains("servers that left"));
    let waits = !frontend.startup_done && !leaves && !follows;
    let weights = decide(&members, waits).weights;
    let at = is_it.iter().position(|it| *it).unwrap();
    let prediction = if weights[at] > 0 { "once up it has" } else { "once up it stands by with" };
    let line = |reason: &ExplanationLine| {
        reason.topic == Topic::Weight
            && reason.text.contains(&format!(" in {}, ", frontend.name))
            && reason.text.contains(&format!("{prediction} {}", member.weight))
    };
    assert!(lines.iter().any(line), "{prediction}: {lines:?}");
}

fn check_frontend(frontend: &FrontendView, view: &View, lines: &[ExplanationLine]) {
    assert!(
        lines[0].text.starts_with(&format!("{} is {}, for ", frontend.name, frontend.state)),
        "{lines:?}"
    );
    let mut weights = texts(lines, Topic::Weight);
    for (index, (pool, line)) in frontend.pools.iter().zip(texts(lines, Topic::Pool)).enumerate() {
        let serves = line.starts_with(&format!("{} serves: ", pool.name));
        assert_eq!(serves, frontend.active_pool == Some(index), "{lines:?}");
        for member in &pool.backends {
            let start = format!("{} for {} of {}: ", member.effective, member.name, pool.name);
            let line = weights.next().unwrap();
            assert!(line.starts_with(&start), "{start}: {lines:?}");
            if let Some(actual) = member.in_vpp {
                assert!(line.contains(&format!("; VPP: weight {actual}")), "{lines:?}");
            }
        }
    }
    assert_eq!(texts(lines, Topic::Startup).next().is_some(), !frontend.startup_done, "{lines:?}");
    let there = texts(lines, Topic::Vpp).any(|line| line.contains(" is there: "));
    let has_vip = |vip| view.vpp.actual.as_ref().is_some_and(|actual| actual.vips.contains_key(vip));
    assert_eq!(there, has_vip(&view.config.frontends[&frontend.name].vip), "{lines:?}");
}

fn texts(lines: &[ExplanationLine], topic: Topic) -> impl Iterator<Item = &str> {
    lines.iter().filter(move |reason| reason.topic == topic).map(|reason| reason.text.as_str())
}

fn member_of<'a>(frontend: &'a FrontendView, backend: &BackendView) -> Option<(&'a str, &'a MemberView)> {
    let members = frontend.pools.iter().flat_map(|p| p.backends.iter().map(move |m| (&*p.name, m)));
    members.into_iter().find(|(_, member)| member.name == backend.name)
}

/// Returns the weight that VPP is to have for a member.
fn wanted_in_vpp(view: &View, frontend: &FrontendView, member: &MemberView) -> u8 {
    let pools = &view.config.frontends[&frontend.name].pools;
    let pool = pools.iter().find(|pool| pool.backends.contains_key(&member.name)).unwrap();
    crate::oracle::units(member.effective, crate::oracle::has_exact_weights(pool))
}
