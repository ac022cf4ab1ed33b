//! Keys that a file gives twice in one map: where both are, which the parsers do not tell (of JSON not even
//! that there are two).

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

/// A key that is there twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    /// The key.
    pub(super) key: String,
    /// Line and column, from 1, of both.
    pub(super) places: [(usize, usize); 2],
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, places: [(line, column), (again, at)] } = self;
        write!(
            f,
            "the key {key:?} is there twice in one map: at line {line}, column {column}, and at line \
             {again}, column {at}"
        )
    }
}

/// The first key that a YAML text has twice in one map.
pub(super) fn in_yaml(text: &str) -> Option<Duplicate> {
    let mut seen = Seen::default();
    // What else is wrong with the text the parser of its content says.
    let _elsewhere = Parser::new_from_str(text).load(&mut seen, true);
    seen.duplicate
}

/// What of a YAML text is open.
#[derive(Default)]
struct Seen {
    open: Vec<Open>,
    duplicate: Option<Duplicate>,
}

enum Open {
    List,
    Map {
        keys: HashMap<String, (usize, usize)>,
        /// Whether a key comes next, rather than its value.
        is_key_next: bool,
    },
}

impl Seen {
    /// A node begins: what it is to the map that it is in, by its text where it is a scalar.
    fn node(&mut self, scalar: Option<String>, mark: Marker) {
        let Some(Open::Map { keys, is_key_next }) = self.open.last_mut() else { return };
        let is_key = std::mem::replace(is_key_next, !*is_key_next);
        let Some(key) = scalar.filter(|_| is_key) else { return };
        let place = (mark.line(), mark.col().saturating_add(1));
        if let Some(first) = keys.insert(key.clone(), place) {
            self.duplicate.get_or_insert(Duplicate { key, places: [first, place] });
        }
    }
}

impl MarkedEventReceiver for Seen {
    fn on_event(&mut self, event: Event, mark: Marker) {
        match event {
            Event::Scalar(text, ..) => self.node(Some(text), mark),
            Event::Alias(_) => self.node(None, mark),
            Event::SequenceStart(..) => {
                self.node(None, mark);
                self.open.push(Open::List);
            }
            Event::MappingStart(..) => {
                self.node(None, mark);
                self.open.push(Open::Map { keys: HashMap::new(), is_key_next: true });
            }
            Event::SequenceEnd | Event::MappingEnd => drop(self.open.pop()),
            _ => {}
        }
    }
}

/// Any JSON in which no map has a key twice.
pub(super) struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {key:?} is there twice in one map"
                )));
            }
            map.next_value::<Self>()?;
            keys.insert(key);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_of_a_key_are_told() {
        let text =
            "a:\n  b: { c: 1, d: [ { c: 1 }, { c: 2 } ] }\n  e: &x 1\n  f: *x\n  b: 2\na: 3\n";
        let found = in_yaml(text).unwrap();
        assert_eq!(found, Duplicate { key: "b".to_owned(), places: [(2, 3), (5, 3)] });
        for once in ["a: 1\nb: { a: 1 }\nc: [ a, a ]\nd: a\n", "a: [", "", "- a\n- a\n"] {
            assert_eq!(in_yaml(once), None, "{once}");
        }
        let flow = in_yaml("a: { x: 1, y: 2, x: 3 }").unwrap();
        assert_eq!(flow.places, [(1, 6), (1, 18)]);
    }
}
