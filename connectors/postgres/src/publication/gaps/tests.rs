//! What is seen between two looks, and what is not.

use std::collections::HashMap;

use super::super::review::tests::{look, publication, seen, table};
use super::super::review::{Membership, Seen};
use super::*;
use crate::config::{Operation, PublicationManagement};

const AUTO: PublicationManagement = PublicationManagement::Auto;
const EXTERNAL: PublicationManagement = PublicationManagement::External;

/// A look at a publication of inserts and updates that names these tables by these entries.
fn named(entries: &[(u32, u32)]) -> Publication {
    Publication { named: entries.iter().copied().collect(), ..publication() }
}

fn at(publication: Publication, wanted: &[(u32, &str)]) -> Review {
    let wanted = wanted.iter().map(|(oid, name)| table(*oid, name)).collect();
    let operations = publication.operations();
    look(EXTERNAL, &operations, &Seen { wanted, ..seen(publication) })
}

fn between(before: &Review, now: &Review) -> Gaps {
    let json = before.imprint.as_ref().unwrap().to_json();
    gaps(&Imprint::from_json(&json).unwrap(), now)
}

fn tables(names: &[&str]) -> Gaps {
    let tables = names.iter().map(|name| format!("public.{name}")).collect();
    Gaps { tables, is_altered: false }
}

#[test]
fn a_table_that_was_taken_out_and_put_back_is_seen() {
    let wanted = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let before = at(named(&[(1, 100), (2, 101), (4, 103)]), &wanted);
    assert_eq!(between(&before, &before), Gaps::default());
    // Put back; added by others; renamed.
    let renamed = [(1, "a"), (2, "b"), (3, "c"), (4, "d_old"), (5, "d")];
    let now = at(named(&[(1, 104), (2, 101), (3, 105), (4, 103), (5, 106)]), &renamed);
    assert_eq!(between(&before, &now), tables(&["a", "c", "d"]));
    // Taken out alone it is not complete from anywhere.
    assert_eq!(between(&before, &at(named(&[(2, 101), (4, 103)]), &wanted)), Gaps::default());
    // Entries of tables that are not captured do not matter.
    let now = at(named(&[(1, 100), (2, 101), (4, 103), (9, 110)]), &wanted);
    assert_eq!(between(&before, &now), Gaps::default());
}

#[test]
fn schemas_and_all_tables_are_entries_too() {
    let sends = |names: &[&str]| {
        names.iter().map(|name| ("public".to_owned(), (*name).to_owned())).collect()
    };
    let by_schema = |entry: u32, names: &[&str]| Publication {
        schemas: HashMap::from([("public".to_owned(), entry)]),
        sends: sends(names),
        ..named(&[])
    };
    let before = at(by_schema(200, &["a"]), &[(1, "a")]);
    // A table created under it is complete from its start.
    let now = at(by_schema(200, &["a", "b"]), &[(1, "a"), (2, "b")]);
    assert_eq!(between(&before, &now), Gaps::default());
    let now = at(by_schema(201, &["a"]), &[(1, "a")]);
    assert_eq!(between(&before, &now), tables(&["a"]));
    // One that was there and not sent is not.
    let before = at(by_schema(200, &["a"]), &[(1, "a"), (2, "b")]);
    let now = at(by_schema(200, &["a", "b"]), &[(1, "a"), (2, "b")]);
    assert_eq!(between(&before, &now), tables(&["b"]));

    let all = |oid: u32| Publication { all_tables: true, oid, sends: sends(&["a"]), ..named(&[]) };
    let before = at(all(50), &[(1, "a")]);
    assert_eq!(between(&before, &before), Gaps::default());
    // It was dropped and created again.
    assert_eq!(between(&before, &at(all(51), &[(1, "a")])), tables(&["a"]));
}

#[test]
fn options_that_were_altered_are_seen_unless_by_us_or_under_another_name() {
    let wanted = [(1, "a")];
    let before = at(named(&[(1, 100)]), &wanted);
    let version = "701".to_owned();
    let altered_now = Publication { version: version.clone(), ..named(&[(1, 100)]) };
    let now = at(altered_now.clone(), &wanted);
    assert_eq!(between(&before, &now), Gaps { tables: Vec::new(), is_altered: true });
    let mut elsewhere = before.imprint.unwrap();
    elsewhere.publication = "q".to_owned();
    assert_eq!(gaps(&elsewhere, &now), Gaps::default());

    // We add operations and a table; meanwhile somebody puts another one back.
    let wanted = vec![table(1, "a"), table(2, "b"), table(3, "c")];
    let looked = Seen { wanted, ..seen(named(&[(1, 100), (3, 102)])) };
    let mut ours = look(AUTO, &Operation::all(), &looked);
    assert_eq!(
        (ours.added_oids.as_slice(), ours.members["public.b"]),
        (&[2][..], Membership::Unsent)
    );
    let statements = ours.plan.statements("p");
    let done: Vec<&str> = statements.iter().map(String::as_str).collect();
    let after = Publication { named: HashMap::from([(1, 100), (2, 101), (3, 105)]), ..altered_now };
    let imprint = altered("p", &ours, &after, &done);
    assert_eq!((&imprint.version, &imprint.entries), (&version, &BTreeSet::from([100, 101])));
    let next = at(after.clone(), &[(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(gaps(&imprint, &next), tables(&["c"]));
    // The options are not ours where the statement was not run.
    assert_eq!(altered("p", &ours, &after, &[]).version, "700");
    // What we create is all ours.
    ours.imprint = None;
    assert_eq!(altered("p", &ours, &after, &done).entries.len(), 3);
}

#[test]
fn many_names_are_cut() {
    let names = vec!["t"; NAMES_MAX + 1];
    assert!(listed(&names).ends_with("t, … (21 in all)"));
    assert_eq!(listed(&["a", "b"]), "a, b");
}
