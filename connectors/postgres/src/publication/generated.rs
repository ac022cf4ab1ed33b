//! Generated columns within a replica identity.
//!
//! From PostgreSQL 18 on the server refuses the application's updates and deletes of a table while a
//! publication that sends such leaves out a generated column of its replica identity. Stored ones can
//! be sent, by an option of the publication that holds for all its tables; virtual ones cannot, so that
//! a table with any has no usable identity in FULL.

use rowtide_sdk::{Finding, Severity};
use serde::Deserialize;

use super::review::{Review, Seen, Wish, finding, names_old_rows, place};
use super::unlocked::{identity_index, partition_tree, sent_tables};
use super::{CatalogTable, Publication};
use crate::config::PublicationManagement;
use crate::preflight::codes as checks;
use crate::sql::ident;

/// The option that has stored generated columns sent.
pub(crate) const OPTION: &str = "publish_generated_columns = stored";

/// The generated columns of a table; none before PostgreSQL 18, which knows no such rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Generated {
    /// Stored ones in the logged identity, of partitions too.
    pub(crate) stored_identity: Vec<String>,
    /// Those of the table and its partitions, as SQL, that have virtual ones under FULL.
    pub(crate) virtual_full: Vec<String>,
    /// Whether there are stored ones.
    pub(crate) has_stored: bool,
    /// Whether there are virtual ones.
    pub(crate) has_virtual: bool,
}

impl Generated {
    /// SQL that makes whole rows the identity of tables like this; `None` where updates and deletes
    /// would then fail. A publication that sends them already is made fit first.
    pub(crate) fn full_identity(&self, of: &[String], sent_by: Option<&str>) -> Option<String> {
        if self.has_virtual {
            return None;
        }
        let option = match sent_by.filter(|_| self.has_stored) {
            Some(name) => format!("ALTER PUBLICATION {} SET ({OPTION}); ", ident(name)),
            None => String::new(),
        };
        let full = |table: &String| format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
        Some(option + &of.iter().map(full).collect::<Vec<_>>().join("; "))
    }
}

/// The stored generated columns in the identity of the table `c` and its partitions, as an SQL array.
fn stored_identity() -> String {
    let (below, index) = (partition_tree("c.oid"), identity_index("l"));
    format!(
        "ARRAY(SELECT DISTINCT a.attname::text FROM {below} part
            JOIN pg_class l ON l.oid = part.relid AND l.relkind = 'r'
            JOIN pg_attribute a ON a.attrelid = l.oid
            LEFT JOIN pg_index li ON li.indexrelid = {index}
            WHERE a.attgenerated = 's' AND NOT a.attisdropped AND (l.relreplident = 'f'
                OR a.attnum = ANY ((li.indkey::int2[])[0:li.indnkeyatts - 1])) ORDER BY 1)"
    )
}

/// Whether `table`, an alias of `pg_class`, has generated columns of this kind.
pub(super) fn has(table: &str, kind: char) -> String {
    format!(
        "EXISTS (SELECT FROM pg_attribute v WHERE v.attrelid = {table}.oid
            AND v.attgenerated = '{kind}' AND NOT v.attisdropped)"
    )
}

/// The [`Generated`] of the table `c`, as an SQL expression.
pub(super) fn of_table() -> String {
    let (below, stored) = (partition_tree("c.oid"), stored_identity());
    let (has_stored, has_virtual) = (has("c", 's'), has("c", 'v'));
    let is_virtual = has("l", 'v');
    format!(
        "CASE WHEN current_setting('server_version_num')::int < 180000
            OR NOT ({has_stored} OR {has_virtual}) THEN '{{}}'::jsonb
        ELSE jsonb_build_object(
            'has_stored', {has_stored}, 'has_virtual', {has_virtual},
            'stored_identity', {stored},
            'virtual_full', ARRAY(SELECT format('%I.%I', ln.nspname, l.relname)
                FROM {below} part JOIN pg_class l ON l.oid = part.relid AND l.relkind = 'r'
                JOIN pg_namespace ln ON ln.oid = l.relnamespace
                WHERE l.relreplident = 'f' AND {is_virtual} ORDER BY 1)) END"
    )
}

/// Whether the publication `p` sends stored generated columns, as an SQL expression.
pub(super) fn is_sending(major: u32) -> &'static str {
    if major >= 18 { "p.pubgencols = 's'" } else { "false" }
}

/// The tables that the publication `p` sends without generated columns of their identity, as an SQL
/// expression: pairs of oid and a text for people. A column list has the last word.
pub(super) fn unsent(major: u32) -> String {
    if major < 18 {
        return "'[]'::jsonb".to_owned();
    }
    let (sent, stored, has_stored) = (sent_tables(major), stored_identity(), has("c", 's'));
    format!(
        "coalesce((SELECT jsonb_agg(jsonb_build_array(c.oid::bigint,
                format('%s.%s (%s)', n.nspname, c.relname, array_to_string(g.columns, ', ')))
                ORDER BY n.nspname, c.relname)
            FROM {sent} t JOIN pg_class c ON c.oid = t.relid
            JOIN pg_namespace n ON n.oid = c.relnamespace
            CROSS JOIN LATERAL (SELECT CASE WHEN {has_stored} THEN {stored} END AS columns) g
            WHERE p.pubgencols <> 's' AND g.columns <> '{{}}'
            AND NOT EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid
                AND r.prrelid = c.oid AND r.prattrs IS NOT NULL)), '[]')"
    )
}

impl CatalogTable {
    /// Whether the publication must send stored generated columns for updates and deletes to work.
    pub(crate) fn needs_generated(&self) -> bool {
        !self.generated.stored_identity.is_empty()
    }

    /// [`Generated::full_identity`] of these, the table or partitions of it.
    pub(crate) fn full_identity(&self, of: &[String], sent_by: Option<&str>) -> Option<String> {
        self.generated.full_identity(of, sent_by)
    }

    /// SQL that makes the primary key the identity of these, the table or partitions of it.
    pub(crate) fn key_identity(&self, of: &[String]) -> String {
        let mut statements = Vec::new();
        if self.primary_key.is_empty() {
            statements.push(format!("ALTER TABLE {} ADD PRIMARY KEY (…)", self.sql()));
        }
        // What stands for its partitions has an identity of its own, to which theirs must be alike.
        let own = (self.is_partitioned && self.identity != 'd').then(|| self.sql());
        let default = |table: &String| format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT");
        statements.extend(of.iter().chain(&own).map(default));
        statements.join("; ")
    }
}

/// What keeps updates and deletes of tables from failing for want of generated columns: the
/// publication is made to send them where we may, else it is said. `drops` tells whether unwanted tables
/// leave it.
pub(super) fn compare(
    wish: Wish<'_>,
    publication: &Publication,
    seen: &Seen,
    drops: bool,
    review: &mut Review,
) {
    let published = publication.operations();
    let operations = wish.operations.union(&published).copied().collect();
    let is_failing = names_old_rows(&published);
    let stays = |(oid, _): &&(u32, String)| !drops || !seen.others.contains_key(oid);
    let in_vain = publication.generated_unsent.iter().filter(stays);
    let in_vain: Vec<&str> = in_vain.map(|(_, table)| table.as_str()).collect();
    let is_ours = wish.management == PublicationManagement::Auto && publication.is_ours;
    if !in_vain.is_empty() && names_old_rows(&operations) && is_ours {
        review.plan.generated = true;
    }
    review.sends_generated = publication.sends_generated || review.plan.generated;
    let name = wish.name;
    if review.plan.generated {
        let severity = match is_failing && !in_vain.is_empty() {
            true => Severity::Warning,
            false => Severity::Info,
        };
        review.findings.push(will_send(name, severity, "altered", &in_vain));
    } else if is_failing && !in_vain.is_empty() {
        let message = format!(
            "the application's updates and deletes of these tables fail while the publication \
             \"{name}\" does not send the stored generated columns of their replica identity: {}",
            in_vain.join(", ")
        );
        let remedy = format!(
            "as its owner: ALTER PUBLICATION {} SET ({OPTION}), with which the stored generated \
             columns of all its tables come in events",
            ident(name)
        );
        let found = finding(Severity::Error, checks::UPDATES_FAIL, message, remedy);
        review.findings.push(found.at(place(name)));
    }
}

/// Says that the publication will send stored generated columns, and what for where that is known.
pub(super) fn will_send(name: &str, severity: Severity, done: &str, tables: &[&str]) -> Finding {
    let of = match tables.is_empty() {
        true => String::new(),
        false => format!(": {}", tables.join(", ")),
    };
    let message = format!(
        "the publication \"{name}\" will be {done} to send stored generated columns, which then come in \
         events, of all its tables: without them the application's updates and deletes of tables fail \
         whose replica identity has such{of}"
    );
    finding(severity, checks::UPDATES_FAIL, message, String::new()).at(place(name))
}
