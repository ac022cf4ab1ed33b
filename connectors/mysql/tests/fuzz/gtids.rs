//! GTIDs and sets of them, as text and in binary.

use std::collections::BTreeSet;

use rowtide_mysql::binlog::event::kind;
use rowtide_mysql::gtid::mariadb::{self, GtidPosition, GtidState};
use rowtide_mysql::gtid::mysql::{Gtid, GtidSet, Tag};

use super::{bodies, checks};
use crate::frame::Target;

pub(crate) fn target() -> Target {
    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let texts = [
        format!("{A}:1-3:11:47-49,\n4{}:7", &A[1..]),
        format!("{A}:1-2:backup_1:4-5:z:1"),
        format!("{}:1-9223372036854775806", A.to_uppercase().replace('-', "")),
        "0-1-100,1-2-7, 0-3-99".to_owned(),
        "4294967295-4294967295-18446744073709551615".to_owned(),
    ];
    let sets = bodies().filter(|(event, _)| *event == kind::PREVIOUS_GTIDS).map(|(_, body)| body);
    let tagged = format!("{A}:1-2:backup_1:4-5").parse::<GtidSet>().unwrap().to_bytes();
    let steps = (0..60).map(|at: u8| at.wrapping_mul(89)).collect();
    let seeds = sets.chain([tagged, steps]).chain(texts.map(String::into_bytes)).collect();
    Target { checks: checks(&[text, binary, algebra, mariadb_list]), seeds }
}

/// Both forms of a set are read back as the same set.
fn is_stable(set: &GtidSet) {
    let text = set.to_string();
    assert_eq!(text.parse().as_ref(), Ok(set), "{text}");
    assert_eq!(GtidSet::from_bytes(&set.to_bytes()).as_ref(), Some(set), "{text}");
    assert_eq!(set.is_empty(), text.is_empty());
    assert!(set.holds_all(set) && set.holds_all(&GtidSet::default()));
    let mut rest = set.clone();
    rest.insert_all(set);
    assert_eq!(rest, *set);
    rest.remove_all(set);
    assert!(rest.is_empty());
    assert_eq!(rest, GtidSet::default());
}

fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(set) = text.parse() {
        is_stable(&set);
    }
    if let Some(tag) = Tag::new(text)
        && !text.is_empty()
    {
        let mut set = GtidSet::default();
        set.insert(&Gtid::new([7; 16], tag, 1).unwrap());
        is_stable(&set);
    }
}

fn binary(input: &[u8]) {
    if let Some(set) = GtidSet::from_bytes(input) {
        is_stable(&set);
    }
}

/// A set of few GTIDs, one by one.
type Plain = BTreeSet<(u8, usize, u64)>;

const TAGS: [&str; 3] = ["", "a", "b_2"];
const NUMBERS: u64 = 24;

fn gtid((source, tag, number): (u8, usize, u64)) -> Gtid {
    Gtid::new([source; 16], Tag::new(TAGS[tag]).unwrap(), number).unwrap()
}

fn is_same(set: &GtidSet, plain: &Plain) {
    assert_eq!(set.is_empty(), plain.is_empty());
    for source in 0..2 {
        for tag in 0..TAGS.len() {
            for number in 1..=NUMBERS {
                let one = (source, tag, number);
                assert_eq!(set.holds(&gtid(one)), plain.contains(&one), "{set} {one:?}");
            }
        }
    }
    is_stable(set);
}

/// Sets do what sets of single GTIDs do, whatever the order of steps.
fn algebra(input: &[u8]) {
    let (mut sets, mut plain) =
        ([(); 2].map(|()| GtidSet::default()), [Plain::new(), Plain::new()]);
    for step in input.chunks_exact(3).take(40) {
        let [op, place, number] = [step[0], step[1], step[2]];
        let which = usize::from(op >> 7);
        let one = (place & 1, usize::from(place >> 1) % 3, u64::from(number) % NUMBERS + 1);
        let other = (sets[1 - which].clone(), plain[1 - which].clone());
        match op % 8 {
            0 => {
                sets[which].remove(&gtid(one));
                plain[which].remove(&one);
            }
            1 => {
                sets[which].insert_all(&other.0);
                plain[which].extend(&other.1);
            }
            2 => {
                sets[which].remove_all(&other.0);
                plain[which].retain(|one| !other.1.contains(one));
            }
            _ => {
                // A few in a row, as servers give them.
                for number in one.2..=(one.2 + u64::from(op % 4)).min(NUMBERS) {
                    sets[which].insert(&gtid((one.0, one.1, number)));
                    plain[which].insert((one.0, one.1, number));
                }
            }
        }
        let holds = plain[which].is_superset(&plain[1 - which]);
        assert_eq!(sets[which].holds_all(&sets[1 - which]), holds);
        assert_eq!(sets[0] == sets[1], plain[0] == plain[1]);
    }
    for (set, plain) in sets.iter().zip(&plain) {
        is_same(set, plain);
    }
}

/// A place is read back, and is the last GTID of each domain.
fn mariadb_list(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(gtid) = text.parse::<mariadb::Gtid>() {
        assert_eq!(gtid.to_string().parse(), Ok(gtid));
    }
    let Ok(position) = text.parse::<GtidPosition>() else { return };
    let state: GtidState = text.parse().unwrap();
    let again = position.to_string();
    assert_eq!(again.parse().as_ref(), Ok(&position));
    let domains: Vec<_> = position.iter().map(|gtid| gtid.domain).collect();
    assert!(domains.is_sorted_by(|a, b| a < b));
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let gtid: mariadb::Gtid = part.parse().unwrap();
        assert!(state.holds(gtid));
        let last = position.last(gtid.domain).unwrap();
        assert!(last.sequence >= gtid.sequence);
    }
}
