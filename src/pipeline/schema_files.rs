//! The folder of the row schemas: `<dir>/<subject>/<version>.schema.json`, one file per version.
//!
//! A file is written beside itself, synced and renamed, and its folder synced, before the first event
//! of its version leaves: whoever sees a version finds its schema, whole. What is there already is
//! left alone, so that a start costs one read per table.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rowtide_sdk::{Class, Code, Error, Origin};
use serde_json::json;

use super::commit::TASK_GONE;
use crate::schema::{RowSchema, SchemaVersion};

/// RT5031: the folder of the schemas cannot be used.
const SCHEMA_FILE: Code = Code("RT5031");

/// Writes schemas into a folder.
#[derive(Debug, Clone)]
pub(crate) struct SchemaFiles {
    dir: PathBuf,
}

fn file_error(error: io::Error, what: &str, path: &Path) -> Error {
    let class = match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::Interrupted
        | ErrorKind::TimedOut => Class::Transient,
        _ => Class::Fatal,
    };
    let message = format!("cannot {what} {}", path.display());
    Error::new(class, Origin::Config, SCHEMA_FILE, message).with_source(error).with_remedy(
        "give schema_changes.dir a folder that Rowtide may write to and that has room, or take it out",
    )
}

impl SchemaFiles {
    /// Writes into `dir`, which need not exist yet.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the folder, and sees that files can be made in it.
    ///
    /// # Errors
    /// `RT5031` where that cannot be.
    pub(crate) fn open(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.dir)
            .map_err(|error| file_error(error, "make the folder", &self.dir))?;
        self.check()
    }

    /// Sees whether files could be made in the folder, or in the one that it would be made in.
    ///
    /// # Errors
    /// `RT5031` where they could not.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let existing =
            self.dir.ancestors().find(|path| path.exists() || path.as_os_str().is_empty());
        let existing = match existing {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => Path::new("."),
        };
        let unnamed = tempfile::tempfile_in(existing);
        unnamed.map(drop).map_err(|error| file_error(error, "write to", existing))
    }

    /// Sees to it that the folder holds a version's schema.
    ///
    /// # Errors
    /// `RT5031` where it cannot be written; transient where the disk is full.
    pub(crate) async fn keep(
        &self,
        subject: &str,
        version: SchemaVersion,
        schema: &RowSchema,
    ) -> Result<(), Error> {
        let folder = self.dir.join(folder_name(subject));
        let path = folder.join(format!("{version}.schema.json"));
        let text = document(schema);
        let kept = tokio::task::spawn_blocking(move || keep(&folder, &path, &text));
        kept.await.map_err(|error| {
            let gone = "the task that writes a schema ended";
            Error::fatal(Origin::Host, TASK_GONE, gone).with_source(error)
        })?
    }
}

/// The row's schema, with that of key images as the definition `key_image`.
fn document(schema: &RowSchema) -> String {
    let mut document = schema.row.clone();
    if let Some(object) = document.as_object_mut() {
        object.insert("$defs".to_owned(), json!({ "key_image": schema.key_image }));
    }
    format!("{document:#}\n")
}

/// The subject as the name of a folder: what a name cannot hold, and the percent sign, as `%` and two
/// digits. A subject begins with the connector's name, so it is never `.` or `..`.
fn folder_name(subject: &str) -> String {
    let mut name = String::new();
    for c in subject.chars() {
        if matches!(c, '/' | '\\' | '%') || c.is_ascii_control() {
            name.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            name.push(c);
        }
    }
    name
}

fn keep(folder: &Path, path: &Path, text: &str) -> Result<(), Error> {
    let is_other = match fs::read(path) {
        Ok(found) if found == text.as_bytes() => return Ok(()),
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(file_error(error, "read", path)),
    };
    replace(folder, path, text).map_err(|error| file_error(error, "write", path))?;
    if is_other {
        tracing::warn!(
            code = %SCHEMA_FILE, path = %path.display(),
            "the file held another schema, of an earlier state or connector, and was replaced"
        );
    }
    Ok(())
}

fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    let temporary = path.with_extension("json.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: SchemaVersion = SchemaVersion { major: 1, minor: 2 };

    fn schema(title: &str) -> RowSchema {
        RowSchema { row: json!({ "title": title }), key_image: json!({ "type": "object" }) }
    }

    #[tokio::test]
    async fn a_schema_is_written_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files = SchemaFiles::new(&folder.path().join("a/b"));
        files.check().unwrap();
        assert!(!folder.path().join("a").exists(), "a check makes nothing");
        files.open().unwrap();
        let subject = "shop.public.a/b%.é";
        files.keep(subject, VERSION, &schema("x")).await.unwrap();
        let path = folder.path().join("a/b/shop.public.a%2Fb%25.é/1.2.schema.json");
        let written = fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(value["title"], "x");
        assert_eq!(value["$defs"]["key_image"]["type"], "object");
        let modified = || path.metadata().unwrap().modified().unwrap();
        let before = modified();
        files.keep(subject, VERSION, &schema("x")).await.unwrap();
        assert_eq!(modified(), before, "what is there is left alone");
        // What a crash left half-written is never taken for the file.
        fs::write(path.with_extension("json.tmp"), "{").unwrap();
        files.keep(subject, VERSION, &schema("y")).await.unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\"y\""));
        let entries = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(entries.count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        let files = SchemaFiles::new(&blocked.join("below"));
        assert_eq!(files.check().unwrap_err().code(), SCHEMA_FILE);
        assert_eq!(files.open().unwrap_err().code(), SCHEMA_FILE);
        let error = files.keep("s", VERSION, &schema("x")).await.unwrap_err();
        assert_eq!((error.code(), error.class()), (SCHEMA_FILE, Class::Fatal));
    }
}
