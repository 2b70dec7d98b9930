//! Words and positions for mistakes in YAML that its parser describes for its own authors, or does not locate.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Returns the offset of the first character that YAML forbids, such as NUL.
pub fn find_forbidden_character(text: &str) -> Option<(usize, char)> {
    let is_forbidden = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    text.char_indices().find(|(_, c)| is_forbidden(*c))
}

/// Returns the offset of the line that begins a second document.
pub fn find_second_document(text: &str) -> Option<usize> {
    let (mut offset, mut has_content) = (0, false);
    for line in text.split_inclusive('\n') {
        let is_marker = |marker: &str| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        };
        if has_content && is_marker("---") {
            return Some(offset);
        }
        let is_comment = line.trim_start().starts_with('#') || line.starts_with('%');
        has_content |= !(line.trim().is_empty() || is_comment || is_marker("---"));
        offset += line.len();
    }
    None
}

/// Returns the error of the first key that stands twice in one map, with the position of the second.
pub fn find_duplicate_key(text: &str) -> Option<serde_yaml::Error> {
    UniqueKeys.deserialize(serde_yaml::Deserializer::from_str(text)).err()
}

/// Rewrites the parser's message for the character at which it stopped.
pub fn in_plain_words(message: String, rest: &[u8]) -> String {
    if message.starts_with("found character that cannot start any token") && rest.starts_with(b"\t") {
        return "found a tab: YAML is indented with spaces".to_owned();
    }
    if message.starts_with("found unexpected ':'") {
        return "found unexpected ':': in braces, a key without a value needs a blank after it, as in { a: , b: }"
            .to_owned();
    }
    if let Some((path, _)) = message.split_once("unknown field `<<`") {
        return format!("{path}`<<` is a merge key, which is not supported: write the keys out");
    }
    // The name in the Go maglevd.
    if let Some((path, fields)) = message.split_once("unknown field `ssl`,") {
        return format!("{path}unknown field `ssl`, which is `tls` here;{fields}");
    }
    // Users need no Rust vocabulary.
    match message.strip_suffix("expected i64") {
        Some(before) => format!("{before}expected a whole number"),
        None => message,
    }
}

/// Any value whose maps have each key once.
struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML without tags")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while map.next_key_seed(NewKey(&mut keys))?.is_some() {
            map.next_value_seed(UniqueKeys)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(UniqueKeys)?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

/// Key that is not among those before it. An error here has the key's position.
struct NewKey<'a>(&'a mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) {
            Ok(())
        } else {
            Err(E::custom(format_args!("duplicate key `{key}`")))
        }
    }
}
