//! The paths of JSON diffs, as `Json_path::to_string` in MySQL's `sql-common/json_path.cc` writes
//! them: `$`, then `.name`, `."quoted name"`, `[3]`, `[last]` or `[last-3]`.

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leg {
    /// The element of an object with this key.
    Member(String),
    /// An element of an array.
    Cell(Cell),
}

/// The place of an element in an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    index: usize,
    /// Whether the index counts backwards from the last element.
    from_end: bool,
}

impl Cell {
    /// The index of the element in an array of so many; `None` where there is no such element.
    pub(super) fn existing(self, len: usize) -> Option<usize> {
        if self.from_end {
            len.checked_sub(self.index)?.checked_sub(1)
        } else {
            (self.index < len).then_some(self.index)
        }
    }

    /// Where the server inserts an element into an array of so many: the next free place where the
    /// index is past either end.
    pub(super) fn insertion(self, len: usize) -> usize {
        self.existing(len).unwrap_or(if self.from_end { 0 } else { len })
    }
}

/// The legs of a path. `None` where it is not one, or has a wildcard or range: a diff is about one
/// value.
pub(super) fn parse(path: &[u8], max_legs: usize) -> Option<Vec<Leg>> {
    let mut rest = std::str::from_utf8(path).ok()?.strip_prefix('$')?;
    let mut legs = Vec::new();
    while !rest.is_empty() {
        let (leg, after) = match rest.strip_prefix('.') {
            Some(name) => member(name)?,
            None => cell(rest.strip_prefix('[')?)?,
        };
        if legs.len() >= max_legs {
            return None;
        }
        legs.push(leg);
        rest = after;
    }
    Some(legs)
}

fn member(text: &str) -> Option<(Leg, &str)> {
    if !text.starts_with('"') {
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        // Anything else in ASCII stands in quotes.
        let is_plain =
            |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '$' | '_');
        let is_name = !name.is_empty() && name.chars().all(is_plain);
        return is_name.then(|| (Leg::Member(name.to_owned()), rest));
    }
    let mut escaped = false;
    let is_end = |(_, byte): &(usize, u8)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    };
    let (end, _) = text.bytes().enumerate().skip(1).find(is_end)?;
    let (quoted, rest) = text.split_at_checked(end.checked_add(1)?)?;
    Some((Leg::Member(serde_json::from_str(quoted).ok()?), rest))
}

fn cell(text: &str) -> Option<(Leg, &str)> {
    let (place, rest) = text.split_once(']')?;
    let cell = match place.strip_prefix("last") {
        Some("") => Cell { index: 0, from_end: true },
        Some(back) => Cell { index: index(back.strip_prefix('-')?)?, from_end: true },
        None => Cell { index: index(place)?, from_end: false },
    };
    Some((Leg::Cell(cell), rest))
}

/// A number without a sign.
fn index(text: &str) -> Option<usize> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse::<u32>().ok()).flatten().and_then(|index| index.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legs(path: &str) -> Option<Vec<Leg>> {
        parse(path.as_bytes(), 4)
    }

    fn at(index: usize) -> Leg {
        Leg::Cell(Cell { index, from_end: false })
    }

    fn back(index: usize) -> Leg {
        Leg::Cell(Cell { index, from_end: true })
    }

    fn name(name: &str) -> Leg {
        Leg::Member(name.to_owned())
    }

    #[test]
    fn paths_have_the_legs_that_the_server_writes() {
        assert_eq!(legs("$"), Some(vec![]));
        assert_eq!(legs("$.a$1.é[0]"), Some(vec![name("a$1"), name("é"), at(0)]));
        assert_eq!(legs("$[12][last][last-3]"), Some(vec![at(12), back(0), back(3)]));
        assert_eq!(legs(r#"$."a.b[ \"\\"."""#), Some(vec![name("a.b[ \"\\"), name("")]));
        assert_eq!(legs(r#"$."\u0001\n""#), Some(vec![name("\u{1}\n")]));
    }

    #[test]
    fn what_is_no_path_of_one_value_is_refused() {
        for path in [
            "",
            "a",
            "$a",
            "$.",
            "$..a",
            "$.*",
            "$[*]",
            "$**.a",
            "$[",
            "$[]",
            "$[-1]",
            "$[+1]",
            "$[1 to 2]",
            "$[last+1]",
            "$[last-]",
            "$[99999999999]",
            "$.\"a",
            "$.a b",
            "$ .a",
            "$.\"a\"b",
            "$.a.b.c.d.e",
        ] {
            assert_eq!(legs(path), None, "{path}");
        }
        assert_eq!(parse(b"$.\xff", 4), None);
    }

    #[test]
    fn places_past_an_end_exist_only_for_insertion() {
        let [after, before, last] = [at(5), back(5), back(0)].map(|leg| match leg {
            Leg::Cell(cell) => cell,
            Leg::Member(_) => panic!("not a cell"),
        });
        assert_eq!([after, before, last].map(|cell| cell.existing(3)), [None, None, Some(2)]);
        assert_eq!([after, before, last].map(|cell| cell.insertion(3)), [3, 0, 2]);
        assert_eq!((last.existing(0), last.insertion(0)), (None, 0));
    }
}
