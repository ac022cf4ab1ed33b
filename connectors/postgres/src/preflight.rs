//! The preflight of `rowtide check`: everything that would stop or surprise a run, at once. It
//! connects and looks, and changes nothing.

mod captured;
pub(crate) mod codes;
pub(crate) mod inherited;
mod reading;
mod role;
mod server;
mod tables;

use std::time::Duration;

use rowtide_sdk::{Code, Error, Finding, KeyLookup, Preflight, Result, Severity};
use serde::Deserialize;

use crate::config::Streaming;
use crate::describe;
use crate::error::codes as refusals;
use crate::family;
use crate::guard;
use crate::position::PgPosition;
use crate::publication::{self, CatalogTable, Members, Membership, Review};
use crate::server::{NOT_STREAMED_BY_14, Server, check_history, history};
use crate::slot::{self, Slot};
use crate::source::PostgresSource;
use crate::sql::{Sql, ident, json_row, literal};
use crate::stream::codes as stream;
use crate::wire::{ReplicationConnection, SqlClient, money_units, sql_client};

use self::role::Role;
use self::server::Surroundings;

/// A transaction that is open at two looks so far apart is one to wait for.
const TWO_LOOKS: Duration = Duration::from_secs(1);

/// Everything there is to say about a source's server, role, tables, publication and slot, and about
/// the saved position.
pub async fn check(source: &PostgresSource, known: Preflight<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let spool = source.check_spool(known.name, known.scratch);
    findings.extend(spool.err().as_ref().map(|error| Finding::from(error).at("spool")));
    let looked = look(source, known, &mut findings).await;
    keep(&mut findings, looked.map(|()| Vec::new()));
    findings
}

/// Which tables the publication sends now.
struct Sent<'a> {
    members: &'a Members,
    publication: &'a str,
}

impl<'a> Sent<'a> {
    /// The publication's name, where it sends the table.
    fn by(&self, schema: &str, table: &str) -> Option<&'a str> {
        let membership = self.members.get(&format!("{schema}.{table}"));
        membership.filter(|is| **is != Membership::Unsent).map(|_| self.publication)
    }
}

fn say(severity: Severity, code: Code, message: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(severity, code, message).with_remedy(remedy)
}

/// Adds what a question found. One that cannot be answered is a finding too, and keeps no other from
/// being asked.
fn keep(findings: &mut Vec<Finding>, answer: Result<Vec<Finding>>) {
    match answer {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let finding = Finding::from(&error);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
}

/// Adds findings; an error is what keeps it from looking at anything further.
async fn look(
    source: &PostgresSource,
    known: Preflight<'_>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let client = sql_client(&source.options).await?;
    // Of several servers, the same one is asked throughout.
    let source = &PostgresSource { options: client.options().clone(), ..source.clone() };
    let mut sql = &*client;
    let server = Server::ask(&mut sql).await?;
    let examined = examine(source, &client, &server, known, findings).await;
    if server.in_recovery {
        *findings = std::mem::take(findings).into_iter().map(publication::on_primary).collect();
    }
    examined
}

/// [`look`], at a server that answers.
async fn examine(
    source: &PostgresSource,
    client: &SqlClient,
    server: &Server,
    known: Preflight<'_>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let mut sql = &**client;
    findings.extend(abilities(source, server));
    let resume = match known.resume.map(PgPosition::parse).transpose() {
        Ok(resume) => resume,
        Err(error) => {
            findings.push(Finding::from(&error));
            None
        }
    };
    findings.extend(replication(source, server, resume.as_ref(), known).await);

    let slot = slot::find(&mut sql, &source.config.slot).await?;
    findings.extend(slot_findings(source, slot.as_ref(), resume.as_ref(), server));
    if known.is_first_start {
        findings.extend(slot.as_ref().and_then(|slot| older_slot(source, slot, server)));
    }
    let advice = guard::advice(&mut sql, source, server).await;
    keep(findings, advice);
    match &slot {
        Some(slot) => {
            if let Err(error) = slot.check_free(&mut sql).await {
                let busy = Finding { severity: Severity::Warning, ..Finding::from(&error) };
                findings.push(busy.at(slot_place(source)));
            }
        }
        None => {
            let open = open_transactions(&mut sql, source).await;
            keep(findings, open.map(|found| found.into_iter().collect()));
        }
    }
    match Surroundings::ask(&mut sql).await {
        Ok(around) => {
            findings.extend(server::slots(server, &around, &source.config.slot, slot.is_some()));
            findings.extend(server::settings(server, &around));
            findings.extend(server::encoding(server, &around));
        }
        Err(error) => keep(findings, Err(error)),
    }

    let review = publication::look(&mut sql, source.wish(server, known.resume.is_some())).await?;
    let will_change = !review.plan.statements(&source.config.publication).is_empty();
    let role = Role::ask(&mut sql).await;
    keep(findings, role.map(|role| role.findings(will_change)));
    let planned = planned(&mut sql, source, server, &review, slot.is_some()).await;
    let Review { findings: found, members, .. } = review;
    findings.extend(found);
    keep(findings, planned);
    let sent = Sent { members: &members, publication: &source.config.publication };
    let wanted = publication::wanted_tables(&mut sql, &source.filter).await?;
    findings.extend(wanted.iter().filter_map(|table| {
        let found = key_finding(table, known.keys, sent.by(&table.schema, &table.name))?;
        let is_aside = (known.sets_aside)(&table.schema, &table.name);
        Some(if is_aside { set_aside(found) } else { found })
    }));
    keep(findings, shared_keys(&mut sql, &wanted, known.keys).await);
    keep(findings, table_findings(source, client, server, known, &sent).await);
    keep(findings, reading::findings(&mut sql, source, server, known.reselects).await);
    if let Some(hiding) = known.hiding {
        keep(
            findings,
            family::findings(&mut sql, source, server, &wanted, (hiding, known.sightings)).await,
        );
        keep(findings, inherited::findings(&mut sql, source, server, hiding).await);
    }
    Ok(())
}

/// What the server cannot do, or not rightly.
fn abilities(source: &PostgresSource, server: &Server) -> Vec<Finding> {
    let obstacles = server.obstacles();
    let mut findings: Vec<Finding> =
        obstacles.iter().map(|error| Finding::from(error).at("server")).collect();
    findings.extend(source.check_abilities(server).err().as_ref().map(Finding::from));
    if source.config.streaming == Streaming::On && !server.streams_rightly() {
        let message = NOT_STREAMED_BY_14;
        let remedy = "set `streaming: off`, or update the server to PostgreSQL 15 or newer";
        findings.push(say(Severity::Warning, stream::NOT_STREAMED, message, remedy).at("server"));
    }
    findings
}

/// What only a replication connection can tell: that the role may replicate, that pg_hba.conf lets
/// it, that no pooler stands in between (H-73), and whom position and slot belong to.
async fn replication(
    source: &PostgresSource,
    server: &Server,
    resume: Option<&PgPosition>,
    known: Preflight<'_>,
) -> Vec<Finding> {
    let connection = match ReplicationConnection::connect(&source.options).await {
        Ok(connection) => connection,
        Err(error) => {
            return vec![Finding::from(&error).at(format!("role {}", source.options.user))];
        }
    };
    let mut findings = Vec::new();
    if connection.is_relayed() {
        findings.push(
            say(
                Severity::Warning,
                refusals::POOLER,
                "a pooler or proxy stands before the server: it lets replication through, and may \
                 end or move the connection for reasons of its own",
                "put the server's own host and port into `url`",
            )
            .at("url"),
        );
    }
    let refusals = ownership(source, connection, server, resume, known).await;
    findings.extend(refusals.iter().map(Finding::from));
    findings
}

fn slot_place(source: &PostgresSource) -> String {
    format!("slot {}", source.config.slot)
}

/// Transactions that the slot's creation would wait for (H-66): those that are still open at a second
/// look.
async fn open_transactions(sql: &mut impl Sql, source: &PostgresSource) -> Result<Option<Finding>> {
    let first = slot::blockers(sql).await?;
    if first.is_empty() {
        return Ok(None);
    }
    tokio::time::sleep(TWO_LOOKS).await;
    let second = slot::blockers(sql).await?;
    let stay = second.iter().filter(|one| first.iter().any(|other| other.id == one.id));
    let names: Vec<&str> = stay.map(|blocker| blocker.words.as_str()).collect();
    Ok((!names.is_empty()).then(|| {
        let message = format!(
            "the slot's creation would wait for transactions that are open, in any database of the \
             server: {}",
            names.join(", ")
        );
        let remedy = "end them, or wait: creation is tried again and again";
        say(Severity::Warning, stream::SLOT_BLOCKED, message, remedy).at(slot_place(source))
    }))
}

/// What a run would do to the publication, and whether it may.
async fn planned(
    sql: &mut impl Sql,
    source: &PostgresSource,
    server: &Server,
    review: &Review,
    has_slot: bool,
) -> Result<Vec<Finding>> {
    let name = &source.config.publication;
    let place = format!("publication {name}");
    let mut findings = Vec::new();
    if review.plan.create {
        let message = format!("the publication \"{name}\" will be created");
        findings.push(say(Severity::Info, refusals::PUBLICATION_MISSING, message, ""));
        findings.extend(may_create(sql, &server.database, &source.options.user).await?);
        if has_slot {
            findings.push(say(
                Severity::Warning,
                refusals::PUBLICATION_MISSING,
                "the slot is older than the publication: the server cannot decode changes written \
                 before the publication exists",
                "drop the slot, so that it is created after the publication",
            ));
        }
    } else if !review.added.is_empty() {
        let message =
            format!("the publication \"{name}\" will get the tables {}", review.added.join(", "));
        findings.push(say(Severity::Info, stream::PUBLICATION_INCOMPLETE, message, ""));
    }
    if !review.plan.drop.is_empty() {
        let message = format!(
            "tables that `tables` does not capture will be taken out of the publication \"{name}\": {}",
            review.plan.drop.join(", ")
        );
        let remedy = "where others read this publication too, choose another name for `publication`, or set \
             `publication_management: external`";
        findings.push(say(Severity::Warning, stream::PUBLICATION_INCOMPLETE, message, remedy));
    }
    Ok(findings.into_iter().map(|finding| finding.at(place.clone())).collect())
}

/// What each table, and each relation that is no table to the log, brings with it.
async fn table_findings(
    source: &PostgresSource,
    client: &SqlClient,
    server: &Server,
    known: Preflight<'_>,
    sent: &Sent<'_>,
) -> Result<Vec<Finding>> {
    let mut sql = &**client;
    let relations = tables::relations(&mut sql, &source.filter).await?;
    let mut findings = tables::not_logged(&relations, &source.filter);
    findings.extend(tables::row_security(&relations));
    let described = describe::described(source, client).await?;
    findings.extend(tables::generated(&relations, &described, server.major()));
    for table in &described {
        // Where values are read back, the settings have dealt with it.
        if !(known.reselects)(&table.schema, &table.name) {
            let is_hidden = |column: &str| (known.excludes)(&table.schema, &table.name, column);
            let sent_by = sent.by(&table.schema, &table.name);
            let full = tables::full_identity(&relations, table, server.major(), sent_by);
            findings.extend(tables::may_be_unchanged(table, &is_hidden, full));
        }
        findings.extend(tables::precision(table));
    }
    let money = tables::of_type(&described, "money");
    if !money.is_empty() {
        let units = money_units(&source.options).await?;
        findings.extend(tables::money(&money, units));
    }
    Ok(findings)
}

/// What a run would refuse because the position or the slot belongs elsewhere.
async fn ownership(
    source: &PostgresSource,
    mut connection: ReplicationConnection,
    server: &Server,
    resume: Option<&PgPosition>,
    known: Preflight<'_>,
) -> Vec<Error> {
    let mut refusals = Vec::new();
    let history = history(connection.identity(), server);
    if let Some(position) = resume {
        let flushed = connection.identity().flushed.clone();
        let checked = check_history(&mut connection, position, &history, &flushed).await;
        refusals.extend(checked.err());
    }
    refusals.extend(source.claim(known.claims, &history, server).err());
    refusals
}

/// Whether the role may create a publication in the database.
async fn may_create(sql: &mut impl Sql, database: &str, role: &str) -> Result<Option<Finding>> {
    let statement = format!("SELECT has_database_privilege({}, 'CREATE')", literal(database));
    let rows = sql.rows(&statement, "asking for the role's rights").await?;
    let may = rows.into_iter().flatten().flatten().next().as_deref() == Some("t");
    Ok((!may).then(|| {
        say(
            Severity::Error,
            refusals::PERMISSION,
            "the role may not create a publication in the database",
            &format!("GRANT CREATE ON DATABASE {} TO {}", ident(database), ident(role)),
        )
    }))
}

/// Findings about the slot, and about the saved position in its log.
fn slot_findings(
    source: &PostgresSource,
    slot: Option<&Slot>,
    resume: Option<&PgPosition>,
    server: &Server,
) -> Vec<Finding> {
    let name = &source.config.slot;
    let slot = match (slot, resume) {
        (Some(slot), _) => slot,
        (None, Some(position)) => {
            return vec![Finding::from(&slot::gone(name, position, server)).at(slot_place(source))];
        }
        (None, None) => {
            let message = format!("the slot \"{name}\" will be created");
            let finding = say(Severity::Info, refusals::SLOT_MISSING, message, "");
            return vec![finding.at(slot_place(source))];
        }
    };
    let kind = slot.check_kind(server);
    // Of one that is still being created it is said elsewhere.
    let is_there = slot.confirmed_flush_lsn.is_some();
    let place =
        resume.filter(|_| is_there).map_or(Ok(()), |position| slot.check_position(position));
    let refused = |result: Result<()>| Some(Finding::from(&result.err()?).at(slot_place(source)));
    [kind, place].into_iter().filter_map(refused).collect()
}

/// A slot that is there before the first start, which begins at what was confirmed of it.
fn older_slot(source: &PostgresSource, slot: &Slot, server: &Server) -> Option<Finding> {
    slot.check_kind(server).ok()?;
    let confirmed = slot.confirmed_flush_lsn?;
    let finding = say(
        Severity::Warning,
        stream::SLOT_WITHOUT_POSITION,
        format!(
            "the slot \"{}\" exists and there is no saved position: a run starts at the slot's \
             confirmed LSN {confirmed}; changes before it were confirmed by someone else and are not \
             captured",
            slot.slot_name
        ),
        "nothing, where the slot was made for this connector and never read; where another program \
         reads it, give this connector its own `slot`; where the saved position was lost, put it back \
         before the start",
    );
    Some(finding.at(slot_place(source)))
}

/// Configured keys that rows may share: no unique index on NOT NULL columns is within them.
async fn shared_keys(
    sql: &mut impl Sql,
    tables: &[CatalogTable],
    keys: KeyLookup<'_>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for table in tables {
        let Some(key) = keys(&table.schema, &table.name) else { continue };
        if key_trouble(table, &|_, _| Some(key.clone()), None).is_some() {
            continue;
        }
        let list = |texts: Vec<String>| texts.join(", ");
        let columns = list(key.iter().map(|column| literal(column)).collect());
        let statement = format!(
            "SELECT jsonb_build_object(
            'nullable', ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {oid}
                AND a.attname IN ({columns}) AND a.attnum > 0 AND NOT a.attnotnull
                ORDER BY a.attnum),
            'is_unique', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = {oid} AND i.indisunique
                AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
                    SELECT FROM pg_attribute a WHERE a.attrelid = {oid}
                    AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                    AND (NOT a.attnotnull OR a.attname NOT IN ({columns})))))",
            oid = table.oid
        );
        let KeyFacts { nullable, is_unique } =
            json_row(sql, &statement, "asking about a table's key").await?;
        if is_unique {
            continue;
        }
        let (name, on) = (table.full_name(), table.sql());
        let of_null = match nullable.is_empty() {
            true => String::new(),
            false => format!(" ({} may be NULL)", nullable.join(", ")),
        };
        let message = format!(
            "rows of {name} may share a key, and the tombstones of each other's deletes: no unique \
             index on NOT NULL columns is within {}{of_null}",
            key.join(", ")
        );
        let mut remedy: Vec<String> = nullable
            .iter()
            .map(|column| format!("ALTER TABLE {on} ALTER COLUMN {} SET NOT NULL", ident(column)))
            .collect();
        let columns = list(key.iter().map(|column| ident(column)).collect());
        remedy.push(format!("CREATE UNIQUE INDEX ON {on} ({columns})"));
        let remedy = format!("{}; or choose another `tables.{name}.key`", remedy.join("; "));
        let finding = say(Severity::Warning, stream::KEY_NOT_LOGGED, message, &remedy);
        findings.push(finding.at(format!("table {name}")));
    }
    Ok(findings)
}

/// What the catalog says of a configured key.
#[derive(Debug, Deserialize)]
struct KeyFacts {
    /// Its columns that may be NULL.
    nullable: Vec<String>,
    /// Whether a unique index on NOT NULL columns is within it.
    is_unique: bool,
}

/// Whether a table's key is in what the log carries of an old row.
fn key_finding(
    table: &CatalogTable,
    keys: KeyLookup<'_>,
    sent_by: Option<&str>,
) -> Option<Finding> {
    key_trouble(table, keys, sent_by)
        .map(|finding| finding.at(format!("table {}", table.full_name())))
}

/// A key that is not logged, where a run goes on without the events that lack it.
fn set_aside(found: Finding) -> Finding {
    let message =
        format!("{}: these become dead letters (`on_violation: dead_letter`)", found.message);
    match found.severity {
        Severity::Error => Finding { severity: Severity::Warning, message, ..found },
        _ => found,
    }
}

/// [`key_finding`] without its place; `sent_by` is the publication that sends the table already.
fn key_trouble(
    table: &CatalogTable,
    keys: KeyLookup<'_>,
    sent_by: Option<&str>,
) -> Option<Finding> {
    let name = table.full_name();
    let Some(key) = keys(&table.schema, &table.name) else {
        let is_keyless =
            table.has_identity && table.identity == 'f' && table.primary_key.is_empty();
        return is_keyless.then(|| {
            say(
                Severity::Warning,
                stream::KEY_NOT_LOGGED,
                format!("the table {name} has no primary key: its events have no key and no order"),
                &format!("name columns under `tables.{name}.key`"),
            )
        });
    };
    let absent = |columns: &[String]| -> Vec<String> {
        key.iter().filter(|column| !columns.contains(column)).cloned().collect()
    };
    // The host says so, as it does when a run begins.
    if !absent(&table.columns).is_empty() {
        return None;
    }
    let unlogged = absent(&table.identity_columns);
    if unlogged.is_empty() {
        return None;
    }
    let columns: Vec<String> = key.iter().map(|column| ident(column)).collect();
    let index = ident(&format!("{}_rowtide_key", table.name));
    let sql = table.sql();
    let full = table.full_identity(&[table.sql()], sent_by);
    let full = full.map_or_else(String::new, |full| format!("{full}; or, "));
    Some(say(
        Severity::Error,
        stream::KEY_NOT_LOGGED,
        format!(
            "the log does not carry these key columns of {name} in updates and deletes: {}",
            unlogged.join(", ")
        ),
        &format!(
            "{full}where the columns are NOT NULL and unique: CREATE UNIQUE INDEX {index} ON {sql} ({}); ALTER TABLE {sql} REPLICA IDENTITY \
             USING INDEX {index}",
            columns.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> CatalogTable {
        CatalogTable {
            oid: 7,
            schema: "public".to_owned(),
            name: "orders".to_owned(),
            identity: 'd',
            has_identity: true,
            bare_partitions: Vec::new(),
            unlike_partitions: Vec::new(),
            generated: Default::default(),
            identity_columns: vec!["id".to_owned()],
            primary_key: vec!["id".to_owned()],
            columns: ["id", "email", "note"].map(str::to_owned).to_vec(),
            owner: "app".to_owned(),
            is_ours: true,
            is_partitioned: false,
            ancestors: Vec::new(),
        }
    }

    #[test]
    fn a_key_must_be_in_the_logged_identity() {
        let check = |key: &[&str]| {
            let key: Vec<String> = key.iter().map(|&column| column.to_owned()).collect();
            key_finding(&table(), &move |_, _| Some(key.clone()), None)
        };
        assert_eq!(check(&["id"]), None);
        let unlogged = check(&["email"]).unwrap();
        assert!(unlogged.remedy.unwrap().contains("REPLICA IDENTITY USING INDEX"));
        let aside = set_aside(check(&["email"]).unwrap());
        assert!(aside.severity == Severity::Warning && aside.message.contains("dead letters"));
        assert_eq!(check(&["emial"]), None, "the host's to say");
    }

    #[test]
    fn a_table_without_any_key_is_named() {
        let full = CatalogTable { identity: 'f', primary_key: Vec::new(), ..table() };
        assert_eq!(key_finding(&full, &|_, _| None, None).unwrap().severity, Severity::Warning);
        assert_eq!(key_finding(&table(), &|_, _| None, None), None);
    }
}
