//! Problems of a configuration: each with its code, its place in the file and what mends it.

use std::fmt;

use rowtide_sdk::Code;
use serde_json::Value;

/// One thing that is wrong with the configuration. Never quotes a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable code.
    pub code: Code,
    /// Where: `connectors.shop.sink.topic`, or the file's name, or an environment variable's.
    pub path: String,
    /// What is so.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
}

impl Problem {
    pub(super) fn new(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, path: path.into(), message: message.into(), remedy: None }
    }

    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.path, self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n       {remedy}"),
            None => Ok(()),
        }
    }
}

/// Every problem of a configuration, in the order of the file where that is known. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One step into the configuration's tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A place in the configuration's tree, printed as people write it:
/// `connectors.shop.tables."public.orders".key[0]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct TreePath(Vec<Step>);

impl TreePath {
    /// Adds a map's key.
    #[must_use]
    pub(super) fn key(&self, key: impl Into<String>) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(key.into()));
        path
    }

    /// Adds a list's index.
    #[must_use]
    pub(super) fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// Reads an RFC 6901 pointer, taking numbers as indexes only where `tree` holds a list.
    pub(super) fn from_pointer(pointer: &str, tree: &Value) -> Self {
        let mut path = Self::default();
        let mut node = Some(tree);
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            match (node, token.parse::<usize>()) {
                (Some(Value::Array(items)), Ok(index)) => {
                    node = items.get(index);
                    path.0.push(Step::Index(index));
                }
                _ => {
                    node = node.and_then(|node| node.get(&token));
                    path.0.push(Step::Key(token));
                }
            }
        }
        path
    }

    /// The steps.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether `self` is `other` or lies below it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The value at this place.
    pub(super) fn lookup<'v>(&self, tree: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(tree, |node, step| match step {
            Step::Key(key) => node.get(key),
            Step::Index(index) => node.get(index),
        })
    }

    /// The value at this place, to change it.
    pub(super) fn lookup_mut<'v>(&self, tree: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(tree, |node, step| match step {
            Step::Key(key) => node.get_mut(key),
            Step::Index(index) => node.get_mut(index),
        })
    }

    /// Whether the field's name says that its value is a secret, or may hold one.
    pub(super) fn names_a_secret(&self) -> bool {
        const WORDS: [&str; 7] =
            ["password", "passphrase", "secret", "token", "credential", "url", "private"];
        const SECTIONS: [&str; 3] = ["tls", "sasl", "properties"];
        self.0.iter().any(|step| match step {
            Step::Key(key) => {
                let key = key.to_ascii_lowercase();
                WORDS.iter().any(|word| key.contains(word)) || SECTIONS.contains(&key.as_str())
            }
            Step::Index(_) => false,
        })
    }
}

impl From<&TreePath> for String {
    fn from(path: &TreePath) -> Self {
        path.to_string()
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if number > 0 {
                        f.write_str(".")?;
                    }
                    let plain = !key.is_empty()
                        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                    if plain { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// The closest of `candidates`, where one is close enough to be meant.
pub(super) fn suggestion<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`.
pub(super) fn listed(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", most.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_people_write_them() {
        let path = TreePath::default().key("connectors").key("shop").key("tables");
        let path = path.key("public.orders").key("key").index(0);
        assert_eq!(path.to_string(), "connectors.shop.tables.\"public.orders\".key[0]");
        assert!(path.is_within(&TreePath::default().key("connectors")));
    }

    #[test]
    fn pointers_are_read_by_the_tree_they_point_into() {
        let tree = serde_json::json!({"a": {"0": [true]}, "b/c": 1});
        assert_eq!(TreePath::from_pointer("/a/0/0", &tree).to_string(), "a.0[0]");
        assert_eq!(TreePath::from_pointer("/b~1c", &tree).to_string(), "\"b/c\"");
        assert_eq!(TreePath::from_pointer("", &tree).to_string(), "");
    }

    #[test]
    fn suggestions_need_to_be_close() {
        let names = ["topic", "tombstones", "headers"];
        assert_eq!(suggestion("topc", names), Some("topic"));
        assert_eq!(suggestion("Header", names), Some("headers"));
        assert_eq!(suggestion("zzz", names), None);
    }

    #[test]
    fn secrets_are_known_by_name() {
        assert!(TreePath::default().key("sasl").key("Password").names_a_secret());
        assert!(!TreePath::default().key("sink").key("topic").names_a_secret());
    }
}
