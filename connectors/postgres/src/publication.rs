//! The publication: created, kept in step with the wanted tables, or verified.

use std::collections::{HashMap, HashSet};

use rowtide_sdk::{Error, Finding, Origin, Result, Severity};
use serde::Deserialize;

use crate::config::{PublicationManagement, TableFilter};
use crate::error::codes as refusals;
use crate::sql::{Sql, ident, json_rows, literal, table_name};
use crate::stream::codes;

/// A publication as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Publication {
    pub(crate) all_tables: bool,
    /// Whether it publishes schemas whole.
    pub(crate) schemas: bool,
    /// Whether changes of partitions come as changes of the partitioned table.
    pub(crate) via_root: bool,
    /// Whether our role owns it.
    pub(crate) is_ours: bool,
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) truncate: bool,
    /// The oids of the tables that are named in it.
    pub(crate) named: HashSet<u32>,
    /// Schema and name of every table whose changes it sends.
    pub(crate) sends: HashSet<(String, String)>,
    /// Tables whose rows it filters or whose columns it leaves out.
    pub(crate) partial: Vec<String>,
}

/// A table that could be published.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CatalogTable {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `pg_class.relreplident`.
    pub(crate) identity: char,
    /// Whether updates and deletes can be logged: by a key, an index or whole rows.
    pub(crate) has_identity: bool,
    /// The columns of the logged identity; every column under FULL.
    pub(crate) identity_columns: Vec<String>,
    /// The columns of the primary key.
    pub(crate) primary_key: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Whether our role may publish it.
    pub(crate) is_ours: bool,
    /// Whether it is partitioned.
    pub(crate) is_partitioned: bool,
    /// The partitioned tables above it.
    pub(crate) ancestors: Vec<u32>,
}

impl CatalogTable {
    /// `schema.name`, for messages.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The table as SQL.
    pub(crate) fn sql(&self) -> String {
        table_name(&self.schema, &self.name)
    }
}

/// The tables of the database that the filter wants, as they would be published: a partitioned
/// table stands for its partitions.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn wanted_tables(
    sql: &mut impl Sql,
    filter: &TableFilter,
) -> Result<Vec<CatalogTable>> {
    let statement = "SELECT jsonb_build_object(
        'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname,
        'identity', c.relreplident,
        'has_identity', c.relreplident = 'f' OR i.indexrelid IS NOT NULL,
        'identity_columns', ARRAY(SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (c.relreplident = 'f' OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) ORDER BY a.attnum),
        'primary_key', ARRAY(SELECT a.attname FROM pg_attribute a
            JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
            WHERE a.attrelid = c.oid AND a.attnum = ANY ((p.indkey::int2[])[0:p.indnkeyatts - 1]) ORDER BY a.attnum),
        'columns', ARRAY(SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
        'is_ours', pg_has_role(c.relowner, 'USAGE'), 'is_partitioned', c.relkind = 'p',
        'ancestors', ARRAY(SELECT relid::oid::bigint FROM pg_partition_ancestors(c.oid)
            WHERE relid <> c.oid))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_index i ON i.indexrelid = pg_get_replica_identity_index(c.oid)
        WHERE c.relkind IN ('r', 'p') AND pg_relation_is_publishable(c.oid)
        ORDER BY n.nspname, c.relname";
    let all: Vec<CatalogTable> = json_rows(sql, statement, "listing the tables").await?;
    let matching: Vec<CatalogTable> =
        all.into_iter().filter(|table| filter.matches(&table.schema, &table.name)).collect();
    let oids: HashSet<u32> = matching.iter().map(|table| table.oid).collect();
    let stands_alone =
        |table: &CatalogTable| !table.ancestors.iter().any(|ancestor| oids.contains(ancestor));
    Ok(matching.into_iter().filter(stands_alone).collect())
}

/// The publication of this name.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn find(
    sql: &mut impl Sql,
    name: &str,
    major: u32,
) -> Result<Option<Publication>> {
    // Schemas, row filters and column lists came with version 15.
    let (schemas, partial) = if major >= 15 {
        (
            "EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)",
            "ARRAY(SELECT r.prrelid::regclass::text FROM pg_publication_rel r \
             WHERE r.prpubid = p.oid AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL))",
        )
    } else {
        ("false", "ARRAY[]::text[]")
    };
    let statement = format!(
        "SELECT jsonb_build_object(
        'all_tables', p.puballtables, 'schemas', {schemas}, 'via_root', p.pubviaroot,
        'is_ours', pg_has_role(p.pubowner, 'USAGE'),
        'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete,
        'truncate', p.pubtruncate,
        'named', ARRAY(SELECT r.prrelid::bigint FROM pg_publication_rel r WHERE r.prpubid = p.oid),
        'sends', coalesce((SELECT jsonb_agg(jsonb_build_array(t.schemaname, t.tablename))
            FROM pg_publication_tables t WHERE t.pubname = p.pubname), '[]'::jsonb),
        'partial', {partial})
        FROM pg_publication p WHERE p.pubname = {}",
        literal(name)
    );
    Ok(json_rows(sql, &statement, "looking for the publication").await?.pop())
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
}

impl Plan {
    /// The statement for what is to be added, where there is anything to do.
    fn statements(&self, name: &str) -> Vec<String> {
        let only = |tables: &[String]| {
            tables.iter().map(|table| format!("ONLY {table}")).collect::<Vec<_>>().join(", ")
        };
        let publication = ident(name);
        let mut statements = Vec::new();
        if self.create {
            let tables = match self.add.is_empty() {
                true => String::new(),
                false => format!(" FOR TABLE {}", only(&self.add)),
            };
            statements.push(format!(
                "CREATE PUBLICATION {publication}{tables} WITH (publish_via_partition_root = true)"
            ));
        } else if !self.add.is_empty() {
            statements
                .push(format!("ALTER PUBLICATION {publication} ADD TABLE {}", only(&self.add)));
        }
        if !self.drop.is_empty() {
            let tables = only(&self.drop);
            statements.push(format!("ALTER PUBLICATION {publication} DROP TABLE {tables}"));
        }
        statements
    }
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
}

fn finding(
    severity: Severity,
    code: rowtide_sdk::Code,
    message: String,
    remedy: String,
) -> Finding {
    Finding { severity, code, message, remedy: (!remedy.is_empty()).then_some(remedy) }
}

/// Compares the publication with the wanted tables; changes nothing. `others` names the tables in
/// the publication that are not wanted, by oid.
pub(crate) fn review(
    name: &str,
    management: PublicationManagement,
    publication: Option<&Publication>,
    wanted: &[CatalogTable],
    others: &HashMap<u32, String>,
) -> Review {
    let mut review = Review { plan: Plan::default(), findings: Vec::new(), added: Vec::new() };
    let ours = match publication {
        None => management == PublicationManagement::Auto,
        Some(publication) => {
            management == PublicationManagement::Auto
                && publication.is_ours
                && !publication.all_tables
                && !publication.schemas
        }
    };
    if wanted.is_empty() {
        review.findings.push(finding(
            Severity::Warning,
            codes::NO_TABLES,
            "no table of the database matches `tables`".to_owned(),
            "check the patterns; tables created later are captured all the same".to_owned(),
        ));
    }
    match publication {
        None if ours => review.plan.create = true,
        None => {
            review.findings.push(missing(name, wanted));
            return review;
        }
        Some(publication) => {
            review.findings.extend(operations(name, publication));
            review.findings.extend(partitions(name, publication, wanted));
        }
    }
    let sends = |table: &CatalogTable| {
        publication.is_some_and(|publication| {
            publication.all_tables
                || (publication.schemas && table.is_partitioned)
                || publication.named.contains(&table.oid)
                || publication.sends.contains(&(table.schema.clone(), table.name.clone()))
        })
    };
    let (sent, unsent): (Vec<_>, Vec<_>) = wanted.iter().partition(|table| sends(table));
    let without_identity = |table: &&&CatalogTable| !table.has_identity;
    review
        .findings
        .extend(sent.iter().filter(without_identity).map(|table| unpublishable(table, true)));
    if !ours {
        review.findings.extend(unsent_findings(name, &unsent));
        return review;
    }
    review
        .findings
        .extend(unsent.iter().filter(without_identity).map(|table| unpublishable(table, false)));
    let add = unsent.iter().filter(|table| table.has_identity);
    for table in add {
        if !table.is_ours {
            review.findings.push(not_owner(name, table));
        }
        review.plan.add.push(table.sql());
        review.added.push(table.full_name());
    }
    if let Some(publication) = publication {
        let dropped = publication.named.iter().filter_map(|oid| others.get(oid).cloned());
        review.plan.drop.extend(dropped);
        review.plan.drop.sort_unstable();
    }
    review
}

fn missing(name: &str, wanted: &[CatalogTable]) -> Finding {
    let tables: Vec<String> = wanted.iter().map(CatalogTable::sql).collect();
    let statement = format!(
        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
        ident(name),
        if tables.is_empty() { "…".to_owned() } else { tables.join(", ") }
    );
    finding(
        Severity::Error,
        refusals::PUBLICATION_MISSING,
        format!("the publication \"{name}\" does not exist and is managed elsewhere"),
        format!("{statement}; create it before the slot"),
    )
}

/// Operations that the publication leaves out, and rows or columns.
fn operations(name: &str, publication: &Publication) -> Option<Finding> {
    let flags = [
        ("insert", publication.insert),
        ("update", publication.update),
        ("delete", publication.delete),
        ("truncate", publication.truncate),
    ];
    let absent: Vec<&str> = flags.iter().filter(|(_, is_on)| !is_on).map(|(op, _)| *op).collect();
    let mut parts = Vec::new();
    if !absent.is_empty() {
        parts.push(format!("it does not publish {}", absent.join(", ")));
    }
    if !publication.partial.is_empty() {
        parts.push(format!("it leaves out rows or columns of {}", publication.partial.join(", ")));
    }
    (!parts.is_empty()).then(|| {
        finding(
            Severity::Warning,
            codes::PUBLICATION_INCOMPLETE,
            format!("the publication \"{name}\" is incomplete: {}", parts.join("; ")),
            format!(
                "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')",
                ident(name)
            ),
        )
    })
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
    })
}

fn unsent_findings(name: &str, unsent: &[&CatalogTable]) -> Option<Finding> {
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
            format!("ALTER PUBLICATION {} ADD TABLE {}", ident(name), sql.join(", ")),
        )
    })
}

/// SQL that gives a table an identity.
fn identity_remedy(table: &CatalogTable) -> String {
    let sql = table.sql();
    if table.primary_key.is_empty() {
        format!("ALTER TABLE {sql} ADD PRIMARY KEY (…), or ALTER TABLE {sql} REPLICA IDENTITY FULL")
    } else {
        format!("ALTER TABLE {sql} REPLICA IDENTITY DEFAULT")
    }
}

fn unpublishable(table: &CatalogTable, is_published: bool) -> Finding {
    let name = table.full_name();
    let message = if is_published {
        format!(
            "the table {name} is published without a usable replica identity: updates and deletes of it fail in the application"
        )
    } else {
        format!(
            "the table {name} is not captured: it has no usable replica identity, and publishing it would make the application's updates and deletes fail"
        )
    };
    finding(Severity::Warning, codes::NO_IDENTITY, message, identity_remedy(table))
}

fn not_owner(name: &str, table: &CatalogTable) -> Finding {
    finding(
        Severity::Error,
        refusals::PERMISSION,
        format!("the role does not own the table {} and cannot publish it", table.full_name()),
        format!(
            "as its owner: ALTER PUBLICATION {} ADD TABLE {}; or set publication_management: \
             external and have the publication looked after elsewhere; or exclude the table",
            ident(name),
            table.sql()
        ),
    )
}

/// Looks at the publication without changing anything.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn look(
    sql: &mut impl Sql,
    name: &str,
    management: PublicationManagement,
    filter: &TableFilter,
    major: u32,
) -> Result<Review> {
    let publication = find(sql, name, major).await?;
    let wanted = wanted_tables(sql, filter).await?;
    let statement = format!(
        "SELECT jsonb_build_array(c.oid::bigint, n.nspname, c.relname)
        FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
        JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.pubname = {}",
        literal(name)
    );
    let named: Vec<(u32, String, String)> =
        json_rows(sql, &statement, "listing the publication's tables").await?;
    let others = named
        .into_iter()
        .filter(|(_, schema, table)| !filter.matches(schema, table))
        .map(|(oid, schema, table)| (oid, table_name(&schema, &table)))
        .collect();
    Ok(review(name, management, publication.as_ref(), &wanted, &others))
}

/// Carries a plan out and says from where its tables are complete.
///
/// # Errors
/// What the server refuses.
pub(crate) async fn apply(sql: &mut impl Sql, name: &str, review: &Review) -> Result<()> {
    const DOING: &str = "bringing the publication in step with the tables";
    let statements = review.plan.statements(name);
    if statements.is_empty() {
        return Ok(());
    }
    // A lock that does not come soon must not hold up everybody who comes after us.
    sql.rows("SET lock_timeout = '5s'", DOING).await?;
    for statement in &statements {
        sql.rows(statement, DOING).await?;
        tracing::info!(statement, "publication changed");
    }
    if !review.added.is_empty() {
        let lsn = sql.rows("SELECT pg_current_wal_insert_lsn()", DOING).await?;
        let lsn = lsn.into_iter().flatten().flatten().next().unwrap_or_default();
        tracing::info!(
            tables = review.added.join(", "),
            lsn,
            "changes of these tables are complete from transactions that begin after this LSN"
        );
    }
    sql.rows("SET lock_timeout = 0", DOING).await?;
    Ok(())
}

/// Logs findings below an error and returns the first error.
///
/// # Errors
/// Fatal where a finding is an error.
pub(crate) fn report(findings: &[Finding]) -> Result<()> {
    for finding in findings {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        match finding.severity {
            Severity::Info => tracing::info!(code = finding.code.0, remedy, "{}", finding.message),
            _ => tracing::warn!(code = finding.code.0, remedy, "{}", finding.message),
        }
    }
    let Some(first) = findings.iter().find(|finding| finding.severity == Severity::Error) else {
        return Ok(());
    };
    let error = Error::fatal(Origin::Source, first.code, first.message.clone());
    Err(match &first.remedy {
        Some(remedy) => error.with_remedy(remedy.clone()),
        None => error,
    })
}
