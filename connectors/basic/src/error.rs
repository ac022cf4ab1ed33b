//! Errors of these sinks: codes, and which I/O error asks for which reaction.

use std::io::{self, ErrorKind};
use std::path::Path;

use rowtide_sdk::{Class, Code, Error, Origin};

/// Another writer holds the folder.
pub(crate) const LOCKED: Code = Code("RT3501");
/// Files, but no manifest.
pub(crate) const NO_MANIFEST: Code = Code("RT3502");
/// A manifest that cannot be trusted.
pub(crate) const BAD_MANIFEST: Code = Code("RT3503");
/// Committed lines are gone.
pub(crate) const DATA_LOST: Code = Code("RT3504");
/// The manifest was replaced by somebody else.
pub(crate) const MANIFEST_REPLACED: Code = Code("RT3505");
/// A topic that cannot be a folder.
pub(crate) const BAD_TOPIC: Code = Code("RT3506");
/// No space left.
pub(crate) const DISK_FULL: Code = Code("RT3510");
/// A limit on file size.
pub(crate) const FILE_TOO_LARGE: Code = Code("RT3511");
/// Permissions, read-only, not a folder.
pub(crate) const UNUSABLE: Code = Code("RT3512");
/// Any other I/O error.
pub(crate) const IO: Code = Code("RT3513");
/// Too many open files.
pub(crate) const TOO_MANY_FILES: Code = Code("RT3514");
/// Closed before everything was durable.
pub(crate) const CLOSED_EARLY: Code = Code("RT3515");
/// The host handed over a batch that breaks the contract.
pub(crate) const BROKEN_BATCH: Code = Code("RT3516");
/// Nobody reads standard output any more.
pub(crate) const STDOUT_CLOSED: Code = Code("RT3520");
/// Standard output cannot be written.
pub(crate) const STDOUT_FAILED: Code = Code("RT3521");

/// A limit of the process or the system on open files: EMFILE and ENFILE have no [`ErrorKind`].
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Classifies an I/O error on `path`; `doing` completes "cannot …".
pub(crate) fn file_error(doing: &str, path: &Path, error: io::Error) -> Error {
    let (class, code, remedy) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            Class::Transient,
            DISK_FULL,
            "free space on the disk or raise the quota; writing resumes by itself from the last \
             commit",
        ),
        ErrorKind::FileTooLarge => (
            Class::Fatal,
            FILE_TOO_LARGE,
            "set `rotate.bytes` below the largest file that the file system and `ulimit -f` allow, \
             or raise that limit",
        ),
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidFilename => (
            Class::Fatal,
            UNUSABLE,
            "let the user that runs rowtide read and write the folder and everything in it (owner, \
             mode, mount options), or set `dir` to another folder",
        ),
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => (
            Class::Transient,
            TOO_MANY_FILES,
            "raise the limit on open files (`ulimit -n`, LimitNOFILE=)",
        ),
        _ => (
            Class::Transient,
            IO,
            "look at the disk and the kernel's log; writing resumes by itself from the last commit",
        ),
    };
    Error::new(class, Origin::Sink, code, format!("cannot {doing} {}", path.display()))
        .with_source(error)
        .with_remedy(remedy)
}

/// A batch that breaks the contract between host and sink.
pub(crate) fn broken_batch(what: &str) -> Error {
    Error::fatal(Origin::Sink, BROKEN_BATCH, format!("the host handed over a batch that {what}"))
        .with_remedy("this is a defect of rowtide; please report it with the log")
}

/// An error in a form that can be told to every batch that it hits.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    class: Class,
    code: Code,
    message: String,
    remedy: Option<String>,
}

impl Failure {
    /// The error again, without its causes as objects (their text is in the message).
    pub(crate) fn error(&self) -> Error {
        let error = Error::new(self.class, Origin::Sink, self.code, self.message.clone());
        match &self.remedy {
            Some(remedy) => error.with_remedy(remedy.clone()),
            None => error,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            class: error.class(),
            code: error.code(),
            message: error.message_with_causes(),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_classified() {
        let cases = [
            (28, Class::Transient, DISK_FULL),
            (122, Class::Transient, DISK_FULL),
            (27, Class::Fatal, FILE_TOO_LARGE),
            (13, Class::Fatal, UNUSABLE),
            (1, Class::Fatal, UNUSABLE),
            (30, Class::Fatal, UNUSABLE),
            (20, Class::Fatal, UNUSABLE),
            (2, Class::Fatal, UNUSABLE),
            (24, Class::Transient, TOO_MANY_FILES),
            (23, Class::Transient, TOO_MANY_FILES),
            (5, Class::Transient, IO),
            (116, Class::Transient, IO),
        ];
        for (errno, class, code) in cases {
            let error =
                file_error("write", Path::new("/data"), io::Error::from_raw_os_error(errno));
            assert_eq!((error.class(), error.code()), (class, code), "errno {errno}");
            assert!(error.remedy().is_some(), "errno {errno}");
            assert!(error.to_string().contains("/data"), "{error}");
            let again = Failure::from(&error).error();
            assert_eq!(again.to_string(), error.to_string());
        }
    }
}
