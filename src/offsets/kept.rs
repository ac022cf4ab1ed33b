//! Where a sink that keeps the position itself has it. `<state>/<connector>.kept` says so in words, so that
//! another sink, or the same with other settings, does not begin anew without a word.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rowtide_sdk::Error;

use super::file::{io_error, replace};

/// What is to be noted once a position is saved.
#[derive(Debug, Clone)]
pub struct KeptNote {
    /// The state folder.
    pub folder: PathBuf,
    /// The connector's name.
    pub connector: String,
    /// The sink's resource, such as `the folder /data/events`.
    pub place: String,
}

fn path(folder: &Path, connector: &str) -> PathBuf {
    folder.join(format!("{connector}.kept"))
}

impl KeptNote {
    /// Writes it, where it does not stand there already. Blocks.
    ///
    /// # Errors
    /// Where the state folder cannot be written.
    pub fn write(&self) -> Result<(), Error> {
        if kept(&self.folder, &self.connector)?.as_ref() == Some(&self.place) {
            return Ok(());
        }
        let path = path(&self.folder, &self.connector);
        fs::create_dir_all(&self.folder)
            .and_then(|()| replace(&self.folder, &path, format!("{}\n", self.place).as_bytes()))
            .map_err(|error| io_error(error, "write", &path))
    }
}

/// Where a sink kept the connector's position when that was noted last.
///
/// # Errors
/// Where the note cannot be read.
pub fn kept(folder: &Path, connector: &str) -> Result<Option<String>, Error> {
    let path = path(folder, connector);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(error, "read", &path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_place_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(kept(&state, "shop").unwrap(), None);
        for place in ["the folder a", "the folder a", "the folder b"] {
            let note = KeptNote {
                folder: state.clone(),
                connector: "shop".to_owned(),
                place: place.to_owned(),
            };
            note.write().unwrap();
            assert_eq!(kept(&state, "shop").unwrap().as_deref(), Some(place));
        }
        assert_eq!(kept(&state, "other").unwrap(), None);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }
}
