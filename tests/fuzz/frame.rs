//! What a fuzz target is, of whichever connector.

use std::path::Path;

/// The root of the repository, from every crate that uses this file.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Takes any bytes; panics where they show a defect.
pub(crate) type Check = Box<dyn Fn(&[u8]) + Send + Sync>;

/// One thing to fuzz.
pub(crate) struct Target {
    /// What holds; for values, by each decoder.
    pub(crate) checks: Vec<Check>,
    /// Inputs to begin with.
    pub(crate) seeds: Vec<Vec<u8>>,
}

impl Target {
    pub(crate) fn new(check: fn(&[u8]), seeds: Vec<Vec<u8>>) -> Self {
        Self { checks: vec![Box::new(check)], seeds }
    }
}

/// The lines of a file of JSON lines.
pub(crate) fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}
