//! Findings of a preflight, and secrets that never print.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::error::{Code, Error, Origin};
use crate::position::Position;
use crate::sightings::Sightings;
use crate::source::{Claims, Hiding};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Works, but will surprise.
    Warning,
    /// Cannot work.
    Error,
}

impl Severity {
    /// The word for it: `info`, `warning`, `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One result of `rowtide check`: what is wrong and the SQL or setting that mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The stable code.
    pub code: Code,
    /// Where: `table public.orders`, `slot rowtide_shop`, `role rowtide`; `None` where it is about
    /// the connector's whole side.
    pub place: Option<String>,
    /// What is so.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
    /// Where the error came from that a run would end with; `None` where it is none.
    pub origin: Option<Origin>,
}

impl Finding {
    /// A finding without place and remedy.
    pub fn new(severity: Severity, code: Code, message: impl Into<String>) -> Self {
        Self { severity, code, place: None, message: message.into(), remedy: None, origin: None }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Says what mends it: SQL or a setting where there is one; an empty text is none.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        self
    }
}

impl From<&Error> for Finding {
    fn from(error: &Error) -> Self {
        let remedy = error.remedy().map(str::to_owned);
        let message = error.message_with_causes();
        let origin = Some(error.origin());
        Self { remedy, origin, ..Self::new(Severity::Error, error.code(), message) }
    }
}

/// Who runs a database server: decides which of its settings SQL can change and which are the
/// provider's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Whoever uses it: there is a superuser.
    SelfRun,
    /// Amazon RDS or Aurora.
    Rds,
    /// Google Cloud SQL.
    CloudSql,
    /// Azure Database.
    Azure,
}

/// The configured entity key of a table by schema and name; `None` is the table's own.
pub type KeyLookup<'a> = &'a (dyn Fn(&str, &str) -> Option<Vec<String>> + Sync);

/// Whether values of a table are to be read back, by schema and name.
pub type ReselectLookup<'a> = &'a (dyn Fn(&str, &str) -> bool + Sync);

/// The tables whose values are to be read back, for the SQL that prepares a server.
#[derive(Clone, Copy)]
pub struct ReselectRules<'a> {
    /// Whether a table that is known is one of them.
    pub lookup: ReselectLookup<'a>,
    /// The same for tables that cannot be asked for: names of tables, or globs over `schema.table`, and
    /// whether their values are read back. The rule with a table's exact name counts, else the first
    /// whose glob matches it; without one nothing is read back.
    pub rules: &'a [(String, bool)],
}

impl fmt::Debug for ReselectRules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReselectRules").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// What the preflight of a source knows beside the settings.
#[derive(Clone, Copy)]
pub struct Preflight<'a> {
    /// The configured entity keys.
    pub keys: KeyLookup<'a>,
    /// Whether events of a table that cannot be published are put aside, by schema and name, so that the
    /// run goes on.
    pub sets_aside: &'a (dyn Fn(&str, &str) -> bool + Sync),
    /// The tables whose values are to be read back where the log does not carry them.
    pub reselects: ReselectLookup<'a>,
    /// Whether a column never leaves the process, by schema, table and column.
    pub excludes: &'a (dyn Fn(&str, &str, &str) -> bool + Sync),
    /// What settings hide; `None` where they hide nothing.
    pub hiding: Option<&'a Hiding>,
    /// Under which names tables were seen in earlier runs.
    pub sightings: &'a Sightings,
    /// Where a run would resume; `None` on a first start, and where the position cannot be read. What a
    /// run refuses because of it, the preflight reports.
    pub resume: Option<&'a Position>,
    /// Whether it is known that no position is saved: the next run is a first start.
    pub is_first_start: bool,
    /// Ownership of shared resources; a claim made here is never saved.
    pub claims: &'a dyn Claims,
    /// The connector's name in the config.
    pub name: &'a str,
    /// What a run is given as [`crate::SourceContext::scratch`]; `None` where the host says by itself that
    /// nothing can be made there.
    pub scratch: Option<&'a Path>,
}

impl fmt::Debug for Preflight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preflight").field("resume", &self.resume).finish_non_exhaustive()
    }
}

/// A secret from the configuration. `Debug` and `Display` never show it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
