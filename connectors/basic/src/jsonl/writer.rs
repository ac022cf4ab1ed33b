//! The writing thread: lines go to the kernel here, and segments are begun and finished.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rowtide_sdk::{RecordBatch, Result};

use super::config::Rotate;
use super::disk::{Disk, Segment};
use super::ledger::{Ledger, Touch};
use super::manifest::{Manifest, Mark};
use crate::handoff::{Handoff, Work};
use crate::lines::{self, Stretches};

/// Files kept open between batches at most.
const OPEN_FILES: usize = 256;

pub(crate) struct Writer {
    disk: Arc<Disk>,
    handoff: Arc<Handoff>,
    ledger: Arc<Ledger>,
    rotate: Rotate,
    topics: HashMap<Arc<str>, Topic>,
    /// The earliest [`Topic::due`] of an unfinished segment.
    next_due: Option<Instant>,
    open_files: usize,
    /// Counts batches, to find the files that were used longest ago.
    clock: u64,
}

struct Topic {
    mark: Mark,
    /// When the segment is old enough to be finished. Unused while it is finished.
    due: Instant,
    segment: Option<Arc<Segment>>,
    used: u64,
}

impl Writer {
    pub(crate) fn new(
        disk: Arc<Disk>,
        handoff: Arc<Handoff>,
        ledger: Arc<Ledger>,
        rotate: Rotate,
        manifest: &Manifest,
    ) -> Self {
        let (now, now_ms) = (Instant::now(), unix_ms());
        let topic = |mark: Mark| {
            // A clock that was set back makes the segment young again rather than immortal.
            let age = Duration::from_millis(now_ms.saturating_sub(mark.opened_ms));
            let due = later(now, rotate.age.0.saturating_sub(age));
            Topic { mark, due, segment: None, used: 0 }
        };
        let topics: HashMap<Arc<str>, Topic> = manifest
            .topics
            .iter()
            .map(|(name, mark)| (Arc::from(name.as_str()), topic(*mark)))
            .collect();
        let mut writer =
            Self { disk, handoff, ledger, rotate, topics, next_due: None, open_files: 0, clock: 0 };
        writer.find_next_due();
        writer
    }

    /// Writes until the queue closes or something fails.
    pub(crate) fn run(mut self) {
        let result = self.write_all();
        if let Err(error) = &result {
            self.handoff.fail(error);
        }
        if self.handoff.failed() {
            self.ledger.abandon();
        } else {
            self.ledger.finish();
        }
    }

    fn write_all(&mut self) -> Result<()> {
        let mut lines = Vec::new();
        let mut touches = Vec::new();
        loop {
            match self.handoff.next(self.next_due) {
                Work::Closed => return Ok(()),
                Work::Idle => {}
                Work::Batch(batch) => self.write_batch(batch, &mut lines, &mut touches)?,
            }
            if self.next_due.is_some_and(|due| due <= Instant::now()) {
                self.finish_old_segments();
            }
        }
    }

    fn write_batch(
        &mut self,
        batch: RecordBatch,
        lines: &mut Vec<Stretches>,
        touches: &mut Vec<Touch>,
    ) -> Result<()> {
        self.clock += 1;
        lines::by_topic(&batch, lines)?;
        let mut bytes = 0_u64;
        for (topic, lines) in batch.topics.iter().zip(lines.iter()) {
            if !lines.is_empty() {
                bytes = bytes.saturating_add(lines.bytes());
                touches.push(self.write_topic(topic, lines, &batch.data)?);
            }
        }
        let checkpoint = batch.checkpoint.clone();
        drop(batch);
        let written = self.handoff.written();
        self.ledger.enter(touches.drain(..), checkpoint, bytes, written);
        self.ledger.wait_for_room();
        Ok(())
    }

    fn write_topic(&mut self, name: &Arc<str>, lines: &Stretches, data: &[u8]) -> Result<Touch> {
        let now = Instant::now();
        // A new topic starts behind a segment 0 that never was.
        let mut topic = self.topics.remove(name).unwrap_or(Topic {
            mark: Mark { segment: 0, length: 0, opened_ms: 0, finished: true },
            due: now,
            segment: None,
            used: 0,
        });
        let is_over = topic.mark.length.saturating_add(lines.bytes()) > self.rotate.bytes.0;
        if is_over || topic.due <= now {
            topic.mark.finished = true;
        }
        let is_new_segment = topic.mark.finished;
        // Finished segments may have been moved away together with their folder.
        let is_new_folder = is_new_segment && self.disk.create_topic(name)?;
        if is_new_segment {
            self.open_files = self.open_files.saturating_sub(usize::from(topic.segment.is_some()));
            topic.mark = Mark {
                segment: topic.mark.segment.saturating_add(1),
                length: 0,
                opened_ms: unix_ms(),
                finished: false,
            };
            topic.due = later(now, self.rotate.age.0);
            topic.segment = None;
            self.next_due = Some(self.next_due.map_or(topic.due, |due| due.min(topic.due)));
        }
        let segment = match topic.segment.take() {
            Some(segment) => segment,
            None => self.open_segment(name, &topic.mark, is_new_segment)?,
        };
        self.disk.append(&segment, lines, data)?;
        topic.mark.length = topic.mark.length.saturating_add(lines.bytes());
        topic.used = self.clock;
        let touch = Touch {
            topic: Arc::clone(name),
            mark: topic.mark,
            segment: Some(Arc::clone(&segment)),
            is_new_segment,
            is_new_folder,
        };
        topic.segment = Some(segment);
        self.topics.insert(Arc::clone(name), topic);
        Ok(touch)
    }

    /// Opens a segment, closing the one that was used longest ago where too many are open. (The
    /// ledger keeps a closed one alive until it is synced.)
    fn open_segment(&mut self, topic: &str, mark: &Mark, is_new: bool) -> Result<Arc<Segment>> {
        if self.open_files >= OPEN_FILES {
            let open = self.topics.values_mut().filter(|topic| topic.segment.is_some());
            if let Some(oldest) = open.min_by_key(|topic| topic.used) {
                oldest.segment = None;
                self.open_files = self.open_files.saturating_sub(1);
            }
        }
        let segment = if is_new {
            self.disk.create_segment(topic, mark.segment)?
        } else {
            self.disk.open_segment(topic, mark.segment, mark.length)?
        };
        self.open_files += 1;
        Ok(Arc::new(segment))
    }

    /// Finishes segments that are old enough, so that a reader of finished segments gets the lines
    /// of a table that nobody writes to any more.
    fn finish_old_segments(&mut self) {
        let now = Instant::now();
        let mut touches = Vec::new();
        for (name, topic) in &mut self.topics {
            if topic.mark.finished || topic.due > now {
                continue;
            }
            topic.mark.finished = true;
            self.open_files =
                self.open_files.saturating_sub(usize::from(topic.segment.take().is_some()));
            touches.push(Touch {
                topic: Arc::clone(name),
                mark: topic.mark,
                segment: None,
                is_new_segment: false,
                is_new_folder: false,
            });
        }
        if !touches.is_empty() {
            self.ledger.finish_segments(touches.into_iter());
        }
        self.find_next_due();
    }

    fn find_next_due(&mut self) {
        let open = self.topics.values().filter(|topic| !topic.mark.finished);
        self.next_due = open.map(|topic| topic.due).min();
    }
}

/// `now + period`, or a year from now where that is beyond the clock.
fn later(now: Instant, period: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    now.checked_add(period.min(YEAR)).unwrap_or(now)
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
