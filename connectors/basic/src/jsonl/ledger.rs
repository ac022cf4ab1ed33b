//! What the writer has handed to the kernel and no commit has taken yet.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rowtide_sdk::Checkpoint;

use super::disk::Segment;
use super::manifest::Mark;

/// Uncommitted bytes at which a commit starts by itself; the writer waits while there are so many
/// and the commit before is still at work. Twice this may therefore be lost (and repeated).
const BYTES: u64 = 32 << 20;
/// The same for batches, whose completions wait in memory.
const BATCHES: u64 = 4096;
/// The same for files, which stay open until they are synced.
const FILES: usize = 128;

/// The books between the writing and the committing thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Books {
    pending: Pending,
    /// Batches in [`Books::pending`].
    batches: u64,
    bytes: u64,
    files: usize,
    /// Batches written in all, and those that a commit has taken.
    written: u64,
    taken: u64,
    /// A commit is wanted once so many batches are written.
    asked: u64,
    /// A commit is wanted at once.
    at_once: bool,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// Commit the rest and stop.
    Finished,
    /// Stop.
    Abandoned,
}

/// One commit's worth.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The topics that changed.
    pub(crate) topics: HashMap<Arc<str>, Touched>,
    /// Whether a topic's folder is new.
    pub(crate) has_new_folder: bool,
    /// The checkpoint of the newest batch.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Batches written in all, up to the newest one in here.
    pub(crate) written: u64,
}

/// A topic that changed.
#[derive(Debug)]
pub(crate) struct Touched {
    /// Its newest segment.
    pub(crate) mark: Mark,
    /// Segments with unsynced bytes; the last one may be the newest.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Whether a segment is new, so that its name is not durable yet.
    pub(crate) has_new_segment: bool,
}

/// One write to one topic, or the end of its segment.
#[derive(Debug)]
pub(crate) struct Touch {
    pub(crate) topic: Arc<str>,
    pub(crate) mark: Mark,
    /// The segment written to; `None` where the mark alone changed.
    pub(crate) segment: Option<Arc<Segment>>,
    pub(crate) is_new_segment: bool,
    pub(crate) is_new_folder: bool,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a written batch. `written` counts the batches in all.
    pub(crate) fn enter(
        &self,
        touches: impl Iterator<Item = Touch>,
        checkpoint: Checkpoint,
        bytes: u64,
        written: u64,
    ) {
        let mut books = self.lock();
        touches.for_each(|touch| books.touch(touch));
        books.pending.checkpoint = Some(checkpoint);
        books.pending.written = written;
        books.batches += 1;
        books.bytes = books.bytes.saturating_add(bytes);
        books.written = written;
        if books.is_due() {
            self.changed.notify_all();
        }
    }

    /// Enters segments that were finished between batches, and asks for a commit.
    pub(crate) fn finish_segments(&self, touches: impl Iterator<Item = Touch>) {
        let mut books = self.lock();
        touches.for_each(|touch| books.touch(touch));
        books.at_once = true;
        self.changed.notify_all();
    }

    /// Asks for a commit as soon as `count` batches are written.
    pub(crate) fn ask(&self, count: u64) {
        let mut books = self.lock();
        books.asked = books.asked.max(count);
        if books.is_due() {
            self.changed.notify_all();
        }
    }

    /// Waits until less is uncommitted than may be.
    pub(crate) fn wait_for_room(&self) {
        let mut books = self.lock();
        while books.is_full() && books.end == End::Open {
            books = self.changed.wait(books).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will be written: commit the rest.
    pub(crate) fn finish(&self) {
        self.end(End::Finished);
    }

    /// Nothing more may be committed.
    pub(crate) fn abandon(&self) {
        self.end(End::Abandoned);
    }

    fn end(&self, end: End) {
        let mut books = self.lock();
        if books.end != End::Abandoned {
            books.end = end;
        }
        self.changed.notify_all();
    }

    /// Waits until a commit is due and takes it; `None` at the end.
    pub(crate) fn take(&self) -> Option<Pending> {
        let mut books = self.lock();
        loop {
            if books.end == End::Abandoned {
                return None;
            }
            if books.is_due() {
                break;
            }
            if books.end == End::Finished {
                return None;
            }
            books = self.changed.wait(books).unwrap_or_else(PoisonError::into_inner);
        }
        books.taken = books.written;
        books.batches = 0;
        books.bytes = 0;
        books.files = 0;
        books.at_once = false;
        let mut pending = std::mem::take(&mut books.pending);
        pending.written = books.written;
        self.changed.notify_all();
        Some(pending)
    }
}

impl Books {
    fn touch(&mut self, touch: Touch) {
        self.pending.has_new_folder |= touch.is_new_folder;
        let touched = self.pending.topics.entry(touch.topic).or_insert_with(|| Touched {
            mark: touch.mark,
            segments: Vec::new(),
            has_new_segment: false,
        });
        touched.mark = touch.mark;
        touched.has_new_segment |= touch.is_new_segment;
        if let Some(segment) = touch.segment
            && !touched.segments.last().is_some_and(|last| Arc::ptr_eq(last, &segment))
        {
            touched.segments.push(segment);
            self.files += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= BYTES || self.batches >= BATCHES || self.files >= FILES
    }

    fn is_due(&self) -> bool {
        let is_asked = self.asked > self.taken && self.written >= self.asked;
        let is_rest = self.end == End::Finished && self.written > self.taken;
        self.at_once || self.is_full() || is_asked || is_rest
    }
}
