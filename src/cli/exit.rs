//! The process's exit codes: a promise to scripts and service managers.
//!
//! | Code | Meaning |
//! |-----:|---------|
//! | 0 | stopped as asked, or nothing to complain about |
//! | 1 | internal error; please report it |
//! | 2 | wrong usage or configuration |
//! | 3 | the source: the database, its slot or its log needs an operator |
//! | 4 | the sink: the broker, disk or other target needs an operator |
//! | 5 | the host: an event, the saved position or the state folder needs an operator |
//! | 6 | another process owns the folder or state: stopped and touched nothing |
//! | 130 | a second signal cut the orderly stop short; nothing is lost |
//!
//! `run` ends when every connector has ended; of several failures the first in the order of the
//! configuration gives the code.

use std::process::ExitCode;

use rowtide_sdk::{Class, Error, Origin};

/// How the process ends. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Stopped as asked, or nothing to complain about.
    Ok = 0,
    /// An internal error.
    Internal = 1,
    /// Wrong usage or configuration.
    Config = 2,
    /// The source needs an operator.
    Source = 3,
    /// The sink needs an operator.
    Sink = 4,
    /// An event, the saved position or the state folder needs an operator.
    Host = 5,
    /// Somebody else owns a resource.
    Fenced = 6,
    /// A second signal.
    Aborted = 130,
}

/// The table for `rowtide --help`.
pub(super) const TABLE: &str = "\
Exit codes:
    0  stopped as asked, or nothing to complain about
    1  internal error; please report it
    2  wrong usage or configuration
    3  the source: the database, its slot or its log needs an operator
    4  the sink: the broker, disk or other target needs an operator
    5  the host: an event, the saved position or the state folder needs an operator
    6  another process owns the folder or state: stopped and touched nothing
  130  a second signal cut the orderly stop short; nothing is lost";

impl Exit {
    /// The number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// How an error that ended a connector or a command ends the process.
    pub fn of(error: &Error) -> Self {
        match (error.class(), error.origin()) {
            (Class::Fenced, _) => Self::Fenced,
            (_, Origin::Config) => Self::Config,
            (_, Origin::Source) => Self::Source,
            (_, Origin::Sink) => Self::Sink,
            (_, Origin::Host) => Self::Host,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::Code;

    use super::*;

    #[test]
    fn errors_end_the_process_by_class_and_origin() {
        let error = |class, origin| Exit::of(&Error::new(class, origin, Code("RT4003"), "x"));
        assert_eq!(error(Class::Fatal, Origin::Source), Exit::Source);
        assert_eq!(error(Class::Fenced, Origin::Source), Exit::Fenced);
        assert_eq!(error(Class::Poison, Origin::Host), Exit::Host);
        assert_eq!(error(Class::Transient, Origin::Sink), Exit::Sink);
        assert_eq!(error(Class::Fatal, Origin::Config), Exit::Config);
        assert_eq!(Exit::Aborted.number(), 130);
    }

    #[test]
    fn the_help_states_the_same_table() {
        let documented = include_str!("exit.rs").lines().filter_map(|line| {
            let (number, text) = line.strip_prefix("//! | ")?.split_once(" | ")?;
            Some((number.parse::<u8>().ok()?, text.strip_suffix(" |")?))
        });
        for (number, text) in documented {
            assert!(TABLE.contains(&format!("{number:>5}  {text}")), "{number}");
        }
    }
}
