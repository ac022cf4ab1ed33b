//! Compares the publication with what is wanted: what to change, and what to say. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rowtide_sdk::{Finding, Severity, TableFilter};

use super::gaps::{Imprint, Sending};
use super::identity::{unlike_partitions, unpublishable};
use super::{CatalogTable, Publication, generated};
use crate::config::{Operation, PublicationManagement};
use crate::error::codes as refusals;
use crate::preflight::codes as checks;
use crate::sql::{ident, literal, table_name};
use crate::stream::codes;

/// What the settings ask of the publication.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    pub(crate) management: PublicationManagement,
    pub(crate) filter: &'a TableFilter,
    pub(crate) operations: &'a BTreeSet<Operation>,
    /// The server's major version.
    pub(crate) major: u32,
    /// Whether it is a standby: SQL that changes anything is for its primary.
    pub(crate) in_recovery: bool,
    /// Our role.
    pub(crate) role: &'a str,
    /// The slot, for messages.
    pub(crate) slot: &'a str,
    /// Whether a position is saved: the publication was there before, and what comes up now must not
    /// end what runs.
    pub(crate) is_resumed: bool,
}

/// What the catalog says about the publication and the tables.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) publication: Option<Publication>,
    pub(crate) wanted: Vec<CatalogTable>,
    /// The tables named in the publication that are not wanted, as SQL, by oid.
    pub(crate) others: HashMap<u32, String>,
    /// Oid and name of the tables that it sends whose updates and deletes could not be logged; known
    /// only where it leaves out operations.
    pub(crate) unidentified: Vec<(u32, String)>,
}

/// How a wanted table comes to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It is not sent.
    Unsent,
    /// By its name.
    Named,
    /// With its schema, its partitioned table, or with all tables.
    Whole,
    /// We have just added it.
    Added,
}

/// The wanted tables by name.
pub(crate) type Members = HashMap<String, Membership>;

/// How many of the wanted tables are sent.
pub(crate) fn sent(members: &Members) -> usize {
    members.values().filter(|membership| **membership != Membership::Unsent).count()
}

/// What to change so that the publication sends the wanted tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The publication does not exist.
    pub(crate) create: bool,
    /// Tables to add, as SQL.
    pub(crate) add: Vec<String>,
    /// Tables named in the publication that are not wanted, as SQL.
    pub(crate) drop: Vec<String>,
    /// What it is to publish, where that must change or differs from the server's default.
    pub(crate) publish: Option<BTreeSet<Operation>>,
    /// Whether stored generated columns are to be sent, which are not so far.
    pub(crate) generated: bool,
}

/// The value of the option `publish`.
pub(crate) fn publish(operations: &BTreeSet<Operation>) -> String {
    let names: Vec<&str> = operations.iter().map(|operation| operation.name()).collect();
    names.join(", ")
}

impl Plan {
    /// Whether nothing of use can be streamed before it is carried out: all else can follow later.
    pub(crate) fn comes_first(&self) -> bool {
        self.create || self.publish.is_some()
    }

    /// The statement for what is to be added, where there is anything to do.
    pub(crate) fn statements(&self, name: &str) -> Vec<String> {
        let only = |tables: &[String]| {
            tables.iter().map(|table| format!("ONLY {table}")).collect::<Vec<_>>().join(", ")
        };
        let publication = ident(name);
        if self.create {
            let tables = match self.add.is_empty() {
                true => String::new(),
                false => format!(" FOR TABLE {}", only(&self.add)),
            };
            let publish = match &self.publish {
                Some(operations) => format!("publish = '{}', ", publish(operations)),
                None => String::new(),
            };
            let generated = match self.generated {
                true => format!(", {}", generated::OPTION),
                false => String::new(),
            };
            return vec![format!(
                "CREATE PUBLICATION {publication}{tables} WITH ({publish}publish_via_partition_root = \
                 true{generated})"
            )];
        }
        let mut statements = Vec::new();
        if !self.drop.is_empty() {
            let tables = only(&self.drop);
            statements.push(format!("ALTER PUBLICATION {publication} DROP TABLE {tables}"));
        }
        // In one statement, and before tables are added: nothing may fail in between.
        statements.extend(set_options(name, self.publish.as_ref(), self.generated));
        if !self.add.is_empty() {
            statements
                .push(format!("ALTER PUBLICATION {publication} ADD TABLE {}", only(&self.add)));
        }
        statements
    }
}

/// The statement that has a publication publish operations and send generated columns, where there is
/// either to do.
pub(super) fn set_options(
    name: &str,
    operations: Option<&BTreeSet<Operation>>,
    generated: bool,
) -> Option<String> {
    let publish = operations.map(|operations| format!("publish = '{}'", publish(operations)));
    let generated = generated.then(|| generated::OPTION.to_owned());
    let options: Vec<String> = publish.into_iter().chain(generated).collect();
    (!options.is_empty())
        .then(|| format!("ALTER PUBLICATION {} SET ({})", ident(name), options.join(", ")))
}

/// What a look at the publication found.
#[derive(Debug)]
pub(crate) struct Review {
    /// What would bring it in step; empty where it is not ours to change.
    pub(crate) plan: Plan,
    /// What is wrong or will surprise.
    pub(crate) findings: Vec<Finding>,
    /// The names of the tables to be added, for messages.
    pub(crate) added: Vec<String>,
    /// Their oids.
    pub(crate) added_oids: Vec<u32>,
    /// The oids of wanted tables that are not sent now.
    pub(crate) unsent: BTreeSet<u32>,
    /// By what the others are.
    pub(crate) sendings: Vec<Sending>,
    /// How it stands now; `None` where there is none.
    pub(crate) imprint: Option<Imprint>,
    /// Wanted operations that it does not publish so far.
    pub(crate) lacking: BTreeSet<Operation>,
    /// Whether stored generated columns are sent, once the plan is carried out.
    pub(crate) sends_generated: bool,
    /// How each wanted table is sent now.
    pub(crate) members: Members,
}

pub(super) fn finding(
    severity: Severity,
    code: rowtide_sdk::Code,
    message: String,
    remedy: String,
) -> Finding {
    let remedy = (!remedy.is_empty()).then_some(remedy);
    Finding { remedy, ..Finding::new(severity, code, message) }
}

/// Says of SQL that changes the database where it must run, as a standby takes none.
pub(crate) fn on_primary(finding: Finding) -> Finding {
    const CHANGES: [&str; 6] = [
        "ALTER TABLE",
        "ALTER PUBLICATION",
        "ALTER ROLE",
        "CREATE PUBLICATION",
        "CREATE UNIQUE INDEX",
        "GRANT ",
    ];
    let changes = |remedy: &String| {
        CHANGES.iter().any(|verb| remedy.contains(verb)) && !remedy.contains(ON_IT)
    };
    match finding.remedy.as_ref().filter(|remedy| changes(remedy)) {
        Some(remedy) => Finding { remedy: Some(format!("{ON_IT}: {remedy}")), ..finding },
        None => finding,
    }
}

const ON_IT: &str = "on the primary";

/// Compares the publication with what is wanted; changes nothing.
pub(crate) fn review(wish: Wish<'_>, seen: &Seen) -> Review {
    let mut review = compare(wish, seen);
    if wish.in_recovery {
        review.findings = review.findings.into_iter().map(on_primary).collect();
    }
    review
}

fn compare(wish: Wish<'_>, seen: &Seen) -> Review {
    let Seen { publication, wanted, others, .. } = seen;
    let name = wish.name;
    let mut review = Review {
        plan: Plan::default(),
        findings: Vec::new(),
        added: Vec::new(),
        added_oids: Vec::new(),
        unsent: wanted.iter().map(|table| table.oid).collect(),
        sendings: Vec::new(),
        imprint: None,
        lacking: BTreeSet::new(),
        sends_generated: false,
        members: Members::new(),
    };
    let is_auto = wish.management == PublicationManagement::Auto;
    let ours = publication.as_ref().map_or(is_auto, |publication| {
        is_auto && publication.is_ours && !publication.all_tables && publication.schemas.is_empty()
    });
    if wanted.is_empty() {
        review.findings.push(
            finding(
                Severity::Warning,
                codes::NO_TABLES,
                "no table of the database matches `tables`".to_owned(),
                "check the patterns; tables created later are captured all the same".to_owned(),
            )
            .at("tables.include"),
        );
    }
    let Some(publication) = publication else {
        absent(wish, wanted, ours, &mut review);
        return review;
    };
    if ours {
        let dropped = publication.named.keys().filter_map(|oid| others.get(oid).cloned());
        review.plan.drop.extend(dropped);
        review.plan.drop.sort_unstable();
    }
    operations(wish, publication, seen, ours, &mut review);
    review.findings.extend(partial(name, publication));
    review.findings.extend(partitions(name, publication, wanted));
    review.members =
        wanted.iter().map(|table| (table.full_name(), membership(publication, table))).collect();
    let is_sent = |table: &&CatalogTable| membership(publication, table) != Membership::Unsent;
    let (sent, unsent): (Vec<_>, Vec<_>) = wanted.iter().partition(is_sent);
    review.unsent = unsent.iter().map(|table| table.oid).collect();
    review.sendings = sent.iter().map(|table| Sending::of(publication, table)).collect();
    review.imprint = Some(Imprint::of(name, publication, review.unsent.clone()));
    if names_old_rows(&publication.operations()) {
        let sent_in_vain = sent.iter().filter(|table| !table.has_identity);
        review.findings.extend(sent_in_vain.map(|table| unpublishable(table, Some(name))));
    }
    let via_root = publication.via_root;
    if via_root {
        let unlike = sent.iter().filter_map(|table| unlike_partitions(table, Some(name)));
        review.findings.extend(unlike);
    }
    let operations = wish.operations.union(&publication.operations()).copied().collect();
    if ours {
        add(wish, unsent, &operations, via_root, &mut review);
    } else {
        let unsent = fit(unsent, &operations, via_root, &mut review);
        let lacks = !publication.sends_generated && need_generated(&unsent, &operations);
        review.findings.extend(unsent_findings(name, &unsent, lacks));
    }
    review.plan.generated &= !publication.sends_generated;
    generated::compare(wish, publication, seen, ours, &mut review);
    review
}

/// There is no publication: it is created, where it is ours and was never there.
fn absent(wish: Wish<'_>, wanted: &[CatalogTable], ours: bool, review: &mut Review) {
    let all: Vec<&CatalogTable> = wanted.iter().collect();
    if wish.is_resumed || !ours {
        let fit = fit(all, wish.operations, true, review);
        let created = Plan {
            add: fit.iter().map(|table| table.sql()).collect(),
            generated: need_generated(&fit, wish.operations),
            ..new(wish)
        };
        review.findings.push(missing(wish, &created.statements(wish.name).concat()));
        return;
    }
    review.plan = new(wish);
    add(wish, all, wish.operations, true, review);
    review.sends_generated = review.plan.generated;
    if review.plan.generated {
        review.findings.push(generated::will_send(wish.name, Severity::Info, "created", &[]));
    }
}

/// A publication that is to be created, without tables so far.
fn new(wish: Wish<'_>) -> Plan {
    let publish = (*wish.operations != Operation::all()).then(|| wish.operations.clone());
    Plan { create: true, publish, ..Plan::default() }
}

/// Whether any of these operations names an old row, for which a table needs an identity.
pub(crate) fn names_old_rows(operations: &BTreeSet<Operation>) -> bool {
    operations.contains(&Operation::Update) || operations.contains(&Operation::Delete)
}

/// How a table comes to be sent by a publication.
pub(crate) fn membership(publication: &Publication, table: &CatalogTable) -> Membership {
    if publication.named.contains_key(&table.oid) {
        return Membership::Named;
    }
    let is_whole = publication.all_tables
        || (!publication.schemas.is_empty() && table.is_partitioned)
        || publication.sends.contains(&(table.schema.clone(), table.name.clone()));
    if is_whole { Membership::Whole } else { Membership::Unsent }
}

/// The tables that can be published with these operations. The others are named: their updates and
/// deletes would then fail in the application, or come with old rows that are not true.
fn fit<'a>(
    tables: Vec<&'a CatalogTable>,
    operations: &BTreeSet<Operation>,
    via_root: bool,
    review: &mut Review,
) -> Vec<&'a CatalogTable> {
    if !names_old_rows(operations) {
        return tables;
    }
    let mut fit = Vec::new();
    for table in tables {
        let unlike = unlike_partitions(table, None).filter(|_| via_root);
        if !table.has_identity || unlike.is_some() {
            let unpublishable = || unpublishable(table, None);
            review.findings.push(unlike.unwrap_or_else(unpublishable));
        } else {
            fit.push(table);
        }
    }
    fit
}

/// Whether a publication of these operations must send generated columns of these tables.
fn need_generated(tables: &[&CatalogTable], operations: &BTreeSet<Operation>) -> bool {
    names_old_rows(operations) && tables.iter().any(|table| table.needs_generated())
}

/// Plans to add tables that can be published, where the role may publish them.
fn add(
    wish: Wish<'_>,
    tables: Vec<&CatalogTable>,
    operations: &BTreeSet<Operation>,
    via_root: bool,
    review: &mut Review,
) {
    let mut foreign: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for table in fit(tables, operations, via_root, review) {
        if table.is_ours {
            review.plan.generated |= need_generated(&[table], operations);
            review.plan.add.push(table.sql());
            review.added.push(table.full_name());
            review.added_oids.push(table.oid);
        } else {
            foreign.entry(table.owner.as_str()).or_default().push(table.full_name());
        }
    }
    review.findings.extend(foreign.iter().map(|(owner, tables)| not_owner(wish, owner, tables)));
}

/// The publication is not there and not ours to create; `created` is the statement that does. Under
/// a saved position a new slot must follow it.
fn missing(wish: Wish<'_>, created: &str) -> Finding {
    let name = wish.name;
    let (message, remedy) = if wish.is_resumed {
        let slot = literal(wish.slot);
        let create = crate::slot::creation(wish.slot, wish.major >= 17 && !wish.in_recovery);
        let [primary, here] = match wish.in_recovery {
            true => ["on the primary: ", "on this standby: "],
            false => ["", ""],
        };
        (
            format!("there is a saved position, but the publication \"{name}\" is gone"),
            format!(
                "where `publication` was changed in the settings, change it back: nothing is lost then. Where it \
                 was dropped, changes since then cannot be decoded. Knowing that they are lost, start \
                 over in this order: 1. {primary}{created}; 2. {here}SELECT \
                 pg_drop_replication_slot({slot}); 3. {here}{create}; 4. `rowtide position adopt --connector NAME`"
            ),
        )
    } else {
        (
            format!("the publication \"{name}\" does not exist and is managed elsewhere"),
            format!("{created}; create it before the slot"),
        )
    };
    finding(Severity::Error, refusals::PUBLICATION_MISSING, message, remedy).at(place(name))
}

pub(super) fn place(publication: &str) -> String {
    format!("publication {publication}")
}

/// Operations that the publication leaves out: nothing in the log tells that they happened. Mended
/// where we may and nobody is hurt, else refused. `drops` tells whether unwanted tables leave it.
fn operations(
    wish: Wish<'_>,
    publication: &Publication,
    seen: &Seen,
    drops: bool,
    review: &mut Review,
) {
    let published = publication.operations();
    let lacking: BTreeSet<Operation> = wish.operations.difference(&published).copied().collect();
    if lacking.is_empty() {
        return;
    }
    let all = wish.operations.union(&published).copied().collect();
    let generated = names_old_rows(&all) && !publication.generated_unsent.is_empty();
    let name = wish.name;
    let message = format!("the publication \"{name}\" does not publish {}", publish(&lacking));
    let in_the_way: Vec<&str> = seen
        .unidentified
        .iter()
        .filter(|(oid, _)| !drops || !seen.others.contains_key(oid))
        .map(|(_, table)| table.as_str())
        .collect();
    let needs_identity =
        lacking.contains(&Operation::Update) || lacking.contains(&Operation::Delete);
    let is_ours = wish.management == PublicationManagement::Auto && publication.is_ours;
    review.lacking = lacking;
    let found = if is_ours && needs_identity && !in_the_way.is_empty() {
        finding(
            Severity::Error,
            codes::OPERATIONS_MISSING,
            format!(
                "{message}, and to publish it would make the application's updates and deletes of \
                 these tables fail, as they have no usable replica identity: {}",
                in_the_way.join(", ")
            ),
            "give them a primary key (or REPLICA IDENTITY FULL, where they have no generated columns), \
             or take them out of the publication"
                .to_owned(),
        )
    } else if is_ours {
        review.plan.publish = Some(all);
        finding(
            Severity::Info,
            codes::OPERATIONS_MISSING,
            format!("{message}: it will be altered to"),
            String::new(),
        )
    } else {
        finding(
            Severity::Error,
            codes::OPERATIONS_MISSING,
            format!("{message}: such changes would be missing without a sign"),
            format!(
                "as its owner: {}; or, where they shall not be captured, say so: \
                 publication_operations: [{}]",
                set_options(name, Some(&all), generated).unwrap_or_default(),
                publish(&wish.operations.intersection(&published).copied().collect())
            ),
        )
    };
    review.findings.push(found.at(place(name)));
}

/// Rows and columns that the publication leaves out, and what that does to the application.
fn partial(name: &str, publication: &Publication) -> Vec<Finding> {
    let mut findings = Vec::new();
    let changes_old_rows = publication.update || publication.delete;
    for table in &publication.partial {
        let full_name = format!("{}.{}", table.schema, table.name);
        let place = format!("table {full_name}");
        let mut left_out = Vec::new();
        if table.is_filtered {
            left_out.push("rows, by a WHERE".to_owned());
        }
        if !table.left_out.is_empty() {
            left_out.push(format!("the columns {}", table.left_out.join(", ")));
        }
        if !left_out.is_empty() {
            let message = format!(
                "the publication \"{name}\" leaves out {} of {full_name}",
                left_out.join(", and ")
            );
            let remedy = "where that is not meant, name the table in it without WHERE and without \
                          columns";
            findings.push(
                finding(
                    Severity::Warning,
                    codes::PUBLICATION_INCOMPLETE,
                    message,
                    remedy.to_owned(),
                )
                .at(place.clone()),
            );
        }
        let why = match (&*table.identity_left_out, &*table.filter_not_logged) {
            _ if table.is_full && table.is_listed => {
                "it lists columns, and the replica identity is FULL".to_owned()
            }
            ([], []) => continue,
            ([], columns) => {
                format!("its WHERE reads {}, which the replica identity lacks", columns.join(", "))
            }
            (columns, _) => {
                format!("its column list lacks {} of the replica identity", columns.join(", "))
            }
        };
        if changes_old_rows {
            let mut remedy = match table.is_full {
                true => "name the table in the publication without columns",
                false => {
                    "name the table in the publication with all columns of its replica identity and \
                     a WHERE over these alone"
                }
            }
            .to_owned();
            // FULL allows no list, and asks for generated columns to be sent.
            if !table.is_listed && !table.has_generated {
                let full = table_name(&table.schema, &table.name);
                remedy = format!("{remedy}, or ALTER TABLE {full} REPLICA IDENTITY FULL");
            }
            let message = format!(
                "the application's updates and deletes of {full_name} fail while the publication \
                 \"{name}\" is as it is: {why}"
            );
            findings
                .push(finding(Severity::Warning, checks::UPDATES_FAIL, message, remedy).at(place));
        }
    }
    findings
}

/// Partitions whose changes come under names of their own, which the selection may not match.
fn partitions(name: &str, publication: &Publication, wanted: &[CatalogTable]) -> Option<Finding> {
    let roots: Vec<String> =
        wanted.iter().filter(|table| table.is_partitioned).map(CatalogTable::full_name).collect();
    (!publication.via_root && !roots.is_empty()).then(|| {
        finding(
            Severity::Warning,
            codes::PUBLICATION_INCOMPLETE,
            format!(
                "the publication \"{name}\" sends changes of partitions under the partitions' own \
                 names; those that `tables` does not match are not captured: {}",
                roots.join(", ")
            ),
            format!("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", ident(name)),
        )
        .at(place(name))
    })
}

/// Tables that the publication does not send; `lacks` tells whether it must send generated columns first.
fn unsent_findings(name: &str, unsent: &[&CatalogTable], lacks: bool) -> Option<Finding> {
    let options = set_options(name, None, lacks).map_or_else(String::new, |set| format!("{set}; "));
    let names: Vec<String> = unsent.iter().map(|table| table.full_name()).collect();
    let sql: Vec<String> = unsent.iter().map(|table| table.sql()).collect();
    (!unsent.is_empty()).then(|| {
        finding(
            Severity::Warning,
            codes::PUBLICATION_INCOMPLETE,
            format!(
                "the publication \"{name}\" does not send these tables, which `tables` asks for: {}",
                names.join(", ")
            ),
            format!("{options}ALTER PUBLICATION {} ADD TABLE {}", ident(name), sql.join(", ")),
        )
        .at(place(name))
    })
}

/// Tables that the role may not publish: only an owner of both may add a table to a publication. It
/// keeps a connector from its first start; one that was captured before goes on without them.
fn not_owner(wish: Wish<'_>, owner: &str, tables: &[String]) -> Finding {
    let severity = if wish.is_resumed { Severity::Warning } else { Severity::Error };
    let (publication, role, owner) = (ident(wish.name), ident(wish.role), ident(owner));
    let place = match tables {
        [table] => format!("table {table}"),
        _ => place(wish.name),
    };
    finding(
        severity,
        refusals::PERMISSION,
        format!(
            "the role {role} does not own these tables and cannot publish them: {}",
            tables.join(", ")
        ),
        format!(
            "GRANT {owner} TO {role}; or set `publication_management: external` and have a superuser \
             create {publication} and add its tables; or exclude them in `tables`"
        ),
    )
    .at(place)
}

#[cfg(test)]
pub(super) mod tests;
