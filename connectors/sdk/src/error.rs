//! One error for every part: what happened, where, what to do, and how the host must react.

use std::borrow::Cow;
use std::fmt;

/// What a fallible operation of the sdk returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the host reacts to an error. Decided once, where the error is first understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May pass by itself: reopen from the saved position, with backoff and jitter.
    Transient,
    /// This event fails every time: the table's `on_violation` policy applies.
    Poison,
    /// An operator must act: this connector stops, the others go on.
    Fatal,
    /// Somebody else owns the resource: stop and touch nothing.
    Fenced,
}

/// Which part of the system an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration or the command line.
    Config,
    /// The database or its log.
    Source,
    /// The broker, disk or other target.
    Sink,
    /// The host itself: encoding, validation, state.
    Host,
}

/// A stable error code such as `RT1003`. Each has a page that `rowtide explain` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The error of sources, sinks and host.
///
/// The message says what happened and where; the remedy says what to do. Neither ever holds a row
/// value or a secret (invariant A6).
#[derive(Debug)]
pub struct Error {
    class: Class,
    origin: Origin,
    code: Code,
    message: Cow<'static, str>,
    remedy: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Builds an error without a cause.
    pub fn new(
        class: Class,
        origin: Origin,
        code: Code,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { class, origin, code, message: message.into(), remedy: None, source: None }
    }

    /// A transient error.
    pub fn transient(origin: Origin, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Transient, origin, code, message)
    }

    /// A fatal error.
    pub fn fatal(origin: Origin, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Fatal, origin, code, message)
    }

    /// A poison error: one event that can never pass.
    pub fn poison(origin: Origin, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Poison, origin, code, message)
    }

    /// The same error with another reaction.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Adds what the operator should do, in one or two sentences (SQL or a setting where one mends
    /// it).
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Keeps the underlying error as the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The reaction asked of the host.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The part the error comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message without code, remedy or cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl Error {
    /// The message followed by its causes, without code and remedy.
    pub fn message_with_causes(&self) -> String {
        let mut text = self.message.clone().into_owned();
        let mut cause =
            self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static));
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    /// Prints `RT1003: message: cause: cause (remedy)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message_with_causes())?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_prints_code_message_cause_and_remedy() {
        let error = Error::fatal(Origin::Source, Code("RT2999"), "slot is gone")
            .with_source(std::io::Error::other("inner"))
            .with_remedy("create it again");
        assert_eq!(error.to_string(), "RT2999: slot is gone: inner (create it again)");
    }
}
