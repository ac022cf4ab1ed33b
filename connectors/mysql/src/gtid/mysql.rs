//! MySQL's GTIDs (`uuid:number`, `uuid:tag:number` from 8.3 on) and sets of them, in the text form of
//! `gtid_executed` and the binary form of COM_BINLOG_DUMP_GTID.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::reader::Reader;

/// A tag: up to 32 of `a-z`, `0-9` and `_`, without a digit first; empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// A tag of this text, in which case does not count; `None` where it is none.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let is_tag = text.len() <= 32
            && text.bytes().all(is_part)
            && !text.bytes().next().is_some_and(|first| first.is_ascii_digit());
        is_tag.then_some(Self(text))
    }
}

/// A GTID of MySQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gtid {
    uuid: [u8; 16],
    tag: Tag,
    number: u64,
}

/// The largest number of a GTID and one more.
const END: u64 = i64::MAX as u64;

impl Gtid {
    /// A GTID; `None` where no GTID has the number.
    pub fn new(uuid: [u8; 16], tag: Tag, number: u64) -> Option<Self> {
        (1..END).contains(&number).then_some(Self { uuid, tag, number })
    }
}

fn write_source(uuid: [u8; 16], tag: &Tag, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    if tag.0.is_empty() { Ok(()) } else { write!(f, ":{}", tag.0) }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_source(self.uuid, &self.tag, f)?;
        write!(f, ":{}", self.number)
    }
}

/// What is no set of GTIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a set of GTIDs, such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:11")]
pub struct NotAGtidSet;

/// Numbers of one source: from the first of each interval to before the second, in order and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    fn add(&mut self, start: u64, end: u64) {
        // Those that touch the new one become one with it.
        let from = self.0.partition_point(|&(_, last)| last < start);
        let to = self.0.partition_point(|&(first, _)| first <= end);
        let touching = self.0.get(from..to).unwrap_or_default();
        let start = touching.first().map_or(start, |&(first, _)| first.min(start));
        let end = touching.last().map_or(end, |&(_, last)| last.max(end));
        self.0.splice(from..to.max(from), [(start, end)]);
    }

    fn remove(&mut self, start: u64, end: u64) {
        let left = |&(first, last): &(u64, u64)| {
            [(first, last.min(start)), (first.max(end), last)].into_iter().filter(|(a, b)| a < b)
        };
        self.0 = self.0.iter().flat_map(left).collect();
    }

    fn holds(&self, start: u64, end: u64) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= start);
        let around = after.checked_sub(1).and_then(|at| self.0.get(at));
        around.is_some_and(|&(_, last)| end <= last)
    }
}

/// A set of GTIDs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<([u8; 16], Tag), Intervals>);

impl GtidSet {
    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a GTID into it.
    pub fn insert(&mut self, gtid: &Gtid) {
        let key = (gtid.uuid, gtid.tag.clone());
        self.0.entry(key).or_default().add(gtid.number, gtid.number.saturating_add(1));
    }

    /// Takes a GTID out of it.
    pub fn remove(&mut self, gtid: &Gtid) {
        let key = (gtid.uuid, gtid.tag.clone());
        if let Some(intervals) = self.0.get_mut(&key) {
            intervals.remove(gtid.number, gtid.number.saturating_add(1));
            if intervals.0.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Whether a GTID is in it.
    pub fn holds(&self, gtid: &Gtid) -> bool {
        let intervals = self.0.get(&(gtid.uuid, gtid.tag.clone()));
        intervals.is_some_and(|all| all.holds(gtid.number, gtid.number.saturating_add(1)))
    }

    /// Whether every GTID of another set is in this one.
    pub fn holds_all(&self, other: &Self) -> bool {
        other.0.iter().all(|(key, intervals)| {
            let ours = self.0.get(key);
            let is_held =
                |&(start, end): &(u64, u64)| ours.is_some_and(|all| all.holds(start, end));
            intervals.0.iter().all(is_held)
        })
    }

    /// Puts every GTID of another set into this one.
    pub fn insert_all(&mut self, other: &Self) {
        for (key, intervals) in &other.0 {
            let ours = self.0.entry(key.clone()).or_default();
            for &(start, end) in &intervals.0 {
                ours.add(start, end);
            }
        }
    }

    /// Takes every GTID of another set out of this one.
    pub fn remove_all(&mut self, other: &Self) {
        for (key, intervals) in &other.0 {
            if let Some(ours) = self.0.get_mut(key) {
                for &(start, end) in &intervals.0 {
                    ours.remove(start, end);
                }
                if ours.0.is_empty() {
                    self.0.remove(key);
                }
            }
        }
    }

    /// The binary form of COM_BINLOG_DUMP_GTID and PREVIOUS_GTIDS. With a tag in the set it is the one of
    /// servers from 8.3 on, without it the one that all servers know.
    pub fn to_bytes(&self) -> Vec<u8> {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let is_tagged = self.0.keys().any(|(_, tag)| !tag.0.is_empty());
        let count = number(self.0.len());
        let mut out = Vec::new();
        // The highest byte tells the form, and in the second one the lowest byte does too.
        let head = if is_tagged { 1 << 56 | count << 8 | 1 } else { count };
        out.extend(head.to_le_bytes());
        for ((uuid, tag), intervals) in &self.0 {
            out.extend(uuid);
            if is_tagged {
                // A number of variable length below 64.
                out.push(u8::try_from(tag.0.len() << 1).unwrap_or_default());
                out.extend(tag.0.as_bytes());
            }
            out.extend(number(intervals.0.len()).to_le_bytes());
            for (start, end) in &intervals.0 {
                out.extend(start.to_le_bytes());
                out.extend(end.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`GtidSet::to_bytes`] writes, as in the body of PREVIOUS_GTIDS; `None` where it is
    /// malformed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let head = reader.u64()?;
        let is_tagged = head >> 56 == 1;
        let count = if is_tagged { head << 8 >> 16 } else { head };
        let mut set = Self::default();
        for _ in 0..count {
            let uuid = reader.array::<16>()?;
            let tag = match is_tagged {
                true => {
                    let len = usize::from(reader.u8()? >> 1);
                    Tag::new(std::str::from_utf8(reader.bytes(len)?).ok()?)?
                }
                false => Tag::default(),
            };
            let intervals = set.0.entry((uuid, tag)).or_default();
            for _ in 0..reader.u64()? {
                let (start, end) = (reader.u64()?, reader.u64()?);
                if start == 0 || start >= end || end > END {
                    return None;
                }
                intervals.add(start, end);
            }
        }
        reader.end()?;
        set.0.retain(|_, intervals| !intervals.0.is_empty());
        Some(set)
    }
}

impl fmt::Display for GtidSet {
    /// As `gtid_executed` has it, on one line: tags of one server follow its numbers without a tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for ((uuid, tag), intervals) in &self.0 {
            if last == Some(uuid) {
                write!(f, ":{}", tag.0)?;
            } else {
                if last.is_some() {
                    f.write_str(",")?;
                }
                write_source(*uuid, tag, f)?;
            }
            last = Some(uuid);
            for (start, end) in &intervals.0 {
                write!(f, ":{start}")?;
                if end - start > 1 {
                    write!(f, "-{}", end - 1)?;
                }
            }
        }
        Ok(())
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    let mut uuid = [0; 16];
    for byte in &mut uuid {
        let mut digit = || char::from(digits.next()?).to_digit(16);
        *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
    }
    (digits.next().is_none() && matches!(text.len(), 32 | 36)).then_some(uuid)
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first.trim())?, number(last.trim())?),
        None => (number(text)?, number(text)?),
    };
    (first > 0 && first <= last && last < END).then(|| (first, last + 1))
}

impl FromStr for GtidSet {
    type Err = NotAGtidSet;

    fn from_str(text: &str) -> Result<Self, NotAGtidSet> {
        let mut set = Self::default();
        for source in text.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let mut parts = source.split(':').map(str::trim);
            let uuid = parts.next().and_then(parse_uuid).ok_or(NotAGtidSet)?;
            let mut tag = Tag::default();
            let mut is_used = false;
            for part in parts {
                if let Some((start, end)) = parse_interval(part) {
                    set.0.entry((uuid, tag.clone())).or_default().add(start, end);
                    is_used = true;
                } else {
                    tag = Tag::new(part).filter(|tag| !tag.0.is_empty()).ok_or(NotAGtidSet)?;
                    is_used = false;
                }
            }
            if !is_used {
                return Err(NotAGtidSet);
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn text_is_read_and_written_as_the_server_does() {
        let text = format!("{A}:1-3:11:47-49,\n{B}:7");
        assert_eq!(set(&text).to_string(), text.replace('\n', ""));
        assert_eq!(set(&format!("{A}:3,{A}:1-2:5")).to_string(), format!("{A}:1-3:5"));
        let tagged = format!("{A}:1-2:backup_1:4-5:z:1,{B}:tag:9");
        assert_eq!(set(&tagged).to_string(), tagged);
        assert_eq!(set(&A.to_uppercase().replace('-', "").add(":1")), set(&format!("{A}:1")));
        assert!(set("").is_empty());
        for text in [
            A,
            "x:1",
            &format!("{A}:0"),
            &format!("{A}:3-1"),
            &format!("{A}:1-+2"),
            &format!("{A}:9223372036854775807"),
            &format!("{A}:1:tag"),
            &format!("{A}:9x:1"),
        ] {
            assert_eq!(text.parse::<GtidSet>(), Err(NotAGtidSet), "{text}");
        }
    }

    use std::ops::Add as _;

    #[test]
    fn m17_sets_are_compared_as_sets() {
        let all = set(&format!("{A}:1-100,{B}:tag:1-5"));
        assert!(all.holds_all(&set(&format!("{A}:7-9:50"))));
        assert!(!all.holds_all(&set(&format!("{A}:99-101"))));
        assert!(!all.holds_all(&set(&format!("{B}:1"))), "without the tag it is another");
        let mut some = all.clone();
        let gtid = Gtid::new(parse_uuid(A).unwrap(), Tag::default(), 50).unwrap();
        some.remove(&gtid);
        assert_eq!(some.to_string(), format!("{A}:1-49:51-100,{B}:tag:1-5"));
        assert!(!some.holds(&gtid) && !some.holds_all(&all) && all.holds_all(&some));
        some.insert(&gtid);
        assert_eq!(some, all);
    }

    proptest! {
        #[test]
        fn sets_are_what_a_set_of_numbers_is(
            steps in prop::collection::vec((any::<bool>(), 1u64..60, 1u64..12), 0..40)
        ) {
            let (mut ours, mut plain) = (Intervals::default(), BTreeSet::new());
            for (adds, start, len) in steps {
                let numbers = start..start + len;
                if adds {
                    ours.add(start, start + len);
                    plain.extend(numbers);
                } else {
                    ours.remove(start, start + len);
                    plain.retain(|number| !numbers.contains(number));
                }
                let all: BTreeSet<u64> = ours.0.iter().flat_map(|&(a, b)| a..b).collect();
                prop_assert_eq!(&all, &plain);
                prop_assert!(ours.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "apart");
                for (start, end) in [(3, 5), (10, 11), (1, 70)] {
                    prop_assert_eq!(ours.holds(start, end), (start..end).all(|n| plain.contains(&n)));
                }
            }
        }

        #[test]
        fn both_forms_are_read_back(
            parts in prop::collection::vec((0u8..3, 0usize..3, 1u64..1000, 1u64..9), 0..12)
        ) {
            let mut all = GtidSet::default();
            for (uuid, tag, start, len) in parts {
                let tag = Tag::new(["", "a", "b_2"][tag]).unwrap();
                all.0.entry(([uuid; 16], tag)).or_default().add(start, start + len);
            }
            prop_assert_eq!(&all.to_string().parse::<GtidSet>().unwrap(), &all);
            prop_assert_eq!(&GtidSet::from_bytes(&all.to_bytes()).unwrap(), &all);
        }

        #[test]
        fn any_bytes_are_a_set_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _set = GtidSet::from_bytes(&bytes);
            let _set = String::from_utf8_lossy(&bytes).parse::<GtidSet>();
        }
    }
}
