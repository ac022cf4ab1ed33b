//! The preflight of `rowtide check`: everything that would stop or surprise a run, at once. It
//! connects and looks, and changes nothing.

use rowtide_sdk::{Code, Error, Finding, KeyLookup, Preflight, Result, Severity};

use crate::error::codes as refusals;
use crate::guard;
use crate::position::PgPosition;
use crate::publication::{self, CatalogTable};
use crate::server::{self, Server};
use crate::slot::{self, Slot};
use crate::source::{PostgresSource, publication_gone};
use crate::sql::{Sql, ident, literal};
use crate::stream::codes;
use crate::wire::{ReplicationConnection, sql_client};

/// Everything there is to say about a source's server, role, tables, publication and slot, and about
/// the saved position.
pub async fn check(source: &PostgresSource, known: Preflight<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(source, known, &mut findings).await {
        findings.push(Finding::from(&error));
    }
    findings
}

fn say(severity: Severity, code: Code, message: impl Into<String>, remedy: &str) -> Finding {
    let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
    Finding { severity, code, message: message.into(), remedy }
}

/// Adds findings; an error is what keeps it from looking further.
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
    findings.extend(server.obstacles().iter().map(Finding::from));
    findings.extend(source.check_abilities(&server).err().as_ref().map(Finding::from));
    let resume = match known.resume.map(PgPosition::parse).transpose() {
        Ok(resume) => resume,
        Err(error) => {
            findings.push(Finding::from(&error));
            None
        }
    };
    // The only full proof that the role may replicate and that pg_hba.conf lets it.
    match ReplicationConnection::connect(&source.options).await {
        Ok(connection) => {
            let refusals = ownership(source, connection, &server, resume.as_ref(), known).await;
            findings.extend(refusals.iter().map(Finding::from));
        }
        Err(error) => findings.push(Finding::from(&error)),
    }
    findings.extend(settings(&server));
    let slot = slot::find(&mut sql, &source.config.slot).await?;
    findings.extend(slot_findings(source, slot.as_ref(), resume.as_ref(), &server));
    findings.extend(guard::advice(&mut sql, source, &server).await?);
    if let Some(slot) = &slot
        && let Err(error) = slot.check_free(&mut sql).await
    {
        findings.push(Finding { severity: Severity::Warning, ..Finding::from(&error) });
    }

    let name = &source.config.publication;
    let review = publication::look(&mut sql, source.wish(&server)).await?;
    findings.extend(review.findings);
    if review.plan.create && known.resume.is_some() {
        findings.push(Finding::from(&publication_gone(name)));
    } else if review.plan.create {
        let message = format!("the publication \"{name}\" will be created");
        findings.push(say(Severity::Info, refusals::PUBLICATION_MISSING, message, ""));
        findings.extend(may_create(&mut sql, &server.database, &source.options.user).await?);
        if slot.is_some() {
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
        findings.push(say(Severity::Info, codes::PUBLICATION_INCOMPLETE, message, ""));
    }
    let tables = publication::wanted_tables(&mut sql, &source.filter).await?;
    findings.extend(tables.iter().filter_map(|table| key_finding(table, known.keys)));
    Ok(())
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
    let history = server::history(connection.identity(), server);
    if let Some(position) = resume {
        let flushed = connection.identity().flushed.clone();
        let checked = server::check_history(&mut connection, position, &history, &flushed).await;
        refusals.extend(checked.err());
    }
    refusals.extend(known.claims.claim(&source.claimed(&history)).err());
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

fn settings(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.used_wal_senders >= server.max_wal_senders {
        findings.push(say(
            Severity::Warning,
            refusals::TOO_MANY_CONNECTIONS,
            format!("all {} WAL senders are in use", server.max_wal_senders),
            "raise max_wal_senders and restart the server",
        ));
    }
    let timeout = server.wal_sender_timeout();
    if timeout.is_zero() {
        findings.push(say(
            Severity::Info,
            codes::SERVER_SETTING,
            "wal_sender_timeout is 0: the server keeps a slot busy for a client that has died",
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()",
        ));
    } else if timeout.as_secs() < 2 {
        findings.push(say(
            Severity::Warning,
            codes::SERVER_SETTING,
            format!("wal_sender_timeout is {} ms, which any pause may exceed", timeout.as_millis()),
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()",
        ));
    }
    if server.max_slot_wal_keep_size_mb < 0 {
        findings.push(say(
            Severity::Info,
            codes::SERVER_SETTING,
            "max_slot_wal_keep_size is -1: while this connector is stopped or its sink is down, the \
             server keeps log without limit and its disk can fill up",
            "watch the slot's lag, or set max_slot_wal_keep_size, knowing that a slot that exceeds \
             it is lost",
        ));
    }
    findings
}

/// Findings about the slot, and about the saved position in its log.
fn slot_findings(
    source: &PostgresSource,
    slot: Option<&Slot>,
    resume: Option<&PgPosition>,
    server: &Server,
) -> Vec<Finding> {
    let name = &source.config.slot;
    let mut findings = Vec::new();
    let slot = match (slot, resume) {
        (Some(slot), _) => slot,
        (None, Some(position)) => return vec![Finding::from(&slot::gone(name, position))],
        (None, None) => {
            if server.used_slots >= server.max_replication_slots {
                findings.push(say(
                    Severity::Error,
                    refusals::NO_FREE_SLOT,
                    format!("all {} replication slots are taken", server.max_replication_slots),
                    "raise max_replication_slots and restart the server, or drop a slot that nobody uses",
                ));
            }
            let message = format!("the slot \"{name}\" will be created");
            findings.push(say(Severity::Info, refusals::SLOT_MISSING, message, ""));
            return findings;
        }
    };
    let kind = slot.check_kind(server);
    let place = resume.map_or(Ok(()), |position| slot.check_position(position));
    findings.extend([kind, place].into_iter().filter_map(|r| Some(Finding::from(&r.err()?))));
    findings
}

/// Whether a table's key is in what the log carries of an old row.
fn key_finding(table: &CatalogTable, keys: KeyLookup<'_>) -> Option<Finding> {
    let name = table.full_name();
    let Some(key) = keys(&table.schema, &table.name) else {
        let is_keyless =
            table.has_identity && table.identity == 'f' && table.primary_key.is_empty();
        return is_keyless.then(|| {
            say(
                Severity::Warning,
                codes::KEY_NOT_LOGGED,
                format!("the table {name} has no primary key: its events have no key and no order"),
                &format!("name columns under `tables.{name}.key`"),
            )
        });
    };
    let absent = |columns: &[String]| -> Vec<String> {
        key.iter().filter(|column| !columns.contains(column)).cloned().collect()
    };
    let unknown = absent(&table.columns);
    if !unknown.is_empty() {
        return Some(say(
            Severity::Error,
            codes::KEY_NOT_LOGGED,
            format!(
                "the key of {name} names columns that it does not have: {}",
                unknown.join(", ")
            ),
            &format!("correct `tables.{name}.key`"),
        ));
    }
    let unlogged = absent(&table.identity_columns);
    if unlogged.is_empty() {
        return None;
    }
    let columns: Vec<String> = key.iter().map(|column| ident(column)).collect();
    let index = ident(&format!("{}_rowtide_key", table.name));
    let sql = table.sql();
    Some(say(
        Severity::Error,
        codes::KEY_NOT_LOGGED,
        format!(
            "the log does not carry these key columns of {name} in updates and deletes: {}",
            unlogged.join(", ")
        ),
        &format!(
            "ALTER TABLE {sql} REPLICA IDENTITY FULL; or, where the columns are NOT NULL and \
             unique: CREATE UNIQUE INDEX {index} ON {sql} ({}); ALTER TABLE {sql} REPLICA IDENTITY \
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
            identity_columns: vec!["id".to_owned()],
            primary_key: vec!["id".to_owned()],
            columns: ["id", "email", "note"].map(str::to_owned).to_vec(),
            is_ours: true,
            is_partitioned: false,
            ancestors: Vec::new(),
        }
    }

    #[test]
    fn a_key_must_be_in_the_logged_identity() {
        let check = |key: &[&str]| {
            let key: Vec<String> = key.iter().map(|&column| column.to_owned()).collect();
            key_finding(&table(), &move |_, _| Some(key.clone()))
        };
        assert_eq!(check(&["id"]), None);
        let unlogged = check(&["email"]).unwrap();
        assert!(unlogged.remedy.unwrap().contains("REPLICA IDENTITY USING INDEX"));
        assert!(check(&["emial"]).unwrap().message.contains("emial"));
    }

    #[test]
    fn a_table_without_any_key_is_named() {
        let full = CatalogTable { identity: 'f', primary_key: Vec::new(), ..table() };
        assert_eq!(key_finding(&full, &|_, _| None).unwrap().severity, Severity::Warning);
        assert_eq!(key_finding(&table(), &|_, _| None), None);
    }
}
