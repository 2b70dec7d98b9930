//! Comments, documents and names stay in plain words: each figure has a ceiling, which may only be lowered.
//!
//! The style guide is in `docs/contributing.md`.

#![cfg(test)]

use std::collections::BTreeSet;

use maglev_house::Repository;
use maglev_house::prose::{self, Comments, Density};

/// Per thousand words; the guide has the reasons.
const COMMENTS: Density = Density { noun_clauses: 0.5, pronouns: 0.2, told: 0.1 };
/// The same for Markdown.
const DOCUMENTS: Density = Density { noun_clauses: 0.5, pronouns: 0.2, told: 0.2 };
/// Doc comments that begin with a word such as "Whether", in a hundred.
const OPENERS: f64 = 0.5;
/// Types whose name is one word, in a hundred.
const SINGLE_WORDS: f64 = 35.0;
/// The longest name of a test, in words.
const TEST_NAME: usize = 9;

fn share(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let share = 100.0 * part as f64 / whole.max(1) as f64;
    share
}

fn assert_below(what: &str, found: Density, ceiling: Density) {
    println!("{what}: {found:.2?}");
    assert!(found.noun_clauses <= ceiling.noun_clauses, "{what}: noun clauses: {found:?}");
    assert!(found.pronouns <= ceiling.pronouns, "{what}: whoever, nobody ...: {found:?}");
    assert!(found.told <= ceiling.told, "{what}: told, heard ...: {found:?}");
}

#[test]
fn comments_are_plain() {
    let Some(repository) = Repository::open() else {
        return println!("SKIP comments_are_plain: no git checkout");
    };
    let mut comments = Comments::default();
    for (file, text) in repository.texts(".rs") {
        comments.add(file, &text);
    }
    assert!(comments.summaries > 1000, "{} doc comments found", comments.summaries);
    let openers = share(comments.openers.len(), comments.summaries);
    println!("doc comments with an opener: {openers:.1} % of {}", comments.summaries);
    assert!(
        openers <= OPENERS,
        "{openers:.1} %, such as {:#?}",
        &comments.openers[..comments.openers.len().min(10)]
    );
    assert_below("comments", comments.density(), COMMENTS);
}

#[test]
fn documents_are_plain() {
    let Some(repository) = Repository::open() else {
        return println!("SKIP documents_are_plain: no git checkout");
    };
    let text: String = repository.texts(".md").map(|(_, text)| text + "\n").collect();
    assert_below("documents", Density::of(&prose::without_code(&text)), DOCUMENTS);
}

#[test]
fn types_have_two_words_where_needed() {
    let Some(repository) = Repository::open() else {
        return println!("SKIP types_have_two_words_where_needed: no git checkout");
    };
    let names: BTreeSet<String> =
        repository.texts(".rs").flat_map(|(_, text)| prose::type_names(&text)).collect();
    let single = names.iter().filter(|name| prose::is_single_word(name)).count();
    let single = share(single, names.len());
    println!("types named by a single word: {single:.1} % of {}", names.len());
    assert!(single <= SINGLE_WORDS, "{single:.1} %");
}

#[test]
fn test_names_are_short() {
    let Some(repository) = Repository::open() else {
        return println!("SKIP test_names_are_short: no git checkout");
    };
    let long: Vec<String> = repository
        .texts(".rs")
        .flat_map(|(_, text)| prose::test_names(&text))
        .filter(|name| name.split('_').count() > TEST_NAME)
        .collect();
    assert!(long.is_empty(), "{} names of more than {TEST_NAME} words: {long:#?}", long.len());
}
