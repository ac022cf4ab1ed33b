//! What a start finds in the folder, and putting it back to what the manifest says.

use std::fs::{self, DirEntry, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rowtide_sdk::{Error, Origin, Result};

use super::disk::{
    Disk, LOCK, MANIFEST, MANIFEST_TEMP, check_topic, read_manifest, segment_number, segment_path,
};
use super::manifest::{Manifest, Mark};
use crate::error::{DATA_LOST, NO_MANIFEST, file_error};

/// Where a mount point keeps what its own repair found.
const LOST_AND_FOUND: &str = "lost+found";

/// What has to be undone so that the files end where the manifest says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Uncommitted {
    /// Segments with bytes beyond their committed length: path, committed, found.
    longer: Vec<(PathBuf, u64, u64)>,
    /// Segments that no commit knows, with their lengths.
    unknown: Vec<(PathBuf, u64)>,
    /// Folders of topics that no commit knows.
    folders: Vec<PathBuf>,
}

/// The committed state of a folder.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) manifest: Manifest,
    /// The checksum of the manifest on disk.
    pub(crate) checksum: String,
}

/// Reads the manifest and undoes everything that was not committed. A second call finds nothing to
/// do; a crash in between is made good by the next one.
///
/// # Errors
/// Fatal where the folder is not as a writer of this kind leaves it (RT3502, RT3503, RT3504).
pub(crate) fn recover(disk: &Disk) -> Result<Recovered> {
    let root = disk.root();
    let Some((manifest, checksum)) = look(root)? else {
        let manifest = Manifest::empty();
        let encoded = manifest.encode()?;
        // Before the first segment, so that segments without a manifest are always an accident.
        disk.replace_manifest(&encoded.bytes)?;
        return Ok(Recovered { manifest, checksum: encoded.checksum });
    };
    let uncommitted = survey(root, &manifest)?;
    uncommitted.undo()?;
    let (bytes, segments) = (uncommitted.bytes(), uncommitted.unknown.len());
    tracing::info!(dir = %root.display(), generation = manifest.generation(), "jsonl folder opened");
    if bytes > 0 || segments > 0 {
        tracing::info!(
            bytes,
            segments,
            "what an earlier run wrote and did not commit is dropped: it comes again",
        );
    }
    Ok(Recovered { manifest, checksum })
}

/// The manifest of a folder; `None` where the folder is as good as empty.
///
/// # Errors
/// RT3502 where there are files but no manifest, RT3503 where it cannot be trusted.
pub(crate) fn look(root: &Path) -> Result<Option<(Manifest, String)>> {
    if let Some(bytes) = read_manifest(root)? {
        return Manifest::decode(&bytes, &root.join(MANIFEST)).map(Some);
    }
    let mut others = 0_usize;
    for entry in entries(root)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let is_ours = [LOCK, MANIFEST_TEMP, LOST_AND_FOUND].contains(&&*name);
        if !is_ours && !name.starts_with('.') {
            others = others.saturating_add(1);
        }
    }
    if others == 0 {
        return Ok(None);
    }
    Err(Error::fatal(
        Origin::Sink,
        NO_MANIFEST,
        format!("the folder {} has no manifest.json but {others} other entries", root.display()),
    )
    .with_remedy(
        "set `dir` to an empty or new folder; if the manifest was lost, move the folder away (its \
         files stay readable); see `rowtide explain RT3502`",
    ))
}

/// Compares the files with the manifest. Changes nothing.
///
/// # Errors
/// RT3504 where committed bytes are missing.
pub(crate) fn survey(root: &Path, manifest: &Manifest) -> Result<Uncommitted> {
    let mut found = Uncommitted::default();
    for (topic, mark) in &manifest.topics {
        if !mark.finished {
            found.compare_open(root, topic, mark)?;
        }
        found.collect_newer(&root.join(topic), mark.segment)?;
    }
    for entry in entries(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if manifest.topics.contains_key(name) || check_topic(name).is_err() {
            continue;
        }
        if entry.path().is_dir() {
            let before = found.unknown.len();
            found.collect_newer(&entry.path(), 0)?;
            if found.unknown.len() > before {
                found.folders.push(entry.path());
            }
        }
    }
    Ok(found)
}

impl Uncommitted {
    /// The segment that was open at the last commit must hold all its committed bytes.
    fn compare_open(&mut self, root: &Path, topic: &str, mark: &Mark) -> Result<()> {
        let path = segment_path(root, topic, mark.segment);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(file_error("look at", &path, error)),
        };
        if length < mark.length {
            return Err(Error::fatal(
                Origin::Sink,
                DATA_LOST,
                format!(
                    "{} has {length} bytes, but {} were committed",
                    path.display(),
                    mark.length
                ),
            )
            .with_remedy(
                "restore the whole folder from a backup, or move it away and start with an empty \
                 one; see `rowtide explain RT3504`",
            ));
        }
        if length > mark.length {
            self.longer.push((path, mark.length, length));
        }
        Ok(())
    }

    /// Segments above the newest that is committed.
    fn collect_newer(&mut self, folder: &Path, newest: u64) -> Result<()> {
        for entry in entries(folder)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(segment_number);
            if number.is_some_and(|number| number > newest) {
                let metadata =
                    entry.metadata().map_err(|error| file_error("look at", folder, error))?;
                self.unknown.push((entry.path(), metadata.len()));
            }
        }
        Ok(())
    }

    /// Bytes that will be dropped.
    fn bytes(&self) -> u64 {
        let longer =
            self.longer.iter().map(|(_, committed, found)| found.saturating_sub(*committed));
        longer.chain(self.unknown.iter().map(|(_, length)| *length)).sum()
    }

    /// Drops them. Not synced: a power failure that brings them back is met by the next start.
    fn undo(&self) -> Result<()> {
        for (path, committed, _) in &self.longer {
            let opened = OpenOptions::new().write(true).open(path);
            let truncated = opened.and_then(|file| file.set_len(*committed));
            truncated.map_err(|error| file_error("truncate", path, error))?;
        }
        for (path, _) in &self.unknown {
            fs::remove_file(path).map_err(|error| file_error("remove", path, error))?;
        }
        for folder in &self.folders {
            // Left in place where it holds anything else.
            let _not_empty = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// The entries of a folder; none where it does not exist.
fn entries(folder: &Path) -> Result<impl Iterator<Item = Result<DirEntry>> + use<>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => Some(listed),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(file_error("list", folder, error)),
    };
    let folder = folder.to_owned();
    Ok(listed
        .into_iter()
        .flatten()
        .map(move |entry| entry.map_err(|error| file_error("list", &folder, error))))
}
