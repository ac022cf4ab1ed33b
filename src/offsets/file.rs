//! The file store: one checkpoint per connector, replaced atomically.
//!
//! `<state>/<connector>.json` is written beside itself, synced, renamed over the old one, and the
//! folder synced: after any crash either the old or the new checkpoint is there, whole. The host's
//! state (schema versions, which grow with the tables and seldom change) is in a file of its own,
//! `<connector>.<digest>.host`, named by its content and written before the first position that
//! needs it; that position's document names the digest, so both change at once.
//!
//! A lock file keeps a second process out; a generation, compared before each write, catches what a
//! lock on a network file system may miss. `schemas/position/v1` describes the document.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rowtide_sdk::{Checkpoint, Class, Code, Error, Finding, Origin, Position, Severity};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::schema::HostState;

/// RT4001: the state folder or file cannot be used.
pub const STATE_IO: Code = Code("RT4001");
/// RT4002: the saved position is damaged.
const STATE_DAMAGED: Code = Code("RT4002");
/// RT4006: another process holds the state.
const STATE_LOCKED: Code = Code("RT4006");
/// RT4007: the state changed under us.
const STATE_CHANGED: Code = Code("RT4007");

/// The document on disk. `sha256` covers all the rest.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    connector: String,
    generation: u64,
    sha256: String,
    position: Box<RawValue>,
    /// The SHA-256 of the host's state, which is in a file of its own.
    host: String,
}

impl Document {
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for part in
            [self.connector.as_str(), &self.generation.to_string(), self.position.get(), &self.host]
        {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        hex(&hash.finalize())
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file of the host's state with this digest.
fn host_path(folder: &Path, connector: &str, digest: &str) -> PathBuf {
    let short: String = digest.chars().take(16).collect();
    folder.join(format!("{connector}.{short}.host"))
}

/// A connector's saved position, held exclusively while this lives.
#[derive(Debug)]
pub struct FileStore {
    folder: PathBuf,
    path: PathBuf,
    connector: String,
    generation: u64,
    /// The host's state that is on disk, with its digest.
    host: Option<(Arc<str>, String)>,
    /// Held for its lock.
    _lock: File,
}

pub(super) fn io_error(error: io::Error, what: &str, path: &Path) -> Error {
    let class = match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::Interrupted
        | ErrorKind::TimedOut => Class::Transient,
        _ => Class::Fatal,
    };
    Error::new(class, Origin::Host, STATE_IO, format!("cannot {what} {}", path.display()))
        .with_source(error)
        .with_remedy("give Rowtide a state folder that it may write to and that has room (`state` in the configuration)")
}

impl FileStore {
    /// Opens and locks the connector's state, making the folder where it is missing.
    ///
    /// # Errors
    /// Fatal where the folder cannot be used; fenced where another process holds it.
    pub fn open(folder: &Path, connector: &str) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| io_error(error, "make the folder", folder))?;
        let lock_path = folder.join(format!("{connector}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| io_error(error, "open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(
                Class::Fenced,
                Origin::Host,
                STATE_LOCKED,
                format!("another process holds {}", lock_path.display()),
            )
            .with_remedy("stop the other Rowtide, or give this one a state folder of its own"),
            TryLockError::Error(error) => io_error(error, "lock", &lock_path),
        })?;
        Ok(Self {
            path: folder.join(format!("{connector}.json")),
            folder: folder.to_owned(),
            connector: connector.to_owned(),
            generation: 0,
            host: None,
            _lock: lock,
        })
    }

    /// Reads the saved checkpoint.
    ///
    /// # Errors
    /// Fatal where the file is damaged or belongs to another connector.
    pub fn load(&mut self) -> Result<Option<Checkpoint>, Error> {
        let Some(document) = read_of(&self.path, &self.connector)? else { return Ok(None) };
        let checkpoint = with_host(&self.folder, &document)?;
        self.generation = document.generation;
        self.host = Some((Arc::clone(&checkpoint.host), document.host));
        Ok(Some(checkpoint))
    }

    /// Replaces the saved checkpoint; on return it is on disk.
    ///
    /// # Errors
    /// Transient where the disk is full, fatal where it cannot be written, fenced where somebody
    /// else wrote meanwhile. The old checkpoint stays whole in each case.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let on_disk = read(&self.path)?.map_or(0, |document| document.generation);
        if on_disk != self.generation {
            return Err(Error::new(
                Class::Fenced,
                Origin::Host,
                STATE_CHANGED,
                format!("somebody else wrote {} meanwhile", self.path.display()),
            )
            .with_remedy("see that only one Rowtide uses this state folder"));
        }
        let host = self.save_host(&checkpoint.host)?;
        let generation = self.generation.saturating_add(1);
        let position =
            RawValue::from_string(checkpoint.position.as_str().to_owned()).map_err(|error| {
                Error::fatal(Origin::Host, STATE_IO, "a position is not JSON").with_source(error)
            })?;
        let mut document = Document {
            version: 1,
            connector: self.connector.clone(),
            generation,
            sha256: String::new(),
            position,
            host: host.clone(),
        };
        document.sha256 = document.digest();
        let mut text = serde_json::to_vec(&document).map_err(|error| {
            Error::fatal(Origin::Host, STATE_IO, "a position cannot be written").with_source(error)
        })?;
        text.push(b'\n');
        replace(&self.folder, &self.path, &text)
            .map_err(|error| io_error(error, "write", &self.path))?;
        self.generation = generation;
        let is_new = self.host.as_ref().is_none_or(|(_, digest)| *digest != host);
        if is_new {
            self.remove_others(&host_path(&self.folder, &self.connector, &host));
        }
        self.host = Some((Arc::clone(&checkpoint.host), host));
        Ok(())
    }

    /// Sees that a checkpoint as large as the one on disk could be saved. A run that could not save
    /// where it stands would publish again what the run before it did.
    ///
    /// # Errors
    /// Transient where the disk is full, fatal where it cannot be written.
    pub fn try_out(&self) -> Result<(), Error> {
        let temporary = temporary(&self.path);
        let tried = fs::read(&self.path).and_then(|text| {
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::remove_file(&temporary)
        });
        tried.map_err(|error| io_error(error, "write", &self.path))
    }

    /// Writes the host's state where it is not the one on disk already, and gives its digest.
    fn save_host(&self, host: &Arc<str>) -> Result<String, Error> {
        if let Some((saved, digest)) = &self.host
            && (Arc::ptr_eq(saved, host) || saved == host)
        {
            return Ok(digest.clone());
        }
        let digest = hex(&Sha256::digest(host.as_bytes()));
        let path = host_path(&self.folder, &self.connector, &digest);
        replace(&self.folder, &path, host.as_bytes())
            .map_err(|error| io_error(error, "write", &path))?;
        Ok(digest)
    }

    /// Removes host states that no document names any more. One that stays does no harm.
    fn remove_others(&self, current: &Path) {
        let prefix = format!("{}.", self.connector);
        let is_ours = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&prefix) && (name.ends_with(".host") || name.ends_with(".host.tmp"))
        };
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if is_ours(&path) && path != current {
                let _stays = fs::remove_file(path);
            }
        }
    }
}

/// Puts a file in the folder in the place of the one that has its name; on return it is on disk.
pub(super) fn replace(folder: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// The name under which a file is written before it takes its own.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::fatal(
        Origin::Host,
        STATE_DAMAGED,
        format!("the saved position in {} is damaged: {why}", path.display()),
    )
    .with_remedy(
        "restore NAME.json and the .host file beside it from one backup, or move both away and run `rowtide position adopt --connector NAME` to go on from where the replication slot stands, or the binlog ends",
    )
}

fn read(path: &Path) -> Result<Option<Document>, Error> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut file) => {
            file.read_to_end(&mut text).map_err(|error| io_error(error, "read", path))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error, "read", path)),
    }
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| damaged(path, "it is no checkpoint").with_source(error))?;
    if document.version != 1 {
        return Err(damaged(path, "it is of a version this Rowtide does not know"));
    }
    if document.sha256 != document.digest() {
        return Err(damaged(path, "its checksum does not match"));
    }
    Ok(Some(document))
}

/// The checkpoint of a document: its position, and the host's state that it names.
fn with_host(folder: &Path, document: &Document) -> Result<Checkpoint, Error> {
    let path = host_path(folder, &document.connector, &document.host);
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidData => {
            damaged(&path, "the document names it").with_source(error)
        }
        _ => io_error(error, "read", &path),
    })?;
    if hex(&Sha256::digest(text.as_bytes())) != document.host {
        return Err(damaged(&path, "its checksum does not match"));
    }
    Ok(Checkpoint { position: Position::new(document.position.get()), host: text.into() })
}

/// As [`read`], of the connector's own file.
fn read_of(path: &Path, connector: &str) -> Result<Option<Document>, Error> {
    let document = read(path)?;
    match &document {
        Some(document) if document.connector != connector => {
            Err(damaged(path, "it belongs to another connector"))
        }
        _ => Ok(document),
    }
}

/// The checkpoint that is saved now, without holding the state: the connector may be running.
///
/// # Errors
/// As [`FileStore::load`].
pub fn saved(folder: &Path, connector: &str) -> Result<Option<Checkpoint>, Error> {
    let path = folder.join(format!("{connector}.json"));
    let Some(mut document) = read_of(&path, connector)? else { return Ok(None) };
    loop {
        let found = with_host(folder, &document);
        // The connector may have put both in new files meanwhile.
        match read_of(&path, connector)? {
            Some(newer) if found.is_err() && newer.host != document.host => document = newer,
            _ => return found.map(Some),
        }
    }
}

/// The preflight of a connector's state: the saved checkpoint, and what would keep a run from it.
/// Changes nothing.
pub fn check(folder: &Path, connector: &str) -> (Option<Checkpoint>, Vec<Finding>) {
    let mut findings = Vec::new();
    findings.extend(check_writable(folder).err().as_ref().map(Finding::from));
    if is_held(folder, connector) {
        let message = format!("a process holds the state of {connector} in {}", folder.display());
        let finding = Finding::new(Severity::Info, STATE_LOCKED, message);
        findings.push(finding.with_remedy("this is as it should be while the connector runs"));
    }
    let saved = saved(folder, connector);
    // A folder that cannot be used is named once.
    let is_new = |error: &&Error| findings.iter().all(|finding| finding.code != error.code());
    let unreadable = saved.as_ref().err().filter(is_new).map(Finding::from);
    findings.extend(unreadable);
    (saved.unwrap_or_default(), findings)
}

/// Whether a process holds the connector's state now. Changes nothing.
pub fn is_held(folder: &Path, connector: &str) -> bool {
    let lock = File::open(folder.join(format!("{connector}.lock")));
    lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// With less space than this no state folder passes the preflight.
const PROBE_BYTES: usize = 64 * 1024;

/// Tries to fill an unnamed file in the folder, or in the one that it would be created in.
fn check_writable(folder: &Path) -> Result<(), Error> {
    let existing = folder.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or_else(|| Path::new("."));
    let filled = tempfile::tempfile_in(existing)
        .and_then(|mut unnamed| unnamed.write_all(&[0; PROBE_BYTES]));
    filled.map_err(|error| io_error(error, "write to", existing))
}

/// The connector, other than `connector`, whose saved state in `folder` claims `resource`.
///
/// # Errors
/// Fatal where the folder or a state file in it cannot be read.
pub fn others_claiming(
    folder: &Path,
    connector: &str,
    resource: &str,
) -> Result<Option<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error, "read the folder", folder)),
    };
    for entry in entries {
        let path = entry.map_err(|error| io_error(error, "read the folder", folder))?.path();
        // What is wrong with the connector's own file, loading it says.
        let is_own = path.file_stem().is_some_and(|stem| stem == connector);
        if is_own || path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(other) = read(&path)?.map(|document| document.connector) else { continue };
        if other == connector {
            continue;
        }
        let Some(checkpoint) = saved(folder, &other)? else { continue };
        if HostState::parse(&checkpoint.host)?.claims.iter().any(|held| held == resource) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(lsn: &str) -> Checkpoint {
        Checkpoint {
            position: Position::new(format!("{{\"confirm\":\"{lsn}\"}}")),
            host: "{\"schemas\":{},\"claims\":[\"slot/a\"]}".into(),
        }
    }

    #[test]
    fn a_saved_checkpoint_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), "shop").unwrap();
        assert_eq!(store.load().unwrap(), None);
        store.save(&checkpoint("0/1")).unwrap();
        store.save(&checkpoint("0/2")).unwrap();
        drop(store);
        let mut store = FileStore::open(folder.path(), "shop").unwrap();
        assert_eq!(store.load().unwrap(), Some(checkpoint("0/2")));
        store.save(&checkpoint("0/3")).unwrap();
        let holder = others_claiming(folder.path(), "other", "slot/a").unwrap();
        assert_eq!(holder.as_deref(), Some("shop"));
        assert_eq!(others_claiming(folder.path(), "shop", "slot/a").unwrap(), None);
    }

    #[test]
    fn a_second_holder_is_fenced() {
        let folder = tempfile::tempdir().unwrap();
        let _held = FileStore::open(folder.path(), "shop").unwrap();
        let error = FileStore::open(folder.path(), "shop").unwrap_err();
        assert_eq!((error.code(), error.class()), (STATE_LOCKED, Class::Fenced));
    }

    #[test]
    fn a_write_by_somebody_else_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), "shop").unwrap();
        store.save(&checkpoint("0/1")).unwrap();
        let stolen = fs::read_to_string(&store.path).unwrap();
        store.save(&checkpoint("0/2")).unwrap();
        fs::write(&store.path, stolen).unwrap();
        assert_eq!(store.save(&checkpoint("0/3")).unwrap_err().code(), STATE_CHANGED);
    }

    #[test]
    fn the_host_state_is_written_when_it_changes_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), "shop").unwrap();
        let hosts = || -> Vec<(PathBuf, std::time::SystemTime)> {
            let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            let hosts = entries.filter(|path| path.to_string_lossy().contains(".host"));
            hosts.map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap())).collect()
        };
        store.save(&checkpoint("0/1")).unwrap();
        let first = hosts();
        assert_eq!(first.len(), 1);
        store.save(&checkpoint("0/2")).unwrap();
        assert_eq!(hosts(), first, "unchanged, and not written again");
        drop(store);
        let mut store = FileStore::open(folder.path(), "shop").unwrap();
        store.load().unwrap();
        store.save(&checkpoint("0/3")).unwrap();
        assert_eq!(hosts(), first, "nor by the next process");

        let changed = Checkpoint { host: "{\"schemas\":{}}".into(), ..checkpoint("0/4") };
        // What a crash between the two files leaves: a state that no document names.
        store.save_host(&changed.host).unwrap();
        assert_eq!(hosts().len(), 2);
        assert_eq!(saved(folder.path(), "shop").unwrap(), Some(checkpoint("0/3")));
        store.save(&changed).unwrap();
        assert_eq!(hosts().len(), 1, "the old one is gone");
        assert_eq!(saved(folder.path(), "shop").unwrap(), Some(changed));

        let (host, _) = hosts().remove(0);
        fs::write(&host, "{\"schemas\":[]}").unwrap();
        assert_eq!(store.load().unwrap_err().code(), STATE_DAMAGED);
        fs::remove_file(&host).unwrap();
        assert_eq!(store.load().unwrap_err().code(), STATE_DAMAGED);
    }

    #[test]
    fn a_torn_or_flipped_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path(), "shop").unwrap();
        store.save(&checkpoint("0/12345")).unwrap();
        let whole = fs::read(&store.path).unwrap();
        for len in 0..whole.len() - 1 {
            fs::write(&store.path, &whole[..len]).unwrap();
            assert_eq!(store.load().unwrap_err().code(), STATE_DAMAGED, "cut to {len}");
        }
        for at in 0..whole.len() - 1 {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x01;
            fs::write(&store.path, &flipped).unwrap();
            assert!(store.load().is_err(), "bit flipped at {at}");
        }
        fs::write(&store.path, &whole).unwrap();
        assert_eq!(store.load().unwrap(), Some(checkpoint("0/12345")));
    }
}
