//! Findings of a preflight, and secrets that never print.

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::error::{Code, Error};

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

/// One result of `rowtide check`: what is wrong and the SQL or setting that mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The stable code.
    pub code: Code,
    /// What is so.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
}

impl From<&Error> for Finding {
    fn from(error: &Error) -> Self {
        Self {
            severity: Severity::Error,
            code: error.code(),
            message: error.message_with_causes(),
            remedy: error.remedy().map(str::to_owned),
        }
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
