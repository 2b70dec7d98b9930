//! Regular expressions over the bodies of HTTP responses. The check of the configuration and the prober compile them with one
//! function, so the prober accepts each expression that the check accepts.
//!
//! An expression becomes a deterministic automaton before it is used. A match then takes one look-up in a table for each byte,
//! for any expression and any body: a hostile server cannot keep the prober busy. It takes the bytes as they arrive, so the
//! body is not kept.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::look::{Look, LookSet};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::ast::{self, Ast, Flag};
use regex_syntax::hir::Hir;
use regex_syntax::hir::translate::TranslatorBuilder;

use crate::check::MAX_REGEXP;

/// Largest automaton, in bytes. It bounds the memory, and with it the time to compile: some 20 ms.
pub const MAX_AUTOMATON: usize = 128 * 1024;
/// Largest number of different expressions in one configuration.
pub const MAX_REGEXPS: usize = 512;
/// Deepest nesting of groups and repetitions.
const MAX_DEPTH: u32 = 50;

/// A compiled regular expression.
#[derive(Debug)]
pub struct BodyRegexp {
    automaton: dense::DFA<Vec<u32>>,
    start: StateID,
    /// True if a match may depend on the byte after it, as with `$` and `\b`.
    looks_ahead: bool,
}

/// State of a match after a part of a body.
#[derive(Clone, Copy, Debug)]
pub struct MatchState {
    state: StateID,
    /// True if the automaton has reported a match, which it does one byte late.
    is_matched: bool,
}

impl BodyRegexp {
    /// Returns the state at the beginning of a body.
    #[must_use]
    pub const fn begin(&self) -> MatchState {
        MatchState { state: self.start, is_matched: false }
    }

    /// Takes the next bytes of a body.
    pub fn feed(&self, at: &mut MatchState, bytes: &[u8]) {
        for byte in bytes {
            if at.is_matched {
                return;
            }
            at.state = self.automaton.next_state(at.state, *byte);
            at.is_matched = self.automaton.is_match_state(at.state);
        }
    }

    /// Returns true if every body that begins with these bytes matches.
    #[must_use]
    pub fn is_certain(&self, at: MatchState) -> bool {
        at.is_matched || !self.looks_ahead && self.matches_at_end(at)
    }

    /// Returns true if the body matches when it ends here.
    #[must_use]
    pub fn matches_at_end(&self, at: MatchState) -> bool {
        at.is_matched || self.automaton.is_match_state(self.automaton.next_eoi_state(at.state))
    }
}

/// Compiled regular expressions: one for all checks with the same one.
#[derive(Debug)]
pub struct RegexpSet {
    by_pattern: BTreeMap<String, Arc<BodyRegexp>>,
    limit: usize,
}

impl RegexpSet {
    /// Returns an empty set for at most `limit` expressions.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { by_pattern: BTreeMap::new(), limit }
    }

    /// Returns the compiled expression.
    ///
    /// # Errors
    /// The cause: it is too long, its syntax is unknown, it is too large once compiled, or the set is full.
    pub fn compile(&mut self, pattern: &str) -> Result<Arc<BodyRegexp>, String> {
        if let Some(known) = self.by_pattern.get(pattern) {
            return Ok(known.clone());
        }
        if self.by_pattern.len() >= self.limit {
            return Err(format!("more than {} different expressions", self.limit));
        }
        let regexp = Arc::new(compile(pattern)?);
        self.by_pattern.insert(pattern.to_owned(), regexp.clone());
        Ok(regexp)
    }

    /// Forgets the expressions that only the set itself has.
    pub fn forget_unused(&mut self) {
        self.by_pattern.retain(|_, regexp| Arc::strong_count(regexp) > 1);
    }
}

/// Compiles an expression.
///
/// # Errors
/// The cause: it is too long, its syntax is unknown, or it is too large once compiled.
pub fn compile(pattern: &str) -> Result<BodyRegexp, String> {
    if pattern.len() > MAX_REGEXP {
        return Err(format!("longer than {MAX_REGEXP} bytes"));
    }
    let syntax = parse(pattern).map_err(|why| format!("not a regular expression: {why}"))?;
    let config = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(MAX_AUTOMATON))
        .which_captures(WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(&syntax).map_err(|_| too_large())?;
    let automaton = determinize(&nfa).ok_or_else(too_large)?;
    let start = automaton.start_state(&start::Config::new()).map_err(|error| error.to_string())?;
    let behind = LookSet::empty().insert(Look::Start).insert(Look::StartLF).insert(Look::StartCRLF);
    let looks_ahead = !nfa.look_set_any().subtract(behind).is_empty();
    Ok(BodyRegexp { automaton, start, looks_ahead })
}

fn determinize(nfa: &NFA) -> Option<dense::DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_AUTOMATON))
        .determinize_size_limit(Some(MAX_AUTOMATON));
    dense::Builder::new().configure(config).build_from_nfa(nfa).ok()
}

/// Parses an expression of bytes: tables of Unicode would make large automata of small expressions. Another crate of the build
/// may turn those tables on, so `(?u)` is refused rather than left to the parser.
fn parse(pattern: &str) -> Result<Hir, String> {
    let parsed = ast::parse::ParserBuilder::new().nest_limit(MAX_DEPTH).build().parse(pattern);
    let ast = parsed.map_err(|error| error.kind().to_string())?;
    ast::visit(&ast, UnicodeFlags)?;
    let mut translator = TranslatorBuilder::new().unicode(false).utf8(false).build();
    translator.translate(pattern, &ast).map_err(|error| error.kind().to_string())
}

/// Finds flags that turn Unicode on.
struct UnicodeFlags;

impl ast::Visitor for UnicodeFlags {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        let flags = match ast {
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        match flags.and_then(|flags| flags.flag_state(Flag::Unicode)) {
            Some(true) => Err("the flag u is not supported".to_owned()),
            _ => Ok(()),
        }
    }
}

fn too_large() -> String {
    format!(
        "larger than {} KiB when compiled: use * or + in place of repetitions {{n,m}}",
        MAX_AUTOMATON / 1024
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the results for a body: certain after it, and matched if it ends there.
    fn results(pattern: &str, body: &str) -> (bool, bool) {
        let regexp = compile(pattern).unwrap();
        let mut at = regexp.begin();
        regexp.feed(&mut at, body.as_bytes());
        (regexp.is_certain(at), regexp.matches_at_end(at))
    }

    #[test]
    fn large_expression_is_rejected_with_a_hint() {
        for pattern in ["UP.{0,300}db", "UP.{0,200}db.{0,200}UP", "((a{9}){9}){19}", "a{1000}{1000}"] {
            assert_eq!(compile(pattern).unwrap_err(), too_large(), "{pattern}");
        }
        // The configuration guide names some of these.
        for pattern in ["UP.*db.*UP", r#""status":.{0,20}"ok""#, "(ok|ready|up)", r"^\s*ok\s*$", ".*.*.*=.*"]
        {
            assert!(compile(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn unknown_syntax_is_rejected() {
        for pattern in ["(", "(?=x)", r"\1", r"\p{L}", "[[:alpha:]", "[é]", r"(?u)\w", "(?iu:é)"] {
            assert!(compile(pattern).unwrap_err().starts_with("not a regular expression: "), "{pattern}");
        }
        assert_eq!(compile(&"(".repeat(1000)).unwrap_err().lines().count(), 1);
        assert_eq!(compile(&"x".repeat(MAX_REGEXP + 1)).unwrap_err(), "longer than 1024 bytes");
    }

    #[test]
    fn dialect_is_that_of_the_guide() {
        for (pattern, body, matches) in [
            ("^ok$", "ok", true),
            ("^ok$", "ok\n", false),
            (r"^ok\s*$", "ok\r\n", true),
            ("(?m)^ok$", "a\nok\nb", true),
            ("a.*b", "a\nb", false),
            ("(?s)a.*b", "a\nb", true),
            ("(?i)ok", "all OK", true),
            ("(?i)É", "é", false),
            ("é", "café", true),
            ("caf(é|è)", "café", true),
            ("caf..$", "café", true),
            (r"\bready\b", "is ready.", true),
            (r"\bready\b", "already", false),
            (r"(?-u:\xff)k", "k", false),
            ("", "", true),
        ] {
            assert_eq!(results(pattern, body).1, matches, "{pattern:?} {body:?}");
        }
    }

    #[test]
    fn match_is_certain_before_the_end() {
        for (pattern, body, is_certain) in [
            ("ok", "ok", true),
            ("^ok", "ok", true),
            ("ok", "o", false),
            ("ok$", "ok", false),
            (r"ok\b", "ok", false),
            (r"ok\b", "ok.", true),
            ("^ok", "xok", false),
            ("", "", true),
        ] {
            assert_eq!(results(pattern, body).0, is_certain, "{pattern:?} {body:?}");
        }
    }

    #[test]
    fn equal_expressions_are_compiled_once() {
        let mut set = RegexpSet::new(2);
        let first = set.compile("a").unwrap();
        assert!(Arc::ptr_eq(&first, &set.compile("a").unwrap()));
        set.compile("b").unwrap();
        assert_eq!(set.compile("c").unwrap_err(), "more than 2 different expressions");
        set.forget_unused();
        assert!(set.compile("c").is_ok() && set.compile("d").is_err());
    }

    proptest! {
        #[test]
        fn certainty_is_kept_by_more_bytes(
            pattern in prop_oneof!["[ab.*^|]{0,6}", Just("ab$".into()), Just(r"\ba".into()), Just("(?m)^b$".into())],
            body in "[ab \n]{0,12}",
        ) {
            let Ok(regexp) = compile(&pattern) else { return Ok(()) };
            let mut at = regexp.begin();
            let mut was_certain = regexp.is_certain(at);
            for byte in body.as_bytes() {
                regexp.feed(&mut at, &[*byte]);
                prop_assert!(regexp.is_certain(at) || !was_certain);
                was_certain = regexp.is_certain(at);
            }
            let mut whole = regexp.begin();
            regexp.feed(&mut whole, body.as_bytes());
            prop_assert_eq!(regexp.is_certain(whole), was_certain);
            prop_assert!(regexp.matches_at_end(whole) || !was_certain);
        }
    }
}
