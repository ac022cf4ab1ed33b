//! JSON diffs: what a `PARTIAL_UPDATE_ROWS_EVENT` has in place of a document where
//! `binlog_row_value_options` is `PARTIAL_JSON`, as `Json_diff_vector::write_binary` in MySQL's
//! `sql/json_diff.cc` writes them; and applying them as `apply_json_diffs` does.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use rowtide_sdk::{JsonWriter, Written};

use super::binary::{Value, key_order};
use super::path::{self, Leg};
use super::print::{Budget, Printer};
use super::{MAX_LEVELS, settle};

/// Why JSON diffs were not applied. Never holds values (invariant A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The bytes are not JSON diffs.
    #[error("not valid JSON diffs")]
    Diffs,
    /// The document before, or a value in the diffs, is not binary JSON.
    #[error("not valid binary JSON")]
    Document,
    /// A diff is about a place that the document does not have, or adds a key that it has: these
    /// are not the diffs of this document.
    #[error("JSON diffs that do not fit the document")]
    Rejected,
}

/// Appends the text of the document that the diffs make of the document `before`.
///
/// Both are what follows the length in a row event: `before` is binary JSON as for
/// [`super::write_text`], `diffs` are any number of diffs: an operation (0 replace, 1 insert,
/// 2 remove), a path with its length before it, and but for `remove` a value in binary JSON with
/// its length before it. Written as [`rowtide_sdk::Form::Json`].
///
/// # Errors
/// [`DiffError`]; `out` may hold a torn value then.
pub fn apply_diffs(
    before: &[u8],
    diffs: &[u8],
    out: &mut JsonWriter,
) -> Result<Written, DiffError> {
    let mut budget = Budget::new(before.len().saturating_add(diffs.len()));
    let mut root = Node::Value(Value::document(before).ok_or(DiffError::Document)?);
    let mut rest = diffs;
    while !rest.is_empty() {
        let (diff, after) = Diff::read(rest).ok_or(DiffError::Diffs)?;
        diff.apply(&mut root, &mut budget)?;
        rest = after;
    }
    let start = out.len();
    let mut printer = Printer::new(out, budget);
    root.print(&mut printer, 0).ok_or(DiffError::Document)?;
    let levels = printer.deepest();
    settle(out, start, levels).map_err(|_| DiffError::Document)
}

#[derive(Debug, Clone, Copy)]
enum Operation<'a> {
    Replace(&'a [u8]),
    Insert(&'a [u8]),
    Remove,
}

#[derive(Debug)]
struct Diff<'a> {
    operation: Operation<'a>,
    legs: Vec<Leg>,
}

impl<'a> Diff<'a> {
    /// The first diff, and what follows it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&code, rest) = bytes.split_first()?;
        let (path, rest) = counted(rest)?;
        // No document has more levels, so no value has a longer path.
        let legs = path::parse(path, usize::try_from(MAX_LEVELS).ok()?)?;
        let (operation, rest) = match code {
            0 | 1 => {
                let (value, rest) = counted(rest)?;
                let is_replace = code == 0;
                let operation =
                    if is_replace { Operation::Replace(value) } else { Operation::Insert(value) };
                (operation, rest)
            }
            2 => (Operation::Remove, rest),
            _ => return None,
        };
        Some((Self { operation, legs }, rest))
    }

    fn apply(self, root: &mut Node<'a>, budget: &mut Budget) -> Result<(), DiffError> {
        // A new root comes as a whole document.
        let (last, legs) = self.legs.split_last().ok_or(DiffError::Rejected)?;
        let mut parent = root;
        for leg in legs {
            parent = parent.expanded(budget)?.element(leg).ok_or(DiffError::Rejected)?;
        }
        let parent = parent.expanded(budget)?;
        match self.operation {
            Operation::Replace(value) => {
                let element = parent.element(last).ok_or(DiffError::Rejected)?;
                *element = Node::Value(document(value)?);
            }
            Operation::Insert(value) => {
                parent.insert(last, Node::Value(document(value)?)).ok_or(DiffError::Rejected)?;
            }
            Operation::Remove => parent.remove(last).ok_or(DiffError::Rejected)?,
        }
        Ok(())
    }
}

fn document(bytes: &[u8]) -> Result<Value<'_>, DiffError> {
    Value::document(bytes).ok_or(DiffError::Document)
}

/// Bytes after their length as the protocol's length-encoded integer, and what follows them.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0..=250 => return rest.split_at_checked(first.into()),
        252 => 2,
        253 => 3,
        254 => 8,
        // NULL, or no length at all.
        251 | 255 => return None,
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let len = number.iter().rev().fold(0u64, |len, &byte| len << 8 | u64::from(byte));
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// A key in the order of objects.
#[derive(Debug, PartialEq, Eq)]
struct Key<'a>(Cow<'a, str>);

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        key_order(&self.0, &other.0)
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A document that is being changed: only the arrays and objects on the way to a change are taken
/// apart, all other values stay as they came. Paths bound its depth.
#[derive(Debug)]
enum Node<'a> {
    Value(Value<'a>),
    Array(Vec<Self>),
    Object(BTreeMap<Key<'a>, Self>),
}

impl<'a> Node<'a> {
    /// This node, taken apart where it is an array or object.
    fn expanded(&mut self, budget: &mut Budget) -> Result<&mut Self, DiffError> {
        if let Self::Value(value @ Value::Container(_)) = *self {
            *self = Self::expand(value, budget).ok_or(DiffError::Document)?;
        }
        Ok(self)
    }

    fn expand(value: Value<'a>, budget: &mut Budget) -> Option<Self> {
        budget.spend(value.own_bytes())?;
        let Value::Container(container) = value else { return Some(Self::Value(value)) };
        let value_at = |index| container.value(index).map(Self::Value);
        if !container.is_object() {
            return (0..container.len()).map(value_at).collect::<Option<_>>().map(Self::Array);
        }
        let mut elements = BTreeMap::new();
        for index in 0..container.len() {
            let key = container.key(index)?;
            budget.spend(key.len())?;
            let key = Key(Cow::Borrowed(key));
            if elements.last_key_value().is_some_and(|(previous, _)| *previous >= key) {
                return None;
            }
            elements.insert(key, value_at(index)?);
        }
        Some(Self::Object(elements))
    }

    /// The element of an expanded node.
    fn element(&mut self, leg: &Leg) -> Option<&mut Self> {
        match (self, leg) {
            (Self::Array(elements), Leg::Cell(cell)) => {
                let index = cell.existing(elements.len())?;
                elements.get_mut(index)
            }
            (Self::Object(elements), Leg::Member(name)) => {
                elements.get_mut(&Key(Cow::Owned(name.clone())))
            }
            _ => None,
        }
    }

    fn insert(&mut self, leg: &Leg, value: Self) -> Option<()> {
        match (self, leg) {
            (Self::Array(elements), Leg::Cell(cell)) => {
                elements.insert(cell.insertion(elements.len()), value);
                Some(())
            }
            (Self::Object(elements), Leg::Member(name)) => {
                elements.insert(Key(Cow::Owned(name.clone())), value).is_none().then_some(())
            }
            _ => None,
        }
    }

    fn remove(&mut self, leg: &Leg) -> Option<()> {
        match (self, leg) {
            (Self::Array(elements), Leg::Cell(cell)) => {
                elements.remove(cell.existing(elements.len())?);
                Some(())
            }
            (Self::Object(elements), Leg::Member(name)) => {
                elements.remove(&Key(Cow::Owned(name.clone()))).map(drop)
            }
            _ => None,
        }
    }

    fn print(&self, printer: &mut Printer<'_>, depth: u32) -> Option<()> {
        match self {
            Self::Value(value) => printer.value(*value, depth)?,
            Self::Array(elements) => {
                let depth = printer.open(false, depth)?;
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        printer.comma();
                    }
                    element.print(printer, depth)?;
                }
                printer.close(false);
            }
            Self::Object(elements) => {
                let depth = printer.open(true, depth)?;
                for (index, (key, element)) in elements.iter().enumerate() {
                    if index > 0 {
                        printer.comma();
                    }
                    printer.key(&key.0);
                    element.print(printer, depth)?;
                }
                printer.close(true);
            }
        }
        Some(())
    }
}
