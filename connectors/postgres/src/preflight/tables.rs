//! What the preflight says of tables and of the other relations that the selection matches.

use std::sync::Arc;

use rowtide_sdk::{Finding, Form, Identity, Result, Severity, StringKind, Table, TableFilter};
use serde::Deserialize;

use super::{codes, say};
use crate::publication::Generated;
use crate::sql::{Sql, json_rows, table_name};

/// The largest integer up to which a double holds every one.
const DOUBLE_EXACT: i128 = 1 << 53;

/// A relation of the database, whether the log carries it or not.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Relation {
    schema: String,
    name: String,
    /// `pg_class.relkind`.
    kind: char,
    /// `pg_class.relpersistence`.
    persistence: char,
    /// Whether it has row security.
    has_row_security: bool,
    /// Whether row security hides rows from our role.
    hides_rows: bool,
    /// Its generated columns and their kinds (`pg_attribute.attgenerated`).
    generated: Vec<(String, char)>,
    /// The partitioned tables above it.
    ancestors: Vec<(String, String)>,
}

const RELATIONS: &str = "SELECT jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
    'has_row_security', c.relrowsecurity, 'hides_rows', row_security_active(c.oid),
    'generated', ARRAY(SELECT jsonb_build_array(a.attname, a.attgenerated)
        FROM pg_attribute a WHERE a.attrelid = c.oid
        AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '' ORDER BY a.attnum),
    'ancestors', coalesce((SELECT jsonb_agg(jsonb_build_array(rn.nspname, r.relname))
        FROM pg_partition_ancestors(c.oid) up JOIN pg_class r ON r.oid = up.relid
        JOIN pg_namespace rn ON rn.oid = r.relnamespace WHERE r.oid <> c.oid), '[]'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ORDER BY n.nspname, c.relname";

/// The relations that the selection matches, and partitions of these.
pub(super) async fn relations(sql: &mut impl Sql, filter: &TableFilter) -> Result<Vec<Relation>> {
    let all: Vec<Relation> = json_rows(sql, RELATIONS, "listing the relations").await?;
    let is_matched = |relation: &Relation| {
        filter.matches(&relation.schema, &relation.name)
            || relation.ancestors.iter().any(|(schema, name)| filter.matches(schema, name))
    };
    Ok(all.into_iter().filter(is_matched).collect())
}

impl Relation {
    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn place(&self) -> String {
        format!("table {}", self.full_name())
    }

    /// Why the log never carries it, and what to do; `None` where it does.
    fn not_logged(&self) -> Option<(&'static str, &'static str)> {
        Some(match (self.kind, self.persistence) {
            ('v', _) => ("views", "capture the tables that they read"),
            ('m', _) => ("materialized views", "capture the tables that they read"),
            ('f', _) => ("foreign tables", "capture them on the server that they are on"),
            (_, 't') => ("temporary tables", "capture lasting tables"),
            ('r', 'u') => ("unlogged tables", "ALTER TABLE … SET LOGGED, which rewrites the table"),
            _ => return None,
        })
    }
}

/// Relations that the log never carries (H-49). One that is asked for by its exact name, or that
/// holds rows of a captured partitioned table, is missed without a sign otherwise.
pub(super) fn not_logged(relations: &[Relation], filter: &TableFilter) -> Vec<Finding> {
    let mut by_kind: Vec<(&'static str, &'static str, Severity, Vec<String>)> = Vec::new();
    for relation in relations {
        let Some((kind, remedy)) = relation.not_logged() else { continue };
        let is_asked_for = filter.names_exactly(&relation.schema, &relation.name)
            || relation.ancestors.iter().any(|(schema, name)| filter.matches(schema, name));
        let severity = if is_asked_for { Severity::Warning } else { Severity::Info };
        match by_kind.iter_mut().find(|(other, _, level, _)| *other == kind && *level == severity) {
            Some((_, _, _, names)) => names.push(relation.full_name()),
            None => by_kind.push((kind, remedy, severity, vec![relation.full_name()])),
        }
    }
    let finding = |(kind, remedy, severity, names): (&'static str, &str, Severity, Vec<String>)| {
        let message = format!(
            "the log never carries changes of {kind}, and `tables` matches these: {}",
            names.join(", ")
        );
        say(severity, codes::NOT_LOGGED, message, remedy).at(kind)
    };
    by_kind.into_iter().map(finding).collect()
}

/// Tables with row security (H-71): the log knows none, and reads of the table may be refused.
pub(super) fn row_security(relations: &[Relation]) -> Vec<Finding> {
    let secured = relations.iter().filter(|relation| relation.has_row_security);
    secured
        .map(|relation| {
            let name = relation.full_name();
            let found = if relation.hides_rows {
                say(
                    Severity::Warning,
                    codes::ROW_SECURITY,
                    format!(
                        "row security hides rows of {name} from the role: whatever reads the table \
                         itself is refused, rather than given a part; the log carries all rows"
                    ),
                    "ALTER ROLE … BYPASSRLS, for the role in `url`, where it reads tables",
                )
            } else {
                say(
                    Severity::Info,
                    codes::ROW_SECURITY,
                    format!(
                        "row security of {name} does not hold for the log: it carries all rows"
                    ),
                    "",
                )
            };
            found.at(relation.place())
        })
        .collect()
}

/// Generated columns that the log does not carry, key columns among them.
pub(super) fn generated(relations: &[Relation], tables: &[Arc<Table>], major: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in tables {
        let is_it =
            |relation: &&Relation| relation.schema == table.schema && relation.name == table.name;
        let Some(relation) = relations.iter().find(is_it) else { continue };
        let absent: Vec<&str> = relation
            .generated
            .iter()
            .map(|(column, _)| column.as_str())
            .filter(|column| table.column_index(column).is_none())
            .collect();
        if absent.is_empty() {
            continue;
        }
        let remedy = if major >= 18 {
            "ALTER PUBLICATION … SET (publish_generated_columns = stored), for stored ones"
        } else {
            "PostgreSQL 18 can publish stored ones; until then compute them where they are read"
        };
        let message = format!(
            "generated columns of {} are not in the log: {}",
            relation.full_name(),
            absent.join(", ")
        );
        findings.push(say(Severity::Info, codes::GENERATED, message, remedy).at(relation.place()));
    }
    findings
}

/// The size from which on the server may store a value out of line, its header of 4 bytes included:
/// below, the reference would be no shorter (`toast_tuple_find_biggest_attribute`).
const OUT_OF_LINE_FROM: u32 = 25;

/// Whether the declared type keeps every value too small to be stored out of line.
fn is_always_small(type_name: &str) -> bool {
    let declared = type_name.strip_suffix(')').and_then(|rest| rest.split_once('('));
    let Some((name, modifier)) = declared else { return false };
    let numbers: Option<Vec<i32>> =
        modifier.split(',').map(|number| number.trim().parse().ok()).collect();
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let data = match (name, numbers.as_deref()) {
        // Up to 4 bytes a character in any encoding.
        ("character" | "character varying", Some([chars])) => count(*chars).saturating_mul(4),
        ("bit" | "bit varying", Some([bits])) => count(*bits).div_ceil(8).saturating_add(4),
        // Groups of four digits on either side of the point, in two bytes each.
        ("numeric", Some([precision, scale])) => {
            let whole = count(precision.saturating_sub(*scale)).div_ceil(4);
            let groups = whole.saturating_add(count(*scale).div_ceil(4));
            groups.saturating_mul(2).saturating_add(4)
        }
        _ => return false,
    };
    data.saturating_add(4) < OUT_OF_LINE_FROM
}

/// SQL that has whole rows of a table logged, where updates and deletes then work.
pub(super) fn full_identity(
    relations: &[Relation],
    table: &Table,
    major: u32,
    sent_by: Option<&str>,
) -> Option<String> {
    let is_it =
        |relation: &&Relation| relation.schema == table.schema && relation.name == table.name;
    let generated = relations.iter().find(is_it).map_or(&[][..], |relation| &relation.generated);
    let has = |kind: char| major >= 18 && generated.iter().any(|(_, other)| *other == kind);
    let generated =
        Generated { has_stored: has('s'), has_virtual: has('v'), ..Generated::default() };
    let sql = table_name(&table.schema, &table.name);
    generated.full_identity(&[sql], sent_by)
}

/// Columns that updates may leave out, once per table. Those that are hidden are in no event. `full` has
/// whole rows logged.
pub(super) fn may_be_unchanged(
    table: &Table,
    is_hidden: &dyn Fn(&str) -> bool,
    full: Option<String>,
) -> Option<Finding> {
    let names_rows = table.columns.iter().any(|column| column.is_identity);
    // Whole rows are logged under FULL; without an identity no update is.
    if table.identity == Identity::Full || !names_rows {
        return None;
    }
    let columns: Vec<&str> = table
        .columns
        .iter()
        .filter(|column| column.may_be_unchanged && !column.is_identity)
        .filter(|column| !is_always_small(&column.type_name) && !is_hidden(&column.name))
        .map(|column| column.name.as_str())
        .collect();
    (!columns.is_empty()).then(|| {
        say(
            Severity::Info,
            codes::MAY_BE_UNCHANGED,
            format!(
                "the log leaves a large value out of an update that does not change it; such a \
                 column is listed in `unchanged`: {}",
                columns.join(", ")
            ),
            &format!(
                "where consumers need every value: `unchanged: reselect` in the table's settings{}",
                full.map_or_else(String::new, |full| format!(", or {full}"))
            ),
        )
        .at(format!("table {}.{}", table.schema, table.name))
    })
}

/// Columns whose JSON a careless consumer misreads, once per table.
pub(super) fn precision(table: &Table) -> Option<Finding> {
    let mut large = Vec::new();
    let mut decimals = Vec::new();
    let mut floats = Vec::new();
    for column in &table.columns {
        match innermost(&column.form) {
            Form::Integer { max, .. } if *max > DOUBLE_EXACT => large.push(column.name.as_str()),
            Form::String(StringKind::Decimal) => decimals.push(column.name.as_str()),
            Form::Float => floats.push(column.name.as_str()),
            _ => {}
        }
    }
    let parts = [
        (large, "integers that a reader of doubles rounds beyond 2^53"),
        (decimals, "decimals, written as strings"),
        (floats, "floats, which may be the strings NaN, Infinity and -Infinity"),
    ];
    let words: Vec<String> = parts
        .iter()
        .filter(|(columns, _)| !columns.is_empty())
        .map(|(columns, what)| format!("{} ({what})", columns.join(", ")))
        .collect();
    (!words.is_empty()).then(|| {
        say(
            Severity::Info,
            codes::PRECISION,
            format!("consumers must read these columns with care: {}", words.join("; ")),
            "",
        )
        .at(format!("table {}.{}", table.schema, table.name))
    })
}

/// The columns of a type, by table.
pub(super) fn of_type(tables: &[Arc<Table>], type_name: &str) -> Vec<String> {
    let columns = |table: &Arc<Table>| {
        let (schema, name) = (table.schema.clone(), table.name.clone());
        let of_type = table.columns.iter().filter(|column| column.type_name == type_name);
        let full = of_type.map(|column| format!("{schema}.{name}.{}", column.name));
        full.collect::<Vec<_>>()
    };
    tables.iter().flat_map(columns).collect()
}

/// Money whose locale does not count in hundredths (H-62): the log has a bare count, which is read
/// as hundredths. `units` is what one is stored as.
pub(super) fn money(columns: &[String], units: i64) -> Option<Finding> {
    (units != 100).then(|| {
        say(
            Severity::Warning,
            codes::MONEY,
            format!(
                "the database's lc_monetary stores an amount of 1 as {units}, and money is written \
                 as if it were stored in hundredths: {} are off by a factor",
                columns.join(", ")
            ),
            "ALTER TABLE … ALTER COLUMN … TYPE numeric, which means the same everywhere",
        )
        .at("setting lc_monetary")
    })
}

/// What an array's elements are.
fn innermost(form: &Form) -> &Form {
    match form {
        Form::Array(element) => innermost(element),
        form => form,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableSelection;

    fn relation(name: &str, kind: char, persistence: char) -> Relation {
        Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind,
            persistence,
            has_row_security: false,
            hides_rows: false,
            generated: Vec::new(),
            ancestors: Vec::new(),
        }
    }

    #[test]
    fn declared_sizes_tell_what_is_never_out_of_line() {
        for small in [
            "numeric(10,2)",
            "numeric(28,2)",
            "numeric(3,5)",
            "numeric(2,-3)",
            "character(5)",
            "character varying(5)",
            "bit(3)",
            "bit varying(128)",
        ] {
            assert!(is_always_small(small), "{small}");
        }
        for large in [
            "numeric",
            "numeric(38,10)",
            "numeric(10,2)[]",
            "character(6)",
            "character varying(20)",
            "character varying",
            "bit(129)",
            "text",
            "public.vector(3)",
            "public.numeric(3,2)",
        ] {
            assert!(!is_always_small(large), "{large}");
        }
    }

    #[test]
    fn what_is_asked_for_by_name_or_by_its_root_is_warned_of() {
        let include = ["public.*".to_owned(), "public.cache".to_owned()];
        let selection = TableSelection { include: include.to_vec(), exclude: Vec::new() };
        let filter = selection.filter().unwrap();
        let mut part = relation("part", 'r', 'u');
        part.ancestors = vec![("public".to_owned(), "root".to_owned())];
        let relations = [
            relation("t", 'r', 'p'),
            relation("cache", 'r', 'u'),
            relation("scratch", 'r', 'u'),
            part,
            relation("v", 'v', 'p'),
            relation("w", 'v', 'p'),
        ];
        let found = not_logged(&relations, &filter);
        let words: Vec<(Severity, &str)> =
            found.iter().map(|found| (found.severity, found.message.as_str())).collect();
        assert_eq!(words.len(), 3, "{words:?}");
        assert!(
            words[0].0 == Severity::Warning && words[0].1.ends_with("public.cache, public.part")
        );
        assert!(words[1].0 == Severity::Info && words[1].1.ends_with("public.scratch"));
        assert!(words[2].0 == Severity::Info && words[2].1.ends_with("public.v, public.w"));
    }
}
