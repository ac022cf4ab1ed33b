//! Resume positions, opaque to the host.

use std::sync::Arc;

/// A place in a source's log from which it can resume: canonical JSON written and read by the source
/// alone. The host stores it, prints it and hands it back, and never looks inside (invariant A4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position(Arc<str>);

impl Position {
    /// Wraps the source's JSON text.
    pub fn new(json: impl Into<Arc<str>>) -> Self {
        Self(json.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is saved together: the position and the host's own state as of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where the source resumes.
    pub position: Position,
    /// The host's state at that position (schema versions, claims) as one JSON document, opaque to
    /// sinks and sources.
    pub host: Arc<str>,
}
