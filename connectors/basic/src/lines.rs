//! The lines of a batch: which stretches of its bytes go to which topic, and writing them.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::ops::Range;

use rowtide_sdk::{Error, Record, RecordBatch};

use crate::error::broken_batch;

/// Slices given to one `writev`, at most; the kernel takes 1024.
const SLICES: usize = 512;

/// The stretches of [`RecordBatch::data`] that go to one file, in order. Neighbouring lines are one
/// stretch, so that a batch of one table is a single write.
#[derive(Debug, Default)]
pub(crate) struct Stretches {
    ranges: Vec<Range<usize>>,
    bytes: u64,
}

impl Stretches {
    fn push(&mut self, line: Range<usize>) {
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        match self.ranges.last_mut() {
            Some(last) if last.end == line.start => last.end = line.end,
            _ => self.ranges.push(line),
        }
    }

    /// Bytes in all, line feeds included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Forgets the stretches and keeps the allocation.
    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
        self.bytes = 0;
    }

    /// Writes all of it. After an error an unknown part is written.
    pub(crate) fn write(&self, data: &[u8], out: &mut impl Write) -> io::Result<()> {
        let mut slices = Vec::with_capacity(self.ranges.len().min(SLICES));
        for ranges in self.ranges.chunks(SLICES) {
            slices.clear();
            slices.extend(
                ranges.iter().filter_map(|range| data.get(range.clone())).map(IoSlice::new),
            );
            write_all_vectored(out, &mut slices)?;
        }
        Ok(())
    }
}

fn write_all_vectored(out: &mut impl Write, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match out.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The line of a record with its line feed; `None` for a tombstone, of which files keep nothing.
fn line(batch: &RecordBatch, record: &Record) -> Result<Option<Range<usize>>, Error> {
    let Some(value) = &record.value else {
        return Ok(None);
    };
    let (start, end) = (value.start as usize, value.end as usize);
    if start >= end || batch.data.get(end) != Some(&b'\n') {
        return Err(broken_batch("holds a record without its line feed"));
    }
    Ok(Some(start..end.saturating_add(1)))
}

/// All lines of a batch, whatever their topic.
///
/// # Errors
/// Fatal where the batch breaks the contract.
pub(crate) fn all(batch: &RecordBatch, out: &mut Stretches) -> Result<(), Error> {
    out.clear();
    for record in &batch.records {
        if let Some(line) = line(batch, record)? {
            out.push(line);
        }
    }
    Ok(())
}

/// The lines of a batch by topic: `out` gets one entry for each of [`RecordBatch::topics`].
///
/// # Errors
/// Fatal where the batch breaks the contract.
pub(crate) fn by_topic(batch: &RecordBatch, out: &mut Vec<Stretches>) -> Result<(), Error> {
    out.resize_with(batch.topics.len(), Stretches::default);
    out.iter_mut().for_each(Stretches::clear);
    for record in &batch.records {
        let Some(stretches) = out.get_mut(record.topic as usize) else {
            return Err(broken_batch("names a topic that it does not list"));
        };
        if let Some(line) = line(batch, record)? {
            stretches.push(line);
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]
mod tests {
    use super::*;
    use crate::support::batch;

    /// Takes a few bytes at a time, now and then interrupted.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(ErrorKind::Interrupted.into());
            }
            let n = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn neighbours_become_one_stretch() {
        let batch = batch(
            &["a", "b"],
            &[(0, Some("{1}")), (0, Some("{2}")), (1, Some("{3}")), (0, Some("{4}"))],
        );
        let mut topics = Vec::new();
        by_topic(&batch, &mut topics).unwrap();
        assert_eq!(topics[0].ranges, [0..8, 12..16]);
        assert_eq!(topics[1].ranges, vec![8..12]);
        assert_eq!(topics[0].bytes(), 12);
        let mut every = Stretches::default();
        all(&batch, &mut every).unwrap();
        assert_eq!(every.ranges, vec![0..16]);
    }

    #[test]
    fn tombstones_leave_no_line() {
        let batch = batch(&["a", "b"], &[(0, Some("{1}")), (0, None), (0, Some("{2}"))]);
        let mut topics = Vec::new();
        by_topic(&batch, &mut topics).unwrap();
        assert_eq!(topics[0].ranges, vec![0..8]);
        assert!(topics[1].is_empty());
    }

    #[test]
    fn partial_writes_and_interrupts_lose_nothing() {
        let values: Vec<(u32, Option<&str>)> = (0..1500)
            .map(|n| (n % 2, Some(["{\"n\":1}", "{\"longer\":22}"][(n % 2) as usize])))
            .collect();
        let batch = batch(&["a", "b"], &values);
        let mut topics = Vec::new();
        by_topic(&batch, &mut topics).unwrap();
        for (topic, text) in [(0, "{\"n\":1}\n"), (1, "{\"longer\":22}\n")] {
            let mut out = Slow::default();
            topics[topic].write(&batch.data, &mut out).unwrap();
            assert_eq!(String::from_utf8(out.taken).unwrap(), text.repeat(750));
        }
    }

    #[test]
    fn a_broken_contract_is_refused() {
        let mut without_feed = batch(&["a", "b"], &[(0, Some("{1}"))]);
        without_feed.data.pop();
        let foreign_topic = batch(&["a", "b"], &[(2, Some("{1}"))]);
        for batch in [without_feed, foreign_topic] {
            let error = by_topic(&batch, &mut Vec::new()).unwrap_err();
            assert_eq!(error.code(), crate::error::BROKEN_BATCH);
        }
    }
}
