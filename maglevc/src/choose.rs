//! Choice among words by prefix, and suggestions for the rest.

/// Number of candidates that an error names.
const MAX_NAMES: usize = 8;

/// Failure to choose one candidate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChoiceError {
    /// No candidate has this prefix. Holds the most similar ones.
    Unknown(Vec<String>),
    /// Several candidates have this prefix.
    Ambiguous(Vec<String>),
}

/// Returns the index of the candidate that equals `word`, or the only one that begins with it.
///
/// # Errors
/// Returns the candidates if there is no such one.
pub fn choose<S: AsRef<str>>(word: &str, candidates: &[S]) -> Result<usize, ChoiceError> {
    if let Some(exact) = candidates.iter().position(|candidate| candidate.as_ref() == word) {
        return Ok(exact);
    }
    let begun = |index: &usize| !word.is_empty() && candidates[*index].as_ref().starts_with(word);
    let found: Vec<usize> = (0..candidates.len()).filter(begun).collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(ChoiceError::Unknown(nearest(word, candidates))),
        several => Err(ChoiceError::Ambiguous(
            several.iter().map(|index| candidates[*index].as_ref().into()).collect(),
        )),
    }
}

/// Returns the candidates most similar to `word`, the nearest first. Up to a third of its letters may differ.
pub fn nearest<S: AsRef<str>>(word: &str, candidates: &[S]) -> Vec<String> {
    let length = word.chars().count();
    let bound = (length / 3).max(1);
    let mut near: Vec<(usize, &str)> = candidates
        .iter()
        .map(AsRef::as_ref)
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= bound)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound && *distance < length)
        .collect();
    near.sort_unstable();
    near.truncate(3);
    near.into_iter().map(|(_, candidate)| candidate.into()).collect()
}

/// Joins names to one line, and shortens long lists.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let mut line = names.iter().take(MAX_NAMES).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        line += &format!(" and {} more", names.len() - MAX_NAMES);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_word_wins() {
        assert_eq!(choose("web", &["web", "web2"]), Ok(0));
        assert_eq!(
            choose("we", &["web", "web2"]),
            Err(ChoiceError::Ambiguous(vec!["web".into(), "web2".into()]))
        );
        assert_eq!(choose("web2", &["web", "web2"]), Ok(1));
        assert_eq!(choose("", &["web"]), Err(ChoiceError::Unknown(Vec::new())));
    }

    #[test]
    fn typo_suggests_nearest_word() {
        let words = ["show", "watch", "set", "sync", "config", "help"];
        assert_eq!(nearest("shwo", &words), ["show"]);
        assert_eq!(nearest("hlep", &words), ["help"]);
        assert_eq!(nearest("wacth", &words), ["watch"]);
        assert_eq!(nearest("nonsense", &words), [""; 0]);
        assert_eq!(nearest("x", &["y", "z"]), [""; 0]);
    }

    #[test]
    fn long_list_is_shortened() {
        let names: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
        assert_eq!(list(&names), "n0, n1, n2, n3, n4, n5, n6, n7 and 2 more");
    }
}
