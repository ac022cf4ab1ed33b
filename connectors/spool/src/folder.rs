//! The files of transactions that memory does not hold: one per transaction, in a folder of the
//! connector's own.
//!
//! They are worth nothing after the session that wrote them, because the server sends every
//! transaction that is not confirmed again from its start. So nothing is synced, the folder is
//! emptied when a session begins and when it ends, and a damaged file only costs a restart. Calls
//! block; the source has a thread of its own, and these files live in the page cache.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rowtide_sdk::{Class, Code, Error, Origin, Result};
use rustix::fs::Access;

use crate::{Blocks, codes};

/// What our files' names end with; nothing else in the folder is ever touched.
const SUFFIX: &str = ".spool";

/// A limit of the process or the system on open files: EMFILE and ENFILE have no [`ErrorKind`].
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// What an operator can do, where that depends on the source's kind; each is a whole remedy.
#[derive(Debug, Clone, Copy)]
pub struct Remedies {
    /// The disk is full.
    pub disk_full: &'static str,
    /// All files together would pass their limit.
    pub limit: &'static str,
}

/// The folder, locked for one session, with one file for each transaction. A transaction is known by
/// a key of the source's own.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The folder itself, open and locked.
    _lock: File,
    /// Bytes that all files together may have.
    max: Option<u64>,
    used: u64,
    remedies: Remedies,
    /// The file in use: its transaction, and where it stands.
    file: Option<Open>,
}

#[derive(Debug)]
struct Open {
    key: u64,
    file: File,
    /// Where the next read begins; absent in a file that is being written.
    at: Option<u64>,
}

/// Classifies an I/O error; `doing` completes "cannot …".
fn file_error(remedies: Remedies, doing: &str, path: &Path, error: io::Error) -> Error {
    let (class, code, remedy) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Class::Transient, codes::SPOOL_DISK_FULL, remedies.disk_full)
        }
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidFilename
        | ErrorKind::FileTooLarge => (
            Class::Fatal,
            codes::SPOOL_UNUSABLE,
            "let the user that runs rowtide create, read and write files in the folder (owner, mode, \
             mount options, `ulimit -f`), or set `spool.dir` to another folder",
        ),
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => (
            Class::Transient,
            codes::SPOOL_IO,
            "raise the limit on open files (`ulimit -n`, LimitNOFILE=)",
        ),
        _ => (
            Class::Transient,
            codes::SPOOL_IO,
            "look at the disk and the kernel's log; the server sends the transaction again",
        ),
    };
    failure(class, code, format!("cannot {doing} {}", path.display()))
        .with_source(error)
        .with_remedy(remedy)
}

fn failure(class: Class, code: Code, message: String) -> Error {
    Error::new(class, Origin::Host, code, message)
}

impl Folder {
    /// Makes the folder where there is none, locks it, and removes what a killed session left. Its
    /// files together may have `max` bytes.
    ///
    /// # Errors
    /// Fatal where the folder cannot be used; transient where another process does.
    pub fn open(path: PathBuf, max: Option<u64>, remedies: Remedies) -> Result<Self> {
        let failed = |doing: &str, error| file_error(remedies, doing, &path, error);
        fs::create_dir_all(&path).map_err(|error| failed("create the folder", error))?;
        let lock = File::open(&path).map_err(|error| failed("open the folder", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failure(
                    Class::Transient,
                    codes::SPOOL_BUSY,
                    format!("another process sets transactions aside in {}", path.display()),
                )
                .with_remedy(
                    "end the other process, or give each its own state folder or `spool.dir`",
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(failed("lock the folder", error));
            }
        }
        let folder = Self { path, _lock: lock, max, used: 0, remedies, file: None };
        folder.clean()?;
        // Better to learn now than in the middle of a transaction that nothing can be written.
        let probe = folder.file_path(0);
        let written = File::create(&probe).and_then(|_| fs::remove_file(&probe));
        written.map_err(|error| folder.failed("write to the folder", &folder.path, error))?;
        Ok(folder)
    }

    /// Whether [`Folder::open`] could make the folder and write to it, as far as it, or the nearest one
    /// above it that is there, tells. Makes nothing.
    ///
    /// # Errors
    /// Fatal where the folder cannot be used.
    pub fn check(path: &Path, remedies: Remedies) -> Result<()> {
        let is_there = |above: &&Path| !above.as_os_str().is_empty() && above.exists();
        let existing = path.ancestors().find(is_there).unwrap_or_else(|| Path::new("."));
        let doing = match existing == path {
            true => "write to the folder",
            false => "create a folder in",
        };
        let failed = |error| file_error(remedies, doing, existing, error);
        if !existing.metadata().map_err(failed)?.is_dir() {
            return Err(failed(ErrorKind::NotADirectory.into()));
        }
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::access(existing, wanted).map_err(|errno| failed(errno.into()))
    }

    fn failed(&self, doing: &str, path: &Path, error: io::Error) -> Error {
        file_error(self.remedies, doing, path, error)
    }

    fn file_path(&self, key: u64) -> PathBuf {
        self.path.join(format!("{key}{SUFFIX}"))
    }

    fn clean(&self) -> Result<()> {
        let failed = |error| self.failed("empty the folder", &self.path, error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if key.is_some_and(|key| key.parse::<u64>().is_ok()) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Appends to a transaction's file.
    ///
    /// # Errors
    /// Fatal where all files together would pass their limit, or an operator must let us write; else
    /// transient.
    pub fn append(&mut self, key: u64, blocks: &Blocks) -> Result<()> {
        let len = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
        let used = self.used.saturating_add(len);
        if let Some(max) = self.max.filter(|max| used > *max) {
            return Err(failure(
                Class::Fatal,
                codes::SPOOL_LIMIT,
                format!(
                    "open transactions take {used} bytes on disk, above `spool.max` ({max} bytes); \
                     the one that grows is transaction {key}"
                ),
            )
            .with_remedy(self.remedies.limit));
        }
        let (path, remedies) = (self.file_path(key), self.remedies);
        let failed = |error| file_error(remedies, "write", &path, error);
        let mut open = match self.file.take() {
            Some(open) if open.key == key && open.at.is_none() => open,
            _ => {
                let file = OpenOptions::new().create(true).append(true).open(&path);
                Open { key, file: file.map_err(failed)?, at: None }
            }
        };
        for piece in blocks.pieces() {
            open.file.write_all(piece).map_err(failed)?;
        }
        self.file = Some(open);
        self.used = used;
        Ok(())
    }

    /// Appends at most `max` bytes of a transaction's file to `out`, starting at `at`; at least one.
    ///
    /// # Errors
    /// Transient where the file has no more or cannot be read: the server sends it again. Fatal where
    /// an operator must let us read.
    pub fn read(&mut self, key: u64, at: u64, out: &mut Vec<u8>, max: u64) -> Result<()> {
        let (path, remedies) = (self.file_path(key), self.remedies);
        let failed = |error| file_error(remedies, "read", &path, error);
        let mut open = match self.file.take() {
            Some(open) if open.key == key && open.at == Some(at) => open,
            _ => {
                let mut file = File::open(&path).map_err(failed)?;
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                Open { key, file, at: Some(at) }
            }
        };
        let before = out.len();
        (&open.file).take(max).read_to_end(out).map_err(failed)?;
        let count = u64::try_from(out.len().saturating_sub(before)).unwrap_or(u64::MAX);
        if count == 0 && max > 0 {
            return Err(damaged(&path));
        }
        open.at = Some(at.saturating_add(count));
        self.file = Some(open);
        Ok(())
    }

    /// Removes the file of a transaction that is over, of which so many bytes were written.
    ///
    /// # Errors
    /// Fatal where an operator must let us write; else transient.
    pub fn remove(&mut self, key: u64, len: u64) -> Result<()> {
        self.file = self.file.take().filter(|open| open.key != key);
        self.used = self.used.saturating_sub(len);
        let path = self.file_path(key);
        fs::remove_file(&path).map_err(|error| self.failed("remove", &path, error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = self.clean() {
            tracing::warn!(%error, "what was set aside could not be removed; the next start does it");
        }
    }
}

/// A file that does not hold what was written to it.
fn damaged(path: &Path) -> Error {
    failure(
        Class::Transient,
        codes::SPOOL_IO,
        format!("{} does not hold what was written to it", path.display()),
    )
    .with_remedy("let nothing else touch the folder; the server sends the transaction again")
}

#[cfg(test)]
mod tests;
