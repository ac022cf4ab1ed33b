//! What a look at the publication finds and plans.

use std::collections::HashSet;

use super::super::Generated;
use super::*;
use crate::config::TableSelection;

pub(crate) fn table(oid: u32, name: &str) -> CatalogTable {
    CatalogTable {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        identity: 'd',
        has_identity: true,
        bare_partitions: Vec::new(),
        unlike_partitions: Vec::new(),
        generated: Generated::default(),
        identity_columns: vec!["id".to_owned()],
        primary_key: vec!["id".to_owned()],
        columns: vec!["id".to_owned()],
        owner: "app".to_owned(),
        is_ours: true,
        is_partitioned: false,
        ancestors: Vec::new(),
    }
}

/// A publication of ours that names the table 1 and publishes inserts and updates.
pub(crate) fn publication() -> Publication {
    Publication {
        oid: 50,
        version: "700".to_owned(),
        all_tables: false,
        schemas: HashMap::new(),
        via_root: true,
        is_ours: true,
        insert: true,
        update: true,
        delete: false,
        truncate: false,
        sends_generated: false,
        generated_unsent: Vec::new(),
        named: HashMap::from([(1, 100)]),
        sends: HashSet::new(),
        partial: Vec::new(),
    }
}

pub(crate) fn look(
    management: PublicationManagement,
    operations: &BTreeSet<Operation>,
    seen: &Seen,
) -> Review {
    let filter = TableSelection::default().filter().unwrap();
    let wish = Wish {
        name: "p",
        management,
        filter: &filter,
        operations,
        major: 18,
        in_recovery: false,
        role: "rowtide",
        slot: "s",
        is_resumed: false,
    };
    review(wish, seen)
}

pub(crate) fn seen(publication: Publication) -> Seen {
    Seen { publication: Some(publication), wanted: vec![table(1, "t")], ..Seen::default() }
}

fn errors(review: &Review) -> Vec<&Finding> {
    review.findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

const AUTO: PublicationManagement = PublicationManagement::Auto;
const EXTERNAL: PublicationManagement = PublicationManagement::External;

#[test]
fn lacking_operations_are_added_where_we_may() {
    let all = Operation::all();
    let mended = look(AUTO, &all, &seen(publication()));
    assert!(errors(&mended).is_empty(), "{:#?}", mended.findings);
    let expected = "ALTER PUBLICATION \"p\" SET (publish = 'insert, update, delete, truncate')";
    assert_eq!(mended.plan.statements("p"), [expected]);
    // A publication of all tables is not ours to fill, but its options may be set.
    let wide = Publication { all_tables: true, ..publication() };
    assert_eq!(look(AUTO, &all, &seen(wide)).plan.statements("p"), [expected]);
    // What it publishes beyond the wish stays.
    let wish = BTreeSet::from([Operation::Insert, Operation::Delete]);
    let mended = look(AUTO, &wish, &seen(publication()));
    assert_eq!(
        mended.plan.statements("p"),
        ["ALTER PUBLICATION \"p\" SET (publish = 'insert, update, delete')"]
    );
}

#[test]
fn lacking_operations_are_refused_elsewhere_unless_they_are_the_stated_choice() {
    let all = Operation::all();
    let foreign = Publication { is_ours: false, ..publication() };
    for (management, publication) in [(EXTERNAL, publication()), (AUTO, foreign)] {
        let refused = look(management, &all, &seen(publication));
        let errors = errors(&refused);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, codes::OPERATIONS_MISSING);
        assert!(errors[0].message.contains("delete, truncate"));
        let remedy = errors[0].remedy.as_deref().unwrap();
        assert!(remedy.contains("publication_operations: [insert, update]"), "{remedy}");
        assert_eq!(refused.plan, Plan::default());
    }
    let stated = BTreeSet::from([Operation::Insert]);
    assert!(errors(&look(EXTERNAL, &stated, &seen(publication()))).is_empty());
}

#[test]
fn publishing_deletes_never_breaks_the_application() {
    let seen = Seen { unidentified: vec![(2, "public.keyless".to_owned())], ..seen(publication()) };
    let refused = look(AUTO, &Operation::all(), &seen);
    assert!(errors(&refused)[0].message.contains("public.keyless"));
    assert_eq!(refused.plan.publish, None);
    // A table that leaves the publication first does not matter.
    let others = HashMap::from([(2, "\"x\".\"keyless\"".to_owned())]);
    let named = HashMap::from([(1, 100), (2, 101)]);
    let seen = Seen { publication: Some(Publication { named, ..publication() }), others, ..seen };
    let mended = look(AUTO, &Operation::all(), &seen);
    let statements = mended.plan.statements("p");
    assert!(statements[0].contains("DROP TABLE ONLY \"x\".\"keyless\""), "{statements:?}");
    assert!(statements[1].contains("SET (publish"), "{statements:?}");
    // Truncates need no identity.
    let publication = Publication { delete: true, ..publication() };
    let seen = Seen { publication: Some(publication), others: HashMap::new(), ..seen };
    assert!(look(AUTO, &Operation::all(), &seen).plan.publish.is_some());
}

#[test]
fn a_new_publication_has_the_stated_operations() {
    let new = Seen { wanted: vec![table(1, "t")], ..Seen::default() };
    assert_eq!(
        look(AUTO, &Operation::all(), &new).plan.statements("p"),
        [
            "CREATE PUBLICATION \"p\" FOR TABLE ONLY \"public\".\"t\" WITH (publish_via_partition_root = true)"
        ]
    );
    let stated = BTreeSet::from([Operation::Insert]);
    assert_eq!(
        look(AUTO, &stated, &new).plan.statements("p"),
        [
            "CREATE PUBLICATION \"p\" FOR TABLE ONLY \"public\".\"t\" WITH (publish = 'insert', publish_via_partition_root = true)"
        ]
    );
}

fn keyless(oid: u32, name: &str) -> CatalogTable {
    CatalogTable { has_identity: false, ..table(oid, name) }
}

fn of(review: &Review, code: rowtide_sdk::Code) -> Vec<&Finding> {
    review.findings.iter().filter(|finding| finding.code == code).collect()
}

#[test]
fn printed_sql_never_breaks_the_application() {
    let wanted = vec![table(2, "u"), keyless(3, "keyless")];
    let all = Operation::all();
    let everything = Publication { delete: true, truncate: true, ..publication() };
    let present = Seen { publication: Some(everything), wanted: wanted.clone(), ..Seen::default() };
    let absent = Seen { wanted, ..Seen::default() };
    for (seen, code, sql) in [
        (&absent, refusals::PUBLICATION_MISSING, "FOR TABLE ONLY \"public\".\"u\" WITH"),
        (&present, codes::PUBLICATION_INCOMPLETE, "ADD TABLE \"public\".\"u\""),
    ] {
        let looked = look(EXTERNAL, &all, seen);
        let found = of(&looked, code);
        let remedy = found[0].remedy.as_deref().unwrap();
        assert!(remedy.contains(sql) && !remedy.contains("keyless"), "{remedy}");
        let named = of(&looked, codes::NO_IDENTITY);
        assert!(named.len() == 1 && named[0].message.contains("public.keyless"), "{named:?}");
    }
    // Inserts and truncates need none, of tables that are published already too.
    let stated = BTreeSet::from([Operation::Insert, Operation::Truncate]);
    let inserts = Publication { update: false, truncate: true, ..publication() };
    let present = Seen {
        publication: Some(inserts),
        wanted: vec![keyless(1, "named"), keyless(3, "keyless")],
        ..Seen::default()
    };
    let looked = look(EXTERNAL, &stated, &present);
    assert!(of(&looked, codes::NO_IDENTITY).is_empty(), "{:?}", looked.findings);
    assert!(of(&looked, codes::PUBLICATION_INCOMPLETE)[0].message.contains("public.keyless"));
    for seen in [&present, &absent] {
        let looked = look(AUTO, &stated, seen);
        assert!(looked.findings.is_empty(), "{:?}", looked.findings);
        assert!(looked.plan.statements("p")[0].contains("ONLY \"public\".\"keyless\""));
    }
}

#[test]
fn tables_of_others_keep_a_connector_from_its_first_start_only() {
    let foreign = |oid, name| CatalogTable { is_ours: false, ..table(oid, name) };
    let publication = Publication { delete: true, truncate: true, ..publication() };
    let seen = Seen {
        publication: Some(publication),
        wanted: vec![table(1, "t"), table(2, "u"), foreign(3, "a"), foreign(4, "b")],
        ..Seen::default()
    };
    let filter = TableSelection::default().filter().unwrap();
    let operations = Operation::all();
    for (is_resumed, severity) in [(false, Severity::Error), (true, Severity::Warning)] {
        let wish = Wish {
            name: "p",
            management: AUTO,
            filter: &filter,
            operations: &operations,
            major: 18,
            in_recovery: false,
            role: "rowtide",
            slot: "s",
            is_resumed,
        };
        let looked = review(wish, &seen);
        let found = of(&looked, refusals::PERMISSION);
        assert_eq!((found.len(), found[0].severity), (1, severity));
        assert!(found[0].message.ends_with("public.a, public.b"), "{}", found[0].message);
        assert!(found[0].remedy.as_deref().unwrap().starts_with("GRANT \"app\" TO \"rowtide\";"));
        // What can be added is.
        let added = "ALTER PUBLICATION \"p\" ADD TABLE ONLY \"public\".\"u\"";
        assert_eq!(looked.plan.statements("p"), [added]);

        // A publication that is gone is made again by the operator, and before the slot.
        let gone = review(wish, &Seen { wanted: seen.wanted.clone(), ..Seen::default() });
        assert_eq!(gone.plan.create, !is_resumed);
        if is_resumed {
            let remedy = of(&gone, refusals::PUBLICATION_MISSING)[0].remedy.as_deref().unwrap();
            let places = [
                "1. CREATE PUBLICATION",
                "2. SELECT pg_drop_replication_slot(E's')",
                "3. SELECT pg_create_logical_replication_slot(E's', 'pgoutput', false, false, true)",
                "4. `rowtide position adopt --connector NAME`",
            ]
            .map(|step| remedy.find(step));
            assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{remedy}");
        }
    }
}

/// A table whose identity has a stored generated column.
fn generated(oid: u32, name: &str) -> CatalogTable {
    let stored_identity = vec!["g".to_owned()];
    let generated = Generated { stored_identity, has_stored: true, ..Generated::default() };
    CatalogTable { generated, ..table(oid, name) }
}

#[test]
fn generated_columns_of_an_identity_are_sent() {
    let all = Operation::all();
    let new = Seen { wanted: vec![generated(1, "t")], ..Seen::default() };
    let created = look(AUTO, &all, &new);
    assert_eq!(
        created.plan.statements("p"),
        [
            "CREATE PUBLICATION \"p\" FOR TABLE ONLY \"public\".\"t\" WITH (publish_via_partition_root = true, publish_generated_columns = stored)"
        ]
    );
    assert!(created.sends_generated);
    let missing = look(EXTERNAL, &all, &new);
    assert!(errors(&missing)[0].remedy.as_ref().unwrap().contains("publish_generated_columns"));
    // Inserts alone ask for nothing.
    let inserts = BTreeSet::from([Operation::Insert]);
    let created = look(AUTO, &inserts, &new);
    assert!(!created.plan.statements("p")[0].contains("generated") && !created.sends_generated);

    // What is there follows before a table is added, in the statement that adds operations.
    let there = Seen { wanted: vec![table(1, "t"), generated(2, "u")], ..seen(publication()) };
    assert_eq!(
        look(AUTO, &all, &there).plan.statements("p"),
        [
            "ALTER PUBLICATION \"p\" SET (publish = 'insert, update, delete, truncate', publish_generated_columns = stored)",
            "ALTER PUBLICATION \"p\" ADD TABLE ONLY \"public\".\"u\""
        ]
    );
    let whole =
        Publication { sends_generated: true, delete: true, truncate: true, ..publication() };
    let there = Seen { publication: Some(whole), ..there };
    let reviewed = look(AUTO, &all, &there);
    assert_eq!(
        reviewed.plan.statements("p"),
        ["ALTER PUBLICATION \"p\" ADD TABLE ONLY \"public\".\"u\""]
    );
    assert!(reviewed.sends_generated);
    let unsent = look(EXTERNAL, &all, &seen(publication()));
    assert!(!unsent.sends_generated);
}

#[test]
fn generated_columns_that_are_left_out_are_mended_where_we_may_and_refused_elsewhere() {
    let stated = BTreeSet::from([Operation::Insert, Operation::Update]);
    let lacking =
        Publication { generated_unsent: vec![(1, "public.t (g)".to_owned())], ..publication() };
    let seen_lacking = seen(lacking.clone());
    let mended = look(AUTO, &stated, &seen_lacking);
    assert_eq!(
        mended.plan.statements("p"),
        ["ALTER PUBLICATION \"p\" SET (publish_generated_columns = stored)"]
    );
    let found = mended.findings.iter().find(|found| found.code == checks::UPDATES_FAIL).unwrap();
    assert!(found.severity == Severity::Warning && found.message.contains("public.t (g)"));
    let refused = look(EXTERNAL, &stated, &seen_lacking);
    assert_eq!(errors(&refused)[0].code, checks::UPDATES_FAIL);
    assert_eq!(refused.plan, Plan::default());
    // A table that leaves the publication does not matter.
    let others = HashMap::from([(1, "\"public\".\"t\"".to_owned())]);
    let leaving = Seen { wanted: vec![table(2, "u")], others, ..seen(lacking.clone()) };
    assert!(!look(AUTO, &stated, &leaving).plan.generated);
    // Without updates and deletes nothing fails; the SQL that adds them keeps it so.
    let inserts = Publication { update: false, ..lacking };
    let refused = look(EXTERNAL, &stated, &seen(inserts));
    let errors = errors(&refused);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0]
            .remedy
            .as_ref()
            .unwrap()
            .contains("SET (publish = 'insert, update', publish_generated_columns = stored)")
    );
}

#[test]
fn virtual_columns_leave_no_way_through_whole_rows() {
    let virtual_full = vec!["public.t".to_owned()];
    let columns = Generated { virtual_full, has_virtual: true, ..Generated::default() };
    let full = CatalogTable {
        identity: 'f',
        has_identity: false,
        generated: columns.clone(),
        ..table(1, "t")
    };
    let new = Seen { wanted: vec![full.clone()], ..Seen::default() };
    let left_out = look(AUTO, &Operation::all(), &new);
    assert!(left_out.added.is_empty());
    let found = left_out.findings.iter().find(|found| found.code == codes::NO_IDENTITY).unwrap();
    assert!(found.message.contains("virtual generated columns"), "{found:?}");
    assert_eq!(found.remedy.as_deref(), Some("ALTER TABLE public.t REPLICA IDENTITY DEFAULT"));
    // Nor is it proposed for one without an identity.
    let columns = Generated { virtual_full: Vec::new(), ..columns };
    let bare = CatalogTable { identity: 'd', primary_key: Vec::new(), generated: columns, ..full };
    let new = Seen { wanted: vec![bare], ..Seen::default() };
    let left_out = look(AUTO, &Operation::all(), &new);
    assert!(left_out.findings.iter().all(|found| !found.remedy.as_ref().unwrap().contains("FULL")));
}
