//! The log runway: how long the server keeps the log that the saved position needs. No I/O happens here.
//!
//! A server throws a file away once its last event is older than its settings allow, beginning with the
//! oldest, and never the one that it writes. It does not say how old a file is. What was read of a file
//! says how old it is at most, so that the forecast is never too long: the file may last longer than it
//! says, but for somebody who purges by hand.

use std::time::Duration;

use rowtide_sdk::{Fact, FactValue, Finding, Severity};

use crate::codes;

/// How long a server keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Until somebody purges them.
    Always,
    /// For so many seconds, by its settings.
    For(u64),
    /// For so many seconds, by Amazon RDS's `binlog retention hours`.
    ByRds(u64),
    /// As Amazon RDS is told, which the user may not read.
    Unknown,
}

impl Kept {
    /// The seconds, where they are known and there is an end to them.
    pub(crate) fn seconds(self) -> Option<u64> {
        match self {
            Self::For(seconds) | Self::ByRds(seconds) => Some(seconds),
            Self::Always | Self::Unknown => None,
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::ByRds(_) | Self::Unknown => {
                "let the connector catch up, and let the server keep its log for longer: CALL \
                 mysql.rds_set_configuration('binlog retention hours', 168)"
            }
            Self::For(_) | Self::Always => {
                "let the connector catch up (see why its sink or server is slow), and let the server keep its \
                 log for longer: SET GLOBAL binlog_expire_logs_seconds = 604800, and in its configuration \
                 (MariaDB before 10.6: expire_logs_days)"
            }
        }
    }
}

/// The server's log and the place that is needed of it, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// The files, the oldest first, with their lengths.
    pub(crate) files: Vec<(String, u64)>,
    /// Where the saved position needs the log from.
    pub(crate) file: String,
    pub(crate) pos: u64,
    /// When the newest event that was read of that file was written, in seconds since 1970.
    pub(crate) read_until: Option<u64>,
    /// The server's time, in seconds since 1970.
    pub(crate) now: u64,
    pub(crate) kept: Kept,
    /// So many bytes of log are kept at most, where the server has such a limit.
    pub(crate) limit: Option<u64>,
}

impl View {
    /// Where in the list the needed file is.
    pub(crate) fn needed(&self) -> Option<usize> {
        self.files.iter().position(|(file, _)| *file == self.file)
    }

    /// Bytes of log from the place on.
    pub(crate) fn behind(&self) -> Option<u64> {
        let from = self.files.get(self.needed()?..)?;
        Some(sum(from).saturating_sub(self.pos))
    }

    /// Seconds until the needed file may be thrown away: 0 where it is gone.
    pub(crate) fn left(&self) -> Option<u64> {
        let Some(needed) = self.needed() else { return Some(0) };
        let kept = self.kept.seconds()?;
        if needed + 1 == self.files.len() {
            // It is being written.
            return Some(kept);
        }
        let read_until = self.read_until?;
        Some(read_until.saturating_add(kept).saturating_sub(self.now))
    }

    /// Bytes that may be written until the needed file is above the limit.
    pub(crate) fn safe(&self) -> Option<u64> {
        let limit = self.limit?;
        let Some(needed) = self.needed() else { return Some(0) };
        Some(limit.saturating_sub(sum(self.files.get(needed..)?)))
    }

    /// What is dangerous; `threshold` is the shortest runway that is fine.
    pub(crate) fn risk(&self, threshold: Duration) -> Option<Finding> {
        let file = &self.file;
        let left = self.left().filter(|left| *left < threshold.as_secs());
        let safe = self.safe().zip(self.limit).filter(|(safe, limit)| *safe < limit / 8);
        let message = if self.needed().is_none() {
            format!("the server threw the binlog file {file} away, which the saved position needs")
        } else if let Some(left) = left {
            format!(
                "the server may throw the binlog file {file} away in {left} s, which the saved position needs"
            )
        } else if let Some((safe, limit)) = safe {
            format!(
                "the server keeps {limit} bytes of binlog at most: after {safe} more it throws {file} away, which \
                 the saved position needs"
            )
        } else {
            return None;
        };
        let finding = Finding::new(Severity::Warning, codes::LOG_RUNS_OUT, message);
        Some(finding.with_remedy(self.kept.remedy()))
    }

    /// The facts for monitoring.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let gauges = self.gauges().into_iter().filter_map(|(name, help, figure)| {
            Some(Fact { name, help, value: FactValue::Gauge(float(figure?)) })
        });
        let kept = match self.kept {
            Kept::Always => "until_purged",
            Kept::For(_) => "server",
            Kept::ByRds(_) => "rds",
            Kept::Unknown => "unknown",
        };
        let kept = Fact {
            name: "log_retention",
            help: "What says how long the server keeps its log",
            value: FactValue::State(kept.to_owned()),
        };
        gauges.chain([kept]).collect()
    }

    fn gauges(&self) -> [(&'static str, &'static str, Option<u64>); 8] {
        let oldest = self.files.first().map(|(file, _)| file.as_str());
        [
            ("log_behind_bytes", "Bytes of log behind the saved position", self.behind()),
            ("log_retained_bytes", "Bytes of log that the server keeps", Some(sum(&self.files))),
            (
                "log_oldest_file",
                "The number of the oldest file of the log",
                oldest.and_then(number),
            ),
            (
                "log_needed_file",
                "The number of the file of the log that the saved position needs",
                number(&self.file),
            ),
            (
                "log_retention_seconds",
                "How long the server keeps its log; absent where it does so until it is purged",
                self.kept.seconds(),
            ),
            (
                "log_runway_seconds",
                "Seconds until the server may throw away log that the saved position needs",
                self.left(),
            ),
            ("log_limit_bytes", "Bytes of log that the server keeps at most", self.limit),
            (
                "log_safe_bytes",
                "Bytes that can be written before log that the saved position needs is above the limit",
                self.safe(),
            ),
        ]
    }
}

fn sum(files: &[(String, u64)]) -> u64 {
    files.iter().fold(0, |sum, (_, size)| sum.saturating_add(*size))
}

/// The number of a file, which is behind its last dot.
fn number(file: &str) -> Option<u64> {
    file.rsplit('.').next()?.parse().ok()
}

/// As a figure: above 2^53 the last digits are lost, which no forecast needs.
fn float(figure: u64) -> f64 {
    figure as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Three files of 1000 bytes at second 100,000, kept for a day.
    fn view(file: u64, pos: u64, read_until: Option<u64>) -> View {
        let name = |number: u64| format!("b.{number:06}");
        View {
            files: (7..10).map(|number| (name(number), 1000)).collect(),
            file: name(file),
            pos,
            read_until,
            now: 100_000,
            kept: Kept::For(86_400),
            limit: None,
        }
    }

    #[test]
    fn m10_the_file_that_is_written_stays_for_as_long_as_files_are_kept() {
        let view = view(9, 400, None);
        assert_eq!((view.behind(), view.left()), (Some(600), Some(86_400)));
        assert_eq!(view.risk(HOUR), None);
    }

    #[test]
    fn m10_an_older_file_is_as_old_as_what_was_read_of_it() {
        assert_eq!(view(8, 400, None).left(), None);
        let fine = view(8, 400, Some(90_000));
        assert_eq!((fine.behind(), fine.left()), (Some(1600), Some(76_400)));
        assert_eq!(fine.risk(HOUR), None);
        let late = view(7, 0, Some(17_000));
        assert_eq!((late.behind(), late.left()), (Some(3000), Some(3400)));
        let risk = late.risk(HOUR).unwrap();
        assert!(risk.message.contains("b.000007 away in 3400 s"), "{}", risk.message);
        assert_eq!(view(7, 0, Some(1)).left(), Some(0));
    }

    #[test]
    fn m10_a_file_that_is_gone_has_no_time_left() {
        let view = view(6, 0, Some(99_000));
        assert_eq!((view.behind(), view.left()), (None, Some(0)));
        assert!(view.risk(HOUR).unwrap().message.contains("threw the binlog file b.000006 away"));
    }

    #[test]
    fn m10_what_is_not_known_is_not_foretold() {
        for kept in [Kept::Always, Kept::Unknown] {
            let view = View { kept, ..view(7, 0, Some(1)) };
            assert_eq!((view.left(), view.risk(HOUR)), (None, None));
            let names: Vec<_> = view.facts().iter().map(|fact| fact.name).collect();
            assert!(!names.contains(&"log_runway_seconds"), "{names:?}");
            assert!(names.contains(&"log_behind_bytes"), "{names:?}");
        }
        let rds = View { kept: Kept::ByRds(0), ..view(9, 0, None) };
        let risk = rds.risk(HOUR).unwrap();
        assert!(risk.remedy.unwrap().contains("rds_set_configuration"));
    }

    #[test]
    fn m10_a_limit_of_bytes_counts_too() {
        let limited = |limit| View { kept: Kept::Always, limit: Some(limit), ..view(8, 0, None) };
        assert_eq!(limited(10_000).safe(), Some(8000));
        assert_eq!(limited(10_000).risk(HOUR), None);
        assert!(limited(2100).risk(HOUR).unwrap().message.contains("after 100 more"));
    }
}
