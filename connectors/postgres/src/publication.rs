//! The publication: created, kept in step with the wanted tables, or verified.

mod gaps;
mod generated;
mod identity;
mod review;
mod unlocked;

use std::collections::{BTreeSet, HashMap, HashSet};

use rowtide_sdk::{Error, Finding, Origin, Result, Severity, TableFilter};
use serde::Deserialize;

use crate::config::Operation;
use crate::sql::{Sql, json_rows, literal, table_name};
use crate::stream::codes;

pub(crate) use self::gaps::{Imprint, tell_gaps};
pub(crate) use self::generated::{Generated, OPTION as SEND_GENERATED};
pub(crate) use self::identity::identity_remedy;
pub(crate) use self::review::{
    Members, Membership, Review, Wish, membership, names_old_rows, on_primary, publish, sent,
};
use self::review::{Seen, review};
use self::unlocked::identity_index;
pub(crate) use self::unlocked::{partition_tree, sent_tables};

/// A publication as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Publication {
    pub(crate) oid: u32,
    /// Another one whenever its options were altered, by `ALTER PUBLICATION … SET` or of its owner.
    pub(crate) version: String,
    pub(crate) all_tables: bool,
    /// The schemas that it publishes whole, with the oids of their entries.
    pub(crate) schemas: HashMap<String, u32>,
    /// Whether changes of partitions come as changes of the partitioned table.
    pub(crate) via_root: bool,
    /// Whether our role owns it.
    pub(crate) is_ours: bool,
    pub(crate) insert: bool,
    pub(crate) update: bool,
    pub(crate) delete: bool,
    pub(crate) truncate: bool,
    /// Whether it sends stored generated columns.
    pub(crate) sends_generated: bool,
    /// Oid and name of the tables that it sends without generated columns of their identity.
    pub(crate) generated_unsent: Vec<(u32, String)>,
    /// The tables that are named in it, with the oid of the entry: another one when a table was
    /// dropped from the publication and added again.
    pub(crate) named: HashMap<u32, u32>,
    /// Schema and name of every table whose changes it sends.
    pub(crate) sends: HashSet<(String, String)>,
    /// Tables whose rows it filters or whose columns it leaves out.
    pub(crate) partial: Vec<Partial>,
}

/// A table that a publication does not send whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Partial {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// The columns that its column list leaves out.
    pub(crate) left_out: Vec<String>,
    /// Whether it has a column list.
    pub(crate) is_listed: bool,
    /// Whether its replica identity is FULL.
    pub(crate) is_full: bool,
    /// Whether it has generated columns.
    pub(crate) has_generated: bool,
    /// Whether it has a WHERE.
    pub(crate) is_filtered: bool,
    /// Columns of the replica identity that the column list leaves out.
    pub(crate) identity_left_out: Vec<String>,
    /// Columns of the WHERE that are not in the replica identity.
    pub(crate) filter_not_logged: Vec<String>,
}

impl Publication {
    /// What it publishes.
    pub(crate) fn operations(&self) -> BTreeSet<Operation> {
        let flags = [self.insert, self.update, self.delete, self.truncate];
        Operation::all()
            .into_iter()
            .zip(flags)
            .filter(|(_, is_on)| *is_on)
            .map(|(op, _)| op)
            .collect()
    }
}

/// A table that could be published.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct CatalogTable {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `pg_class.relreplident`.
    pub(crate) identity: char,
    /// Whether updates and deletes can be logged and published: by a key, an index or whole rows; of a
    /// partitioned table, those of every partition too.
    pub(crate) has_identity: bool,
    /// Partitions, as SQL, without an identity of their own.
    #[serde(default)]
    pub(crate) bare_partitions: Vec<String>,
    /// Partitions, as SQL, whose logged old rows lack columns of this table's identity.
    #[serde(default)]
    pub(crate) unlike_partitions: Vec<String>,
    /// Its generated columns.
    #[serde(default)]
    pub(crate) generated: Generated,
    /// The columns of the logged identity; every column under FULL.
    pub(crate) identity_columns: Vec<String>,
    /// The columns of the primary key.
    pub(crate) primary_key: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Who owns it.
    pub(crate) owner: String,
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
    let matching = matching_tables(sql, filter).await?;
    let oids: HashSet<u32> = matching.iter().map(|table| table.oid).collect();
    let stands_alone =
        |table: &CatalogTable| !table.ancestors.iter().any(|ancestor| oids.contains(ancestor));
    Ok(matching.into_iter().filter(stands_alone).collect())
}

/// The tables under whose names rows come: with a publication that does not send partitions as the
/// table above them, the partitions that the filter matches.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn sent_names(
    sql: &mut impl Sql,
    filter: &TableFilter,
    publication: Option<&Publication>,
) -> Result<Vec<CatalogTable>> {
    if publication.is_none_or(|publication| publication.via_root) {
        return wanted_tables(sql, filter).await;
    }
    let matching = matching_tables(sql, filter).await?;
    Ok(matching.into_iter().filter(|table| !table.is_partitioned).collect())
}

/// All tables that the filter matches, with partitions.
async fn matching_tables(sql: &mut impl Sql, filter: &TableFilter) -> Result<Vec<CatalogTable>> {
    let below = partition_tree("c.oid");
    let (of_table, of_leaf) = (identity_index("c"), identity_index("l"));
    let generated = generated::of_table();
    let statement = format!(
        "SELECT jsonb_build_object(
        'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname,
        'identity', c.relreplident,
        'has_identity', c.relreplident = 'f' OR i.indexrelid IS NOT NULL,
        'bare_partitions', ARRAY(SELECT format('%I.%I', ln.nspname, l.relname)
            FROM {below} part JOIN pg_class l ON l.oid = part.relid
            JOIN pg_namespace ln ON ln.oid = l.relnamespace
            WHERE c.relkind = 'p' AND l.relkind = 'r' AND l.relreplident <> 'f'
            AND {of_leaf} IS NULL ORDER BY 1),
        'unlike_partitions', ARRAY(SELECT format('%I.%I', ln.nspname, l.relname)
            FROM {below} part JOIN pg_class l ON l.oid = part.relid
            JOIN pg_namespace ln ON ln.oid = l.relnamespace
            JOIN pg_index li ON li.indexrelid = {of_leaf}
            WHERE c.relkind = 'p' AND l.relkind = 'r' AND l.relreplident <> 'f' AND EXISTS (
                SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                AND NOT a.attisdropped AND (c.relreplident = 'f'
                    OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
                EXCEPT SELECT a.attname FROM pg_attribute a WHERE a.attrelid = l.oid
                AND a.attnum = ANY ((li.indkey::int2[])[0:li.indnkeyatts - 1])) ORDER BY 1),
        'generated', {generated},
        'identity_columns', ARRAY(SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (c.relreplident = 'f' OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) ORDER BY a.attnum),
        'primary_key', ARRAY(SELECT a.attname FROM pg_attribute a
            JOIN pg_index p ON p.indrelid = c.oid AND p.indisprimary
            WHERE a.attrelid = c.oid AND a.attnum = ANY ((p.indkey::int2[])[0:p.indnkeyatts - 1]) ORDER BY a.attnum),
        'columns', ARRAY(SELECT a.attname FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
        'owner', pg_get_userbyid(c.relowner),
        'is_ours', pg_has_role(c.relowner, 'USAGE'), 'is_partitioned', c.relkind = 'p',
        'ancestors', ARRAY(SELECT relid::oid::bigint FROM pg_partition_ancestors(c.oid)
            WHERE relid <> c.oid))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_index i ON i.indexrelid = {of_table}
        WHERE c.relkind IN ('r', 'p') AND pg_relation_is_publishable(c.oid)
        ORDER BY n.nspname, c.relname"
    );
    let all: Vec<CatalogTable> = json_rows(sql, &statement, "listing the tables").await?;
    let with_partitions = |mut table: CatalogTable| {
        table.has_identity &=
            table.bare_partitions.is_empty() && table.generated.virtual_full.is_empty();
        table
    };
    let matches = |table: &CatalogTable| filter.matches(&table.schema, &table.name);
    Ok(all.into_iter().filter(matches).map(with_partitions).collect())
}

/// The tables of the publication `p` with a column list or a WHERE. The columns of a WHERE are read
/// out of its tree: each reference to one is a Var with its number.
fn partial() -> String {
    let of_table = identity_index("c");
    format!(
        "ARRAY(SELECT jsonb_build_object(
        'schema', n.nspname, 'name', c.relname, 'is_filtered', r.prqual IS NOT NULL,
        'is_listed', r.prattrs IS NOT NULL, 'is_full', c.relreplident = 'f',
        'has_generated', EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
            AND a.attgenerated <> '' AND NOT a.attisdropped),
        'left_out', ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid
            AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attnum <> ALL (r.prattrs::int2[]) ORDER BY a.attnum),
        'identity_left_out', ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid
            AND a.attnum > 0 AND NOT a.attisdropped
            AND (c.relreplident = 'f' OR a.attnum = ANY (i.key))
            AND a.attnum <> ALL (r.prattrs::int2[]) ORDER BY a.attnum),
        'filter_not_logged', ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid
            AND c.relreplident <> 'f' AND a.attnum <> ALL (coalesce(i.key, '{{}}'))
            AND a.attnum IN (SELECT m[1]::int2
                FROM regexp_matches(r.prqual::text, ':varattno ([0-9]+)', 'g') m)
            ORDER BY a.attnum))
    FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (SELECT (x.indkey::int2[])[0:x.indnkeyatts - 1] AS key FROM pg_index x
        WHERE x.indexrelid = {of_table}) i ON true
    WHERE r.prpubid = p.oid AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)
    ORDER BY n.nspname, c.relname)"
    )
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
            "coalesce((SELECT jsonb_object_agg(n.nspname, s.oid::bigint)
                FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
                WHERE s.pnpubid = p.oid), '{}'::jsonb)",
            partial(),
        )
    } else {
        ("'{}'::jsonb", "ARRAY[]::text[]".to_owned())
    };
    let (sent, generated_unsent) = (sent_tables(major), generated::unsent(major));
    let sends_generated = generated::is_sending(major);
    let statement = format!(
        "SELECT jsonb_build_object(
        'oid', p.oid::bigint, 'version', p.xmin::text,
        'all_tables', p.puballtables, 'schemas', {schemas}, 'via_root', p.pubviaroot,
        'is_ours', pg_has_role(p.pubowner, 'USAGE'),
        'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete,
        'truncate', p.pubtruncate, 'sends_generated', {sends_generated},
        'generated_unsent', {generated_unsent},
        'named', coalesce((SELECT jsonb_object_agg(r.prrelid::bigint::text, r.oid::bigint)
            FROM pg_publication_rel r WHERE r.prpubid = p.oid), '{{}}'::jsonb),
        'sends', coalesce((SELECT jsonb_agg(jsonb_build_array(n.nspname, c.relname))
            FROM {sent} t JOIN pg_class c ON c.oid = t.relid
            JOIN pg_namespace n ON n.oid = c.relnamespace), '[]'::jsonb),
        'partial', {partial})
        FROM pg_publication p WHERE p.pubname = {}",
        literal(name)
    );
    Ok(json_rows(sql, &statement, "looking for the publication").await?.pop())
}

/// Looks at the publication without changing anything.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn look(sql: &mut impl Sql, wish: Wish<'_>) -> Result<Review> {
    let name = wish.name;
    let publication = find(sql, name, wish.major).await?;
    let wanted = wanted_tables(sql, wish.filter).await?;
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
        .filter(|(_, schema, table)| !wish.filter.matches(schema, table))
        .map(|(oid, schema, table)| (oid, table_name(&schema, &table)))
        .collect();
    let lacks = |publication: &Publication| !publication.operations().is_superset(wish.operations);
    let unidentified = match &publication {
        Some(publication) if lacks(publication) => unidentified(sql, name, wish.major).await?,
        _ => Vec::new(),
    };
    Ok(review(wish, &Seen { publication, wanted, others, unidentified }))
}

/// The tables of the publication whose updates and deletes fail once it publishes these, by their
/// partitions too.
async fn unidentified(sql: &mut impl Sql, name: &str, major: u32) -> Result<Vec<(u32, String)>> {
    let (sent, below) = (sent_tables(major), partition_tree("c.oid"));
    let statement = format!(
        "SELECT jsonb_build_array(c.oid::bigint, n.nspname || '.' || c.relname)
        FROM pg_publication p CROSS JOIN LATERAL {sent} t JOIN pg_class c ON c.oid = t.relid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE p.pubname = {} AND EXISTS (
            SELECT FROM {below} part JOIN pg_class l ON l.oid = part.relid
            WHERE l.relkind = 'r' AND (l.relreplident <> 'f' AND {} IS NULL
                OR l.relreplident = 'f' AND {}))
        ORDER BY 1",
        literal(name),
        identity_index("l"),
        generated::has("l", 'v')
    );
    json_rows(sql, &statement, "listing the publication's tables without an identity").await
}

/// The place in the log that changes made now come after.
///
/// # Errors
/// Where the server does not answer.
async fn log_end(sql: &mut impl Sql) -> Result<String> {
    let statement = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_insert_lsn() END";
    let rows = sql.rows(statement, "asking for the end of the log").await?;
    Ok(rows.into_iter().flatten().flatten().next().unwrap_or_default())
}

/// Carries a plan out and says from where its tables and operations are complete. On a first start
/// nothing is expected from before.
///
/// # Errors
/// What the server refuses.
pub(crate) async fn apply(
    sql: &mut impl Sql,
    wish: Wish<'_>,
    review: &mut Review,
    is_first: bool,
) -> Result<()> {
    let statements = review.plan.statements(wish.name);
    if statements.is_empty() {
        return Ok(());
    }
    // A lock that does not come soon must not hold up everybody who comes after us.
    sql.rows("SET lock_timeout = '5s'", ALTERING).await?;
    let (done, outcome) = alter(sql, &statements).await;
    if done > 0 {
        let done: Vec<&str> = statements.iter().take(done).map(String::as_str).collect();
        if let Ok(Some(after)) = find(sql, wish.name, wish.major).await {
            review.imprint = Some(gaps::altered(wish.name, review, &after, &done));
        }
    }
    outcome?;
    let lsn = log_end(sql).await?;
    if !review.lacking.is_empty() {
        operations_complete(&publish(&review.lacking), &lsn, is_first);
    }
    if !review.added.is_empty() {
        tables_complete(&review.added, &lsn, is_first);
    }
    for table in &review.added {
        review.members.insert(table.clone(), Membership::Added);
    }
    sql.rows("SET lock_timeout = 0", ALTERING).await?;
    Ok(())
}

const ALTERING: &str = "bringing the publication in step with the tables";

/// Runs the statements up to the first that fails, and tells how many were done.
async fn alter(sql: &mut impl Sql, statements: &[String]) -> (usize, Result<()>) {
    for (at, statement) in statements.iter().enumerate() {
        if let Err(error) = sql.rows(statement, ALTERING).await {
            return (at, Err(error));
        }
        tracing::info!(statement, "publication changed");
    }
    (statements.len(), Ok(()))
}

/// Says from where tables are complete.
fn tables_complete(tables: &[String], lsn: &str, is_first: bool) {
    let tables = tables.join(", ");
    if is_first {
        tracing::info!(
            tables,
            lsn,
            "changes of these tables are complete from transactions that begin after this LSN"
        );
    } else {
        tracing::warn!(
            code = codes::PUBLICATION_INCOMPLETE.0,
            tables,
            lsn,
            "changes of these tables are complete only from transactions that begin after this LSN: \
             until then the publication did not send them, and earlier ones are not in the log"
        );
    }
}

fn operations_complete(operations: &str, lsn: &str, is_first: bool) {
    if is_first {
        tracing::info!(
            operations,
            lsn,
            "these operations are complete from transactions that begin after this LSN"
        );
    } else {
        tracing::warn!(
            code = codes::OPERATIONS_MISSING.0,
            operations,
            lsn,
            "these operations are complete only from transactions that begin after this LSN: until \
             then the publication did not send them, and earlier ones are not in the log"
        );
    }
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
