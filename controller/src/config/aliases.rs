//! A bound on what aliases make of a document, ahead of the pass that keeps its values: the parser's own bound is on
//! the number of aliases, and a few of them suffice to make gigabytes of some kilobytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::MAX_FILE;

/// What any file may weigh, however small it is.
const BASE: usize = 1 << 20;

/// How many times its own size a larger one may weigh. Pools that all frontends share are written out a few times each.
const GROWTH: usize = 16;

/// What a file of `length` bytes may weigh: a few kilobytes are not to take what the largest file does.
pub fn allowance(length: usize) -> usize {
    length.saturating_mul(GROWTH).saturating_add(BASE).min(MAX_FILE)
}

/// Reads `text` to its end, and keeps nothing.
///
/// # Errors
/// The first error of syntax, or that the document has more than `max` nodes and bytes of text with its aliases
/// written out.
pub fn weigh(text: &str, max: usize) -> Result<(), serde_yaml::Error> {
    let mut left = max;
    Node(&mut left).deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Any node; in it, what the rest of the document may still weigh.
struct Node<'a>(&'a mut usize);

impl Node<'_> {
    fn take<E: Error>(&mut self, weight: usize) -> Result<(), E> {
        let left = self.0.checked_sub(weight);
        *self.0 = left.ok_or_else(|| E::custom("the aliases up to here make the file too large"))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML without tags")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.take(1)?;
        while map.next_key_seed(Node(self.0))?.is_some() {
            map.next_value_seed(Node(self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        self.take(1)?;
        while sequence.next_element_seed(Node(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.take(text.len().saturating_add(1))
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.take(1)
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.take(1)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.take(1)
    }
}
