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
            if position.last(gtid.domain).is_none_or(|last| last.sequence < gtid.sequence) {
                position.pass(gtid);
            }
        }
        Ok(position)
    }
}

/// What a log has held: of each domain and each server that wrote to it, the last GTID
/// (`gtid_binlog_state`). Without `gtid_strict_mode` numbers need not ascend in a domain, so that the last
/// one of a domain says nothing of what others wrote before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidState(Vec<Gtid>);

impl GtidState {
    /// Whether the GTID is in the log or was, as the server itself judges it.
    pub fn holds(&self, gtid: Gtid) -> bool {
        let of_writer =
            |last: &Gtid| (last.domain, last.server_id) == (gtid.domain, gtid.server_id);
        self.0.iter().any(|last| of_writer(last) && gtid.sequence <= last.sequence)
    }
}

impl FromStr for GtidState {
    type Err = NotAGtid;

    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m17_a_log_holds_what_each_server_wrote() {
        let state: GtidState = "0-1-100,0-2-7,\n 5-1-3".parse().unwrap();
        let holds = |text: &str| state.holds(text.parse().unwrap());
        assert!(holds("0-1-100") && holds("0-2-7") && holds("5-1-1"));
        assert!(!holds("0-2-8") && !holds("0-3-1") && !holds("6-1-1"));
        assert!(!"".parse::<GtidState>().unwrap().holds("0-1-1".parse().unwrap()));
        assert_eq!("0-1".parse::<GtidState>(), Err(NotAGtid));
    }

    #[test]
    fn a_place_is_the_last_gtid_of_each_domain() {
        let mut position: GtidPosition = "1-2-7, 0-1-100,0-3-99".parse().unwrap();
        assert_eq!(position.to_string(), "0-1-100,1-2-7");
        let gtid = |text: &str| text.parse::<Gtid>().unwrap();
        position.pass(gtid("0-3-101"));
        assert_eq!(position.to_string(), "0-3-101,1-2-7");
        position.pass(gtid("0-3-9"));
        assert_eq!(position.to_string(), "0-3-9,1-2-7", "numbers may fall");
        assert!("".parse::<GtidPosition>().unwrap().is_empty());
        for text in ["0-1", "0-1-2-3", "a-1-2", "0--1-2", "0-1-+2", "4294967296-1-1"] {
            assert_eq!(text.parse::<GtidPosition>(), Err(NotAGtid), "{text}");
        }
    }
}
