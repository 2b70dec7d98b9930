//! Bound on alias expansion, enforced before the pass that keeps values. The parser bounds only the number of
//! aliases, and a few of them expand some kilobytes to gigabytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::MAX_FILE;

/// Weight that any file may have, however small.
const BASE: usize = 1 << 20;

/// Factor by which a file may expand. Pools shared by all frontends are repeated a few times each.
const GROWTH: usize = 16;

/// Returns the permitted weight of a file of `length` bytes: a small file must not cost as much as the largest.
pub fn max_weight(length: usize) -> usize {
    length.saturating_mul(GROWTH).saturating_add(BASE).min(MAX_FILE)
}

/// Parses `text` to its end without keeping values.
///
/// # Errors
/// The first syntax error, or more than `max` nodes and bytes of text after alias expansion.
pub fn check_weight(text: &str, max: usize) -> Result<(), serde_yaml::Error> {
    let mut left = max;
    YamlNode(&mut left).deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Any node, with the weight left for the rest of the document.
struct YamlNode<'a>(&'a mut usize);

impl YamlNode<'_> {
    fn take<E: Error>(&mut self, weight: usize) -> Result<(), E> {
        let left = self.0.checked_sub(weight);
        *self.0 = left.ok_or_else(|| E::custom("alias expansion makes the file too large"))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for YamlNode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for YamlNode<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML without tags")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.take(1)?;
        while map.next_key_seed(YamlNode(self.0))?.is_some() {
            map.next_value_seed(YamlNode(self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        self.take(1)?;
        while sequence.next_element_seed(YamlNode(self.0))?.is_some() {}
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
