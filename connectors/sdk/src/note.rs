//! What a source notes for its next run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Noted {
    text: Option<Arc<str>>,
    is_unsaved: bool,
}

/// A text of the source's own, small and without row values or secrets, that the host saves with the
/// position and never looks into.
#[derive(Debug, Clone, Default)]
pub struct Note(Arc<Mutex<Noted>>);

impl Note {
    /// Starts with what was saved.
    pub fn new(saved: Option<Arc<str>>) -> Self {
        Self(Arc::new(Mutex::new(Noted { text: saved, is_unsaved: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted last, in this run or in an earlier one.
    pub fn get(&self) -> Option<Arc<str>> {
        self.lock().text.clone()
    }

    /// Notes a text in place of the last one.
    pub fn set(&self, text: impl Into<Arc<str>>) {
        let text = text.into();
        let mut noted = self.lock();
        if noted.text.as_ref() != Some(&text) {
            *noted = Noted { text: Some(text), is_unsaved: true };
        }
    }

    /// What was noted, where it is another text than was taken last.
    pub fn unsaved(&self) -> Option<Arc<str>> {
        let mut noted = self.lock();
        let is_unsaved = std::mem::take(&mut noted.is_unsaved);
        noted.text.clone().filter(|_| is_unsaved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_to_be_saved_once() {
        let note = Note::new(Some(Arc::from("a")));
        assert_eq!((note.get().as_deref(), note.unsaved()), (Some("a"), None));
        note.set("a");
        assert_eq!(note.unsaved(), None);
        note.set("b");
        assert_eq!(note.unsaved().as_deref(), Some("b"));
        assert_eq!((note.get().as_deref(), note.unsaved()), (Some("b"), None));
    }
}
