//! MariaDB's GTIDs: `domain-server-sequence`, and per domain the last one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A GTID of MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gtid {
    /// The replication domain: an order of its own.
    pub domain: u32,
    /// The server that wrote it.
    pub server_id: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

/// What is no GTID of MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list of MariaDB GTIDs, such as 0-1-100,1-2-7")]
pub struct NotAGtid;

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, server_id, sequence } = self;
        write!(f, "{domain}-{server_id}-{sequence}")
    }
}

impl FromStr for Gtid {
    type Err = NotAGtid;

    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let mut parts = text.trim().split('-');
        let mut part = || parts.next().filter(|part| is_number(part)).ok_or(NotAGtid);
        let gtid = Self {
            domain: part()?.parse().map_err(|_| NotAGtid)?,
            server_id: part()?.parse().map_err(|_| NotAGtid)?,
            sequence: part()?.parse().map_err(|_| NotAGtid)?,
        };
        if parts.next().is_some() { Err(NotAGtid) } else { Ok(gtid) }
    }
}

/// Digits alone: Rust would take a sign too.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A place in the binlog: the last GTID of each domain (`gtid_slave_pos`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidPosition(BTreeMap<u32, Gtid>);

impl GtidPosition {
    /// Whether no domain is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last GTID of a domain.
    pub fn last(&self, domain: u32) -> Option<Gtid> {
        self.0.get(&domain).copied()
    }

    /// Passes a GTID. The server id is that of its writer, and does not order them.
    pub fn pass(&mut self, gtid: Gtid) {
        self.0.insert(gtid.domain, gtid);
    }

    /// Nothing of a domain is passed.
    pub fn forget(&mut self, domain: u32) {
        self.0.remove(&domain);
    }

    /// Whether the GTID is at or before this place. Numbers ascend in a domain, whoever writes.
    pub fn holds(&self, gtid: Gtid) -> bool {
        self.last(gtid.domain).is_some_and(|last| gtid.sequence <= last.sequence)
    }

    /// The GTIDs, by domain.
    pub fn iter(&self) -> impl Iterator<Item = Gtid> {
        self.0.values().copied()
    }
}

impl fmt::Display for GtidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, gtid) in self.0.values().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{gtid}")?;
        }
        Ok(())
    }
}

impl FromStr for GtidPosition {
    type Err = NotAGtid;

    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let mut position = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let gtid: Gtid = part.parse()?;
            // A list may name a domain once for each server that wrote to it (`gtid_binlog_state`).
            if !position.holds(gtid) {
                position.pass(gtid);
            }
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_last_gtid_of_each_domain() {
        let mut position: GtidPosition = "1-2-7, 0-1-100,0-3-99".parse().unwrap();
        assert_eq!(position.to_string(), "0-1-100,1-2-7");
        let gtid = |text: &str| text.parse::<Gtid>().unwrap();
        assert!(position.holds(gtid("0-9-100")), "whoever wrote it");
        assert!(!position.holds(gtid("0-1-101")) && !position.holds(gtid("2-1-1")));
        position.pass(gtid("0-3-101"));
        assert_eq!(position.to_string(), "0-3-101,1-2-7");
        assert!("".parse::<GtidPosition>().unwrap().is_empty());
        for text in ["0-1", "0-1-2-3", "a-1-2", "0--1-2", "0-1-+2", "4294967296-1-1"] {
            assert_eq!(text.parse::<GtidPosition>(), Err(NotAGtid), "{text}");
        }
    }
}
