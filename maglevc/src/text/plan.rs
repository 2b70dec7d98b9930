//! Plans and configuration errors for people.

use std::fmt::Write;
use std::time::Duration;

use maglev_proto::v1::{CheckConfigResponse, ConfigFault, Plan, ReloadConfigResponse, VipPlan};
use maglev_time::TextDuration;

use crate::screen::{Screen, TextStyle, printable};
use crate::words;

/// Formats the result of a sync with VPP.
pub fn synced(plan: &Plan, dry_run: bool, screen: Screen) -> String {
    match (is_empty(plan), dry_run) {
        (true, _) => notes(plan, screen) + "VPP has all that it should have\n",
        (false, true) => steps(plan, screen) + "nothing was written\n",
        (false, false) => steps(plan, screen),
    }
}

/// Formats the result of a check of the configuration file.
pub fn checked(answer: &CheckConfigResponse, screen: Screen) -> String {
    match (&answer.fault, &answer.plan) {
        (Some(fault), _) => lines(fault, screen),
        (None, None) => "the configuration is valid\n".into(),
        (None, Some(plan)) if is_empty(plan) => {
            let soon = if plan.notes.is_empty() { "" } else { " at once" };
            format!(
                "the configuration is valid; a reload writes nothing to VPP{soon}\n{}",
                notes(plan, screen)
            )
        }
        (None, Some(plan)) => {
            format!("the configuration is valid; a reload does this to VPP:\n{}", steps(plan, screen))
        }
    }
}

/// Formats the result of a reload.
pub fn reloaded(answer: &ReloadConfigResponse, screen: Screen) -> String {
    match &answer.fault {
        None => format!("{}reloaded\n", remarks("warning", &answer.warnings, screen)),
        Some(fault) => format!("{}not reloaded: the configuration in force stays\n", lines(fault, screen)),
    }
}

const fn is_empty(plan: &Plan) -> bool {
    !plan.updates_global_conf && plan.vips.is_empty()
}

fn steps(plan: &Plan, screen: Screen) -> String {
    let mut text = String::new();
    if plan.updates_global_conf {
        text.push_str("global settings: send\n");
    }
    for vip in &plan.vips {
        text.push_str(&vip_steps(vip, screen));
    }
    text + &notes(plan, screen)
}

fn notes(plan: &Plan, screen: Screen) -> String {
    remarks("note", &plan.notes, screen) + &reading_age(plan)
}

/// Formats the age of the reading, unless it is that of this call.
fn reading_age(plan: &Plan) -> String {
    let age = plan.reading_age.and_then(|age| Duration::try_from(age).ok()).map_or(0, |age| age.as_secs());
    match age {
        0 => String::new(),
        age => format!("as VPP was {} ago\n", TextDuration(Duration::from_secs(age))),
    }
}

/// Formats sentences, one per line.
fn remarks(word: &str, sentences: &[String], screen: Screen) -> String {
    let line = |sentence: &String| {
        format!("{} {}\n", screen.apply(TextStyle::Odd, &format!("{word}:")), printable(sentence))
    };
    sentences.iter().map(line).collect()
}

fn vip_steps(vip: &VipPlan, screen: Screen) -> String {
    let mut text = printable(&words::vip(vip.vip.as_ref())).into_owned();
    // Writing to a string cannot fail.
    let _ = match vip.frontend.as_str() {
        "" => write!(text, ": no frontend"),
        frontend => write!(text, ": frontend {}", printable(frontend)),
    };
    if let Some(moved) = vip.new_flows_moved {
        let _ = write!(text, ", {:.1}% of new flows move", moved * 100.0);
    }
    if let Some(flushed) = vip.flows_flushed {
        let _ = write!(text, ", {flushed} flows flushed");
    }
    if vip.recreates_vip {
        let _ = write!(text, ", {}", screen.apply(TextStyle::Bad, "recreated: all its flows break"));
    }
    text.push('\n');
    for step in &vip.steps {
        let _ = writeln!(text, "  {}", printable(step));
    }
    text
}

fn lines(fault: &ConfigFault, screen: Screen) -> String {
    let mut text = String::new();
    if !fault.parse_error.is_empty() {
        text = screen.error(&printable(&fault.parse_error)) + "\n";
    }
    for problem in &fault.problems {
        text.push_str(&screen.error(&printable(&format!("{}: {}", problem.path, problem.message))));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use maglev_proto::v1::{ConfigProblem, Vip};

    use super::*;
    use crate::screen::ColorChoice;

    fn screen() -> Screen {
        Screen::new(ColorChoice::Never, false)
    }

    fn plan() -> Plan {
        let vip = |port| Some(Vip { prefix: "192.0.2.1".into(), protocol: "tcp".into(), port });
        let steps = |steps: &[&str]| steps.iter().map(ToString::to_string).collect();
        let set = VipPlan {
            vip: vip(80),
            frontend: "web".into(),
            steps: steps(&["set 192.0.2.11 weight 3 -> 1"]),
            new_flows_moved: Some(0.254),
            flows_flushed: Some(17),
            recreates_vip: false,
        };
        let reset = VipPlan {
            vip: vip(443),
            frontend: "tls".into(),
            steps: steps(&["remove vip", "create vip gre4 table 1024"]),
            new_flows_moved: Some(0.0),
            flows_flushed: Some(0),
            recreates_vip: true,
        };
        let gone = VipPlan {
            vip: vip(8080),
            frontend: String::new(),
            steps: steps(&["remove vip"]),
            new_flows_moved: None,
            flows_flushed: None,
            recreates_vip: false,
        };
        let notes = vec!["VIPs of no frontend that stay in VPP: 192.0.2.9".to_owned()];
        let reading_age = Some(maglev_proto::Duration { seconds: 3, nanos: 700_000_000 });
        Plan { updates_global_conf: true, vips: vec![set, reset, gone], notes, reading_age }
    }

    #[test]
    fn plan_shows_steps_and_broken_flows() {
        assert_eq!(
            synced(&plan(), true, screen()),
            "\
global settings: send
192.0.2.1 tcp/80: frontend web, 25.4% of new flows move, 17 flows flushed
  set 192.0.2.11 weight 3 -> 1
192.0.2.1 tcp/443: frontend tls, 0.0% of new flows move, 0 flows flushed, recreated: all its flows break
  remove vip
  create vip gre4 table 1024
192.0.2.1 tcp/8080: no frontend
  remove vip
note: VIPs of no frontend that stay in VPP: 192.0.2.9
as VPP was 3s ago
nothing was written
"
        );
        assert_eq!(synced(&Plan::default(), false, screen()), "VPP has all that it should have\n");
    }

    #[test]
    fn each_problem_has_one_line() {
        let problem =
            |path: &str, message: &str| ConfigProblem { path: path.into(), message: message.into() };
        let fault = ConfigFault {
            parse_error: String::new(),
            problems: vec![problem("maglev.a", "is wrong"), problem("maglev.b", "is worse")],
        };
        assert_eq!(
            reloaded(&ReloadConfigResponse { fault: Some(fault.clone()), warnings: Vec::new() }, screen()),
            "maglev.a: is wrong\nmaglev.b: is worse\nnot reloaded: the configuration in force stays\n"
        );
        let answer = CheckConfigResponse { fault: Some(fault), plan: None };
        assert_eq!(checked(&answer, screen()), "maglev.a: is wrong\nmaglev.b: is worse\n");
        assert_eq!(checked(&CheckConfigResponse::default(), screen()), "the configuration is valid\n");
    }
}
