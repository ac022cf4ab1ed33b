//! What the role must be able to read: the tables whose values are read back (`unchanged: reselect`),
//! and no other.

use std::collections::BTreeSet;

use rowtide_sdk::ReselectRules;

use super::{Seen, block, one_line};
use crate::config::{captures, regex};
use crate::publication::CatalogTable;
use crate::reselect::is_read_back;
use crate::source::PostgresSource;
use crate::sql::{ident, literal};

/// What is granted, by what is known of the tables.
pub(super) enum Reading {
    /// No value of any table is read back.
    Nothing,
    /// Values of these are.
    Tables(Named),
    /// Those that match are found when the SQL runs.
    Found {
        /// The block that grants.
        block: String,
        role: String,
    },
}

/// Tables and their schemas, as SQL.
pub(super) struct Named {
    schemas: String,
    tables: String,
    /// Those among them with rows that a policy hides from the role.
    secured: String,
    role: String,
}

impl Reading {
    pub(super) fn new(
        source: &PostgresSource,
        seen: Option<&Seen>,
        reselects: ReselectRules<'_>,
    ) -> Self {
        let role = ident(&source.options.user);
        if !reselects.rules.iter().any(|(_, is_read)| *is_read) {
            return Self::Nothing;
        }
        let Some(seen) = seen else {
            return Self::Found { block: found_when_run(source, reselects.rules), role };
        };
        let is_read = |table: &&CatalogTable| {
            is_read_back(table) && (reselects.lookup)(&table.schema, &table.name)
        };
        let read: Vec<_> = seen.tables.iter().filter(is_read).collect();
        if read.is_empty() {
            return Self::Nothing;
        }
        let schemas: BTreeSet<String> = read.iter().map(|table| ident(&table.schema)).collect();
        let tables: Vec<String> = read.iter().map(|table| table.sql()).collect();
        let secured = read.iter().filter(|table| seen.secured.contains(&table.oid));
        let secured: Vec<String> = secured.map(|table| table.sql()).collect();
        Self::Tables(Named {
            schemas: schemas.into_iter().collect::<Vec<_>>().join(", "),
            tables: tables.join(", "),
            secured: secured.join(", "),
            role,
        })
    }

    /// What the role may read, in words.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::Nothing => "no row of any table is granted to it",
            Self::Tables(_) | Self::Found { .. } => {
                "it may read the tables\n--    with `unchanged: reselect` (step 3), and no other row is \
                 granted to it"
            }
        }
    }

    /// The grants, each between empty lines.
    pub(super) fn grants(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Tables(Named { schemas, tables, secured, role }) => {
                let mut out = format!(
                    "--    Values of these tables are read back (`unchanged: reselect`).\n\
                     GRANT USAGE ON SCHEMA {schemas} TO {role};\n\n\
                     GRANT SELECT ON {tables} TO {role};\n\n"
                );
                if !secured.is_empty() {
                    out.push_str(&format!(
                        "--    Row security hides rows of {} from the role, which must\n\
                         --    not be taken for rows that are gone. This lets it read them; it holds for\n\
                         --    every table that is granted to it:\n\
                         -- ALTER ROLE {} BYPASSRLS;\n\n",
                        one_line(secured),
                        one_line(role)
                    ));
                }
                out
            }
            Self::Found { block, role } => format!(
                "--    Values of the tables with `unchanged: reselect` are read back: this finds those that are\n\
                 --    there and have a key. Run it again for tables that come later.\n\
                 --    Where row security holds for one of them: ALTER ROLE {} BYPASSRLS;\n{block}\n",
                one_line(role)
            ),
        }
    }

    /// How the grants are taken back, as comments.
    pub(super) fn revokes(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Tables(Named { schemas, tables, role, .. }) => {
                let [schemas, tables, role] = [schemas, tables, role].map(|sql| one_line(sql));
                format!(
                    "-- REVOKE SELECT ON {tables} FROM {role};\n\
                     -- REVOKE USAGE ON SCHEMA {schemas} FROM {role};\n"
                )
            }
            Self::Found { role, .. } => {
                let role = one_line(role);
                format!(
                    "-- REVOKE SELECT ON … FROM {role}; REVOKE USAGE ON SCHEMA … FROM {role};\n"
                )
            }
        }
    }
}

/// Whether values of a table are read back, as an SQL expression over its name.
fn condition(rules: &[(String, bool)]) -> String {
    const NAME: &str = "n.nspname || '.' || c.relname";
    let then = |is_read: bool| if is_read { "true" } else { "false" };
    let exact = rules.iter().map(|(pattern, is_read)| {
        format!("WHEN {NAME} = {} THEN {}", literal(pattern), then(*is_read))
    });
    let globs = rules.iter().map(|(pattern, is_read)| {
        format!("WHEN {NAME} ~ {} THEN {}", literal(&regex(pattern)), then(*is_read))
    });
    let cases: Vec<String> = exact.chain(globs).collect();
    format!("CASE {} ELSE false END", cases.join("\n            "))
}

/// A block that finds the tables as a run would, and grants them.
fn found_when_run(source: &PostgresSource, rules: &[(String, bool)]) -> String {
    let is_matched = captures(&source.filter, "n.nspname", "c.relname");
    let is_read = condition(rules);
    let role = literal(&source.options.user);
    block(&format!(
        "DECLARE
    found record;
BEGIN
    FOR found IN
        WITH matched AS (
            SELECT c.oid, n.nspname, c.relname, c.relreplident, {is_read} AS is_read
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND pg_catalog.pg_relation_is_publishable(c.oid)
            AND {is_matched}
        )
        SELECT m.nspname, m.relname FROM matched m WHERE m.is_read
        AND m.relreplident <> 'f'
        AND pg_catalog.pg_get_replica_identity_index(m.oid) IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(m.oid) up
            JOIN matched root ON root.oid = up.relid WHERE root.oid <> m.oid)
        ORDER BY m.nspname, m.relname
    LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', found.nspname, {role});
        EXECUTE format('GRANT SELECT ON %I.%I TO %I', found.nspname, found.relname, {role});
    END LOOP;
END"
    ))
}
