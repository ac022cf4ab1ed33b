//! When what was read of each file of the log was written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// So many files are remembered.
const FILES_MAX: usize = 4096;

/// Files with the time of the newest event that was read of each, in seconds since 1970. Written by the
/// stream, read by the guard.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileTimes(Arc<Mutex<VecDeque<(String, u32)>>>);

impl FileTimes {
    /// An event of this time was read of a file.
    pub(crate) fn note(&self, file: &str, seconds: u32) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match files.back_mut() {
            Some((last, newest)) if last == file => *newest = seconds.max(*newest),
            _ => files.push_back((file.to_owned(), seconds)),
        }
        if files.len() > FILES_MAX {
            files.pop_front();
        }
    }

    /// The time of the newest event that was read of a file. Those before it are forgotten.
    pub(crate) fn of(&self, file: &str) -> Option<u32> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = files.iter().rposition(|(known, _)| known == file)?;
        files.drain(..at);
        files.front().map(|(_, seconds)| *seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_counts_and_what_is_before_is_forgotten() {
        let times = FileTimes::default();
        for (file, seconds) in [("b.1", 5), ("b.1", 4), ("b.2", 6), ("b.3", 7), ("b.3", 9)] {
            times.note(file, seconds);
        }
        assert_eq!(times.of("b.1"), Some(5));
        assert_eq!((times.of("b.9"), times.of("b.3"), times.of("b.2")), (None, Some(9), None));
    }
}
