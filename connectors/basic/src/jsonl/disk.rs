//! The folder: its lock, its names, and every change made to it while the sink runs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rowtide_sdk::{Class, Error, Origin, Result};

use super::config::JsonlConfig;
use crate::error::{BAD_TOPIC, DATA_LOST, LOCKED, file_error};
use crate::lines::Stretches;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const MANIFEST_TEMP: &str = "manifest.json.tmp";
pub(crate) const LOCK: &str = "lock";
const SEGMENT_SUFFIX: &str = ".jsonl";
/// The longest name that common file systems take.
const NAME_MAX: usize = 255;

/// The locked folder. Whoever holds this is the only writer.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    fsync: bool,
    /// Keeps the lock until the last thread of the sink is gone.
    _lock: File,
    #[cfg(test)]
    pub(crate) journal: super::power::Journal,
}

/// An open segment. Bytes go to its end.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
}

impl Segment {
    /// Its present length in bytes.
    pub(crate) fn length(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        metadata.map(|it| it.len()).map_err(|error| file_error("look at", &self.path, error))
    }

    /// The file's path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk {
    /// Creates the folder where it is missing and takes its lock.
    ///
    /// # Errors
    /// RT3501 where somebody else has the lock; what keeps the folder from being used otherwise.
    pub(crate) fn lock(config: &JsonlConfig) -> Result<Self> {
        create_folders(&config.dir)?;
        let path = config.dir.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| file_error("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(&config.dir, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(file_error("lock", &path, error)),
        }
        // Only for people and for the message above: the lock itself is the kernel's.
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|error| file_error("write", &path, error))?;
        Ok(Self {
            root: config.dir.clone(),
            fsync: config.fsync,
            _lock: lock,
            #[cfg(test)]
            journal: super::power::Journal::of(&config.dir),
        })
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates a topic's folder; says whether it is new.
    pub(crate) fn create_topic(&self, topic: &str) -> Result<bool> {
        check_topic(topic)?;
        let path = self.root.join(topic);
        match fs::create_dir(&path) {
            Ok(()) => {
                #[cfg(test)]
                self.journal.folder(topic);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
            Err(error) => Err(file_error("create", &path, error)),
        }
    }

    /// Creates a segment, which must not exist yet.
    pub(crate) fn create_segment(&self, topic: &str, number: u64) -> Result<Segment> {
        let path = segment_path(&self.root, topic, number);
        let opened = OpenOptions::new().append(true).create_new(true).open(&path);
        let file = opened.map_err(|error| file_error("create", &path, error))?;
        #[cfg(test)]
        self.journal.create(topic, number);
        Ok(Segment { file, path })
    }

    /// Opens a segment to go on at its end, which must be at `length`.
    pub(crate) fn open_segment(&self, topic: &str, number: u64, length: u64) -> Result<Segment> {
        let path = segment_path(&self.root, topic, number);
        let opened = OpenOptions::new().append(true).open(&path);
        let file = opened.map_err(|error| file_error("open", &path, error))?;
        let segment = Segment { file, path };
        let found = segment.length()?;
        if found == length {
            return Ok(segment);
        }
        Err(Error::fatal(
            Origin::Sink,
            DATA_LOST,
            format!(
                "{} has {found} bytes where {length} were written: something else changed it",
                segment.path.display()
            ),
        )
        .with_remedy("keep other programs from writing to the folder, then start again"))
    }

    /// Appends lines.
    pub(crate) fn append(&self, segment: &Segment, lines: &Stretches, data: &[u8]) -> Result<()> {
        let written = lines.write(data, &mut &segment.file);
        written.map_err(|error| file_error("write", &segment.path, error))?;
        #[cfg(test)]
        self.journal.append(&segment.path, lines, data);
        Ok(())
    }

    /// Makes a segment's bytes durable.
    pub(crate) fn sync_segment(&self, segment: &Segment) -> Result<()> {
        if self.fsync {
            let synced = segment.file.sync_data();
            synced.map_err(|error| file_error("sync", &segment.path, error))?;
        }
        #[cfg(test)]
        self.journal.sync(&segment.path);
        Ok(())
    }

    /// Makes the names in a topic's folder durable.
    pub(crate) fn sync_topic(&self, topic: &str) -> Result<()> {
        self.sync_folder(&self.root.join(topic))
    }

    /// Makes the names in the root folder durable.
    pub(crate) fn sync_root(&self) -> Result<()> {
        self.sync_folder(&self.root)
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        if self.fsync {
            sync_folder(path)?;
        }
        #[cfg(test)]
        self.journal.sync(path);
        Ok(())
    }

    /// Replaces the manifest as a whole: after a crash there is the old one or the new one.
    pub(crate) fn replace_manifest(&self, bytes: &[u8]) -> Result<()> {
        let (temp, path) = (self.root.join(MANIFEST_TEMP), self.root.join(MANIFEST));
        let write = || {
            let mut file = File::create(&temp)?;
            file.write_all(bytes)?;
            if self.fsync { file.sync_all() } else { Ok(()) }
        };
        write().map_err(|error| file_error("write", &temp, error))?;
        fs::rename(&temp, &path).map_err(|error| file_error("replace", &path, error))?;
        #[cfg(test)]
        self.journal.replace_manifest(bytes);
        self.sync_root()
    }
}

/// The manifest's bytes; `None` where there is none.
pub(crate) fn read_manifest(root: &Path) -> Result<Option<Vec<u8>>> {
    let path = root.join(MANIFEST);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", &path, error)),
    }
}

/// `<root>/<topic>/<number>.jsonl`; ten digits, so that names sort as numbers.
pub(crate) fn segment_path(root: &Path, topic: &str, number: u64) -> PathBuf {
    root.join(topic).join(format!("{number:010}{SEGMENT_SUFFIX}"))
}

/// The number in a segment's file name; `None` for any other file.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    if digits.len() < 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Whether a topic can be a folder of its own here.
///
/// # Errors
/// RT3506 where it cannot.
pub(crate) fn check_topic(topic: &str) -> Result<()> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_name = !topic.is_empty() && topic.len() <= NAME_MAX && topic.bytes().all(is_legal);
    // A leading dot would also hide the folder, from people and from recovery.
    if is_name && !topic.starts_with('.') && ![MANIFEST, MANIFEST_TEMP, LOCK].contains(&topic) {
        return Ok(());
    }
    Err(Error::fatal(
        Origin::Sink,
        BAD_TOPIC,
        format!("the topic {topic:?} cannot be the name of a folder"),
    )
    .with_remedy(
        "choose a `topic` of letters, digits, dots, dashes and underscores that does not start \
         with a dot, has at most 255 characters and is neither `lock` nor `manifest.json`",
    ))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| file_error("sync", path, error))
}

/// Creates a folder and its missing parents, each durable in the one above.
fn create_folders(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_folders(parent)?;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(file_error("use", path, ErrorKind::NotADirectory.into()));
        }
        Err(error) => return Err(file_error("create", path, error)),
    }
    sync_folder(parent)
}

fn locked(root: &Path, lock: &mut File) -> Error {
    let mut holder = String::new();
    let _unreadable: io::Result<usize> = lock.take(20).read_to_string(&mut holder);
    let holder = holder.trim();
    let (class, who) = match holder.parse::<u32>() {
        // The previous run of this connector may still hang in the kernel: worth waiting for.
        Ok(pid) if pid == std::process::id() => {
            (Class::Transient, "another writer of this process".to_owned())
        }
        Ok(pid) => (Class::Fenced, format!("process {pid}")),
        Err(_) => (Class::Fenced, "another process".to_owned()),
    };
    Error::new(
        class,
        Origin::Sink,
        LOCKED,
        format!("{who} is writing to the folder {}", root.display()),
    )
    .with_remedy("give every connector a folder of its own, or stop the other process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_cannot_be_folders_are_refused() {
        for good in ["shop.public.orders", "A-b_c.9", "locks"] {
            check_topic(good).unwrap();
        }
        let long = "x".repeat(256);
        for bad in ["", ".", "..", ".hidden", "a/b", "lock", "manifest.json", "a b", "ä", &long] {
            assert_eq!(check_topic(bad).unwrap_err().code(), BAD_TOPIC, "{bad}");
        }
    }

    #[test]
    fn segment_names_round_trip_and_nothing_else_is_one() {
        for number in [1, 42, 9_999_999_999, 10_000_000_000] {
            let path = segment_path(Path::new("/r"), "t", number);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(segment_number(name), Some(number));
        }
        for other in ["1.jsonl", "000000000x.jsonl", "0000000001.json", "0000000001.jsonl.gz", ""] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }
}
