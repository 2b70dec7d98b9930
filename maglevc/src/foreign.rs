//! Words of HAProxy, FRR, BIRD, VPP and systemd, with the command here for each.

/// Matches any word.
const ANY: &str = "*";

/// Words of another program, and the commands here that do the same.
struct ForeignWords {
    words: &'static [&'static str],
    here: &'static [&'static str],
}

const DRAIN: &[&str] = &["set backend BACKEND pause", "set frontend F pool P backend B weight 0"];
const TRAFFIC: &[&str] = &["show backends", "show vpp lb counters"];
const SERVER: &[&str] = &["set backend BACKEND disable", "set backend BACKEND enable"];

static FOREIGN: &[ForeignWords] = &[
    // HAProxy
    foreign(&["drain"], DRAIN),
    foreign(&["maint"], &["set backend BACKEND disable"]),
    foreign(&["ready"], &["set backend BACKEND enable", "set backend BACKEND resume"]),
    foreign(&["disable"], &["set backend BACKEND disable"]),
    foreign(&["enable"], &["set backend BACKEND enable"]),
    foreign(&["pause"], &["set backend BACKEND pause"]),
    foreign(&["resume"], &["set backend BACKEND resume"]),
    foreign(&["set", "server"], SERVER),
    foreign(&["set", "server", ANY, "state", "drain"], DRAIN),
    foreign(&["set", "server", ANY, "weight"], &["set frontend F pool P backend B weight 50"]),
    foreign(&["set", "weight"], &["set frontend F pool P backend B weight 50"]),
    foreign(&["set", "backend", ANY, "drain"], DRAIN),
    foreign(&["set", "backend", ANY, "maint"], &["set backend BACKEND disable"]),
    foreign(&["set", "backend", ANY, "ready"], &["set backend BACKEND enable", "set backend BACKEND resume"]),
    foreign(&["set", "backend", ANY, "down"], &["set backend BACKEND disable"]),
    foreign(&["set", "backend", ANY, "up"], &["set backend BACKEND enable"]),
    foreign(&["set", "backend", ANY, "state"], SERVER),
    foreign(&["set", "backend", ANY, "state", "drain"], DRAIN),
    foreign(&["set", "backend", ANY, "weight"], &["set frontend F pool P backend B weight 50"]),
    foreign(&["weight"], &["set frontend F pool P backend B weight 50"]),
    foreign(&["show", "stat"], TRAFFIC),
    foreign(&["show", "stats"], TRAFFIC),
    foreign(&["show", "servers"], &["show backends"]),
    foreign(&["show", "pools"], &["show frontends FRONTEND"]),
    foreign(&["show", "checks"], &["show healthchecks"]),
    foreign(&["show", "info"], &["show version", "show vpp info"]),
    // VPP
    foreign(&["show", "lb", "vips"], &["show vpp lb state"]),
    foreign(&["show", "lb"], &["show vpp lb state", "show vpp lb counters"]),
    foreign(&["lb"], &["show vpp lb state"]),
    // FRR and BIRD
    foreign(&["show", "status"], &["show frontends", "show backends"]),
    foreign(&["show", "running-config"], &["config check", "show overrides"]),
    foreign(&["show", "run"], &["config check", "show overrides"]),
    foreign(&["show", "config"], &["config check", "show overrides"]),
    foreign(&["show", "log"], &["watch events log"]),
    foreign(&["show", "events"], &["watch events"]),
    foreign(&["configure"], &["config check plan", "config reload"]),
    foreign(&["conf", "t"], &["set backend BACKEND disable"]),
    foreign(&["no"], &["unset frontend F pool P backend B weight", "set backend BACKEND enable"]),
    foreign(&["end"], &["quit"]),
    foreign(&["logout"], &["quit"]),
    // systemd, and others
    foreign(&["status"], &["show frontends", "show backends"]),
    foreign(&["reload"], &["config reload"]),
    foreign(&["check"], &["config check"]),
    foreign(&["events"], &["watch events"]),
    foreign(&["monitor"], &["watch events"]),
    foreign(&["log"], &["watch events log"]),
    foreign(&["version"], &["show version"]),
    foreign(&["list"], &["show backends"]),
];

const fn foreign(words: &'static [&'static str], here: &'static [&'static str]) -> ForeignWords {
    ForeignWords { words, here }
}

/// Returns the commands that do what another program's words do. The last of those words is the one at `wrong`.
pub fn translate<S: AsRef<str>>(words: &[S], wrong: usize) -> Option<String> {
    let is_given = |foreign: &&ForeignWords| {
        let mut pairs = foreign.words.iter().zip(words);
        pairs.all(|(word, given)| *word == ANY || given.as_ref().eq_ignore_ascii_case(word))
    };
    let known = FOREIGN.iter().filter(|foreign| (wrong..=words.len()).contains(&(foreign.words.len() - 1)));
    let known = known.filter(|foreign| foreign.words.len() <= words.len());
    known.filter(is_given).max_by_key(|foreign| foreign.words.len()).map(|foreign| foreign.here.join("; or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::parse;

    #[test]
    fn translations_are_commands() {
        for ForeignWords { words, here } in FOREIGN {
            for line in *here {
                let line: Vec<&str> = line.split(' ').collect();
                assert!(parse(&line).is_ok(), "{line:?}");
            }
            let words: Vec<&str> = words.iter().map(|word| if *word == ANY { "web" } else { word }).collect();
            for line in [words.clone(), [&["help"], &*words].concat()] {
                let said = parse(&line).unwrap_err().text;
                assert!(said.ends_with(&here.join("; or ")), "{line:?}: {said}");
            }
        }
    }

    #[test]
    fn longest_known_words_are_translated() {
        let drain = translate(&["set", "server", "web/a", "state", "drain"], 1);
        assert_eq!(
            drain.as_deref(),
            Some("set backend BACKEND pause; or set frontend F pool P backend B weight 0")
        );
    }

    #[test]
    fn only_wrong_words_are_translated() {
        assert_eq!(translate(&["reload"], 0).as_deref(), Some("config reload"));
        assert_eq!(translate(&["SHOW", "LB", "vips", "verbose"], 1).as_deref(), Some("show vpp lb state"));
        assert_eq!(
            translate(&["show", "lb", "vip"], 1).as_deref(),
            Some("show vpp lb state; or show vpp lb counters")
        );
        assert_eq!(translate(&["reload", "x"], 1), None);
        assert_eq!(translate(&["set", "backend", "drain"], 3), None);
    }
}
