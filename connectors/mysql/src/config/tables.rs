//! Which tables are captured.

use rowtide_sdk::{Finding, PatternWords, Severity, TableFilter, TablePattern};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::statement::shadow::{Shadow, shadow_of};

/// Which tables are captured. A table is captured where an `include` matches it and no `exclude` does.
/// Patterns are `database.table` with `*`, `?`, `[…]` and `{a,b}` on either side of the first dot; a dot
/// within a database's name is written `[.]`. The tables that online schema changes make for themselves
/// (gh-ost, pt-online-schema-change, LHM) are captured only where an `include` is their very name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSelection {
    /// Tables to capture. Default: every table of every database but the server's own (`mysql`, `sys`,
    /// `information_schema`, `performance_schema`).
    #[serde(default = "default_include")]
    #[schemars(length(min = 1))]
    pub include: Vec<String>,
    /// Tables to leave out all the same.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// The server's own databases.
const OF_THE_SERVER: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

fn default_include() -> Vec<String> {
    vec!["*.*".to_owned()]
}

impl Default for TableSelection {
    fn default() -> Self {
        Self { include: default_include(), exclude: Vec::new() }
    }
}

impl TableSelection {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// One finding for each pattern that cannot be read, or where nothing is included.
    pub fn filter(&self) -> Result<TableFilter, Vec<Finding>> {
        let words = PatternWords {
            code: codes::TABLE_PATTERN,
            schema: "database",
            examples: "shop.* or shop.order_?",
            default: "all",
        };
        TableFilter::compile(&self.include, &self.exclude, &words)
    }
}

/// Whether a table is captured by a filter.
pub(crate) fn is_captured(filter: &TableFilter, database: &str, table: &str) -> bool {
    filter.matches(database, table)
        && !OF_THE_SERVER.contains(&database)
        && shadow(filter, database, table).is_none()
}

/// Whose table this is by its name, unless the filter has that very name.
fn shadow<'a>(filter: &TableFilter, database: &str, table: &'a str) -> Option<Shadow<'a>> {
    shadow_of(table).filter(|_| !filter.names_exactly(database, table))
}

/// What is said of a table that a filter matches and that is left out all the same, as it is named like one
/// that a tool for schema changes makes.
pub(crate) fn left_out(filter: &TableFilter, database: &str, table: &str) -> Option<Finding> {
    let shadow = shadow(filter, database, table)?;
    if !filter.matches(database, table) || OF_THE_SERVER.contains(&database) {
        return None;
    }
    let message = format!(
        "{database}.{table} is named like a table that {} makes, and is left out though `tables.include` matches \
         it",
        shadow.tool.name()
    );
    let remedy =
        format!("where it is one of your own, name {database}.{table} in `tables.include`");
    Some(Finding::new(Severity::Info, crate::codes::LEFT_OUT, message).with_remedy(remedy))
}

/// What a server does with the case of names (`lower_case_table_names`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NameCase {
    /// 0: they differ by case.
    #[default]
    Kept,
    /// 1: they are in lower case, and statements may say them in any.
    Lower,
    /// 2: they are as they were made, and compared in lower case. So they are taken in it, wherever they come
    /// from.
    Compared,
}

/// What is captured by a filter, of the names that a server's catalog has.
pub(crate) fn captures(
    filter: TableFilter,
    case: NameCase,
) -> impl Fn(&str, &str) -> bool + Send + Sync {
    move |database: &str, table: &str| match case {
        NameCase::Kept | NameCase::Lower => is_captured(&filter, database, table),
        NameCase::Compared => is_captured(&filter, &database.to_lowercase(), &table.to_lowercase()),
    }
}

/// What tables are included by and none of `names` matches, of those that a server's catalog has.
pub(crate) fn unmatched(
    filter: &TableFilter,
    case: NameCase,
    names: &[(String, String)],
) -> Vec<String> {
    let is_meant = |pattern: &TablePattern, (database, table): &(String, String)| match case {
        NameCase::Kept | NameCase::Lower => pattern.matches(database, table),
        NameCase::Compared => pattern.matches(&database.to_lowercase(), &table.to_lowercase()),
    };
    let unmatched = |pattern: &&TablePattern| !names.iter().any(|name| is_meant(pattern, name));
    let text = |pattern: &TablePattern| {
        let (database, table) = pattern.globs();
        format!("{database}.{table}")
    };
    filter.includes().iter().filter(unmatched).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m44_patterns_are_of_lower_case_where_the_server_compares_in_it() {
        let selection = TableSelection { include: vec!["shop.*".to_owned()], exclude: Vec::new() };
        let wanted = |case| captures(selection.filter().unwrap(), case)("Shop", "Orders");
        assert!(!wanted(NameCase::Kept) && !wanted(NameCase::Lower) && wanted(NameCase::Compared));
    }

    #[test]
    fn patterns_without_a_table_are_named() {
        let include = ["shop.*", "Shop.orders", "crm.{a,b}"].map(str::to_owned).to_vec();
        let filter =
            TableSelection { include, exclude: vec!["shop.*".to_owned()] }.filter().unwrap();
        let names = [("shop", "orders"), ("crm", "c")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(unmatched(&filter, NameCase::Kept, &names), ["Shop.orders", "crm.{a,b}"]);
    }
}
