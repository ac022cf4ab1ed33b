//! Settings go by names: what they hide must not come out because a table or a column got another.

use rowtide_sdk::{Code, Error, Finding, Origin, Severity, Table};

use crate::config::{ConnectorConfig, TableConfig};
use crate::envelope::subject;
use crate::schema::Versions;

/// RT5015: a renamed table or column lost its settings.
const SETTINGS_SHED: Code = Code("RT5015");

/// RT1028: settings for an exact name show what a pattern hides.
const OVERSHADOWED: Code = Code("RT1028");

/// Settings for a table's exact name that hide less than a pattern that matches it too: they count alone.
pub(crate) fn overshadowed(connector: &ConnectorConfig) -> Vec<Finding> {
    let names = connector.tables.iter().filter_map(|(name, own)| {
        is_exact(name)
            .then(|| name.split_once('.').map(|(schema, table)| (name, schema, table, own)))?
    });
    let mut findings = Vec::new();
    for (name, schema, table, own) in names {
        for (pattern, general) in connector.tables.iter().filter(|(pattern, _)| pattern != name) {
            if !connector.pattern_matches(pattern, schema, table) {
                continue;
            }
            let hidden = hidden(own);
            let shown = self::hidden(general).into_iter().filter(|column| !hidden.contains(column));
            let shown: Vec<&str> = shown.map(String::as_str).collect();
            if !shown.is_empty() {
                findings.push(shows(name, pattern, &shown.join(", ")));
            }
        }
    }
    findings
}

fn shows(name: &str, pattern: &str, columns: &str) -> Finding {
    let message = format!(
        "the settings of {name} count alone: {columns}, which those of {pattern:?} hide, would be \
         published there"
    );
    Finding::new(Severity::Warning, OVERSHADOWED, message).at(format!("tables.{name}")).with_remedy(
        format!("where they are to stay hidden, name them in the `columns` of {name} too"),
    )
}

/// The columns that settings leave out or mask.
fn hidden(config: &TableConfig) -> Vec<&String> {
    config.exclude.iter().chain(config.mask.iter().map(|(column, _)| column)).collect()
}

/// Refuses a table whose rows came under another name before, with settings that do not hold under
/// this one, and a table of which a hidden column is gone while another is new. Settings for the exact
/// name are a choice.
///
/// # Errors
/// `RT5015`, fatal.
pub(crate) fn check_names(
    connector: &ConnectorConfig,
    versions: &Versions,
    table: &Table,
) -> Result<(), Error> {
    if connector.names_exactly(&table.schema, &table.name) {
        return Ok(());
    }
    let config = connector.table(&table.schema, &table.name);
    for (schema, name) in versions.other_names(table) {
        let shed = shed(connector.table(&schema, &name), config);
        if !shed.is_empty() {
            return Err(table_renamed(&format!("{schema}.{name}"), table, &shed));
        }
    }
    let subject = subject(&connector.name, table);
    match versions.columns_before(&subject, table) {
        Some(before) => {
            check_columns(table, config, &before)?;
            check_settings(table, config, &before, &versions.hidden_before(&subject, table))
        }
        None => {
            let Some((pattern, _)) = connector.settings(&table.schema, &table.name) else {
                return Ok(());
            };
            let columns: Vec<String> = table.columns.iter().map(|one| one.name.clone()).collect();
            check_settings(table, config, &columns, &versions.hidden_under(pattern))
        }
    }
}

/// Whether settings are under a table's name, not under a pattern.
fn is_exact(name: &str) -> bool {
    !name.contains(['*', '?', '[', '{', '\\'])
}

/// Notes what the settings under patterns hide: of a table that has no event yet nothing else tells, once they
/// are changed, what they hid of rows that are still to come.
pub(crate) fn note_patterns(connector: &ConnectorConfig, versions: &Versions) {
    for (pattern, config) in connector.tables.iter().filter(|(name, _)| !is_exact(name)) {
        for column in hidden(config) {
            versions.note_hidden_under(pattern, column);
        }
    }
}

/// The settings that `old` makes and `new` does not keep.
fn shed(old: &TableConfig, new: &TableConfig) -> Vec<&'static str> {
    let is_hidden = |column: &String| new.exclude.contains(column);
    let mut shed = Vec::new();
    if old.key.is_some() && old.key != new.key {
        shed.push("key");
    }
    if !old.exclude.iter().all(is_hidden) {
        shed.push("columns.exclude");
    }
    if !old.mask.iter().all(|mask| new.mask.contains(mask) || is_hidden(&mask.0)) {
        shed.push("columns.mask");
    }
    if old.contract.is_some() && old.contract != new.contract {
        shed.push("contract");
    }
    shed
}

fn table_renamed(old: &str, table: &Table, shed: &[&str]) -> Error {
    let new = format!("{}.{}", table.schema, table.name);
    Error::fatal(
        Origin::Config,
        SETTINGS_SHED,
        format!(
            "rows of the table {new} were those of {old} before (it was renamed, or it is a partition \
             that was detached), and the settings of {old} do not hold under this name: {}; nothing was \
             published under it",
            shed.join(", ")
        ),
    )
    .with_remedy(format!(
        "name {new} under `tables`, with the settings it shall have ({new}: {{}} for none), or leave it \
         out by `source.tables.exclude`"
    ))
}

/// Refuses a table of which a hidden column is gone while another is new: it may be the same one.
fn check_columns(table: &Table, config: &TableConfig, before: &[String]) -> Result<(), Error> {
    let hidden = hidden(config);
    let is_gone =
        |column: &&&String| before.contains(column) && table.column_index(column).is_none();
    let gone: Vec<&str> = hidden.iter().filter(is_gone).map(|column| column.as_str()).collect();
    let is_new = |column: &&String| !before.contains(column) && !hidden.contains(column);
    let names = table.columns.iter().map(|column| &column.name);
    let new: Vec<&str> = names.filter(is_new).map(String::as_str).collect();
    if gone.is_empty() || new.is_empty() {
        return Ok(());
    }
    let name = format!("{}.{}", table.schema, table.name);
    let (gone, new) = (gone.join(", "), new.join(", "));
    Err(Error::fatal(
        Origin::Config,
        SETTINGS_SHED,
        format!(
            "{name} does not have {gone} any more, which the settings hide, and has {new}, which they \
             show: the log does not tell whether that is the same column under another name; nothing \
             was published with it"
        ),
    )
    .with_remedy(format!(
        "name {name} under `tables`, with the columns to hide as they are called now ({name}: {{}} for \
         none)"
    )))
}

/// Refuses a table of which a column was hidden and is not any more, where the settings hide others that it
/// never had: they may be those of the table as it is later, with rows of before still to come.
fn check_settings(
    table: &Table,
    config: &TableConfig,
    before: &[String],
    hidden_before: &[String],
) -> Result<(), Error> {
    let hidden = hidden(config);
    let is_shown =
        |column: &&String| !hidden.contains(column) && table.column_index(column).is_some();
    let shown: Vec<&str> = hidden_before.iter().filter(is_shown).map(String::as_str).collect();
    let is_unknown =
        |column: &&&String| !before.contains(column) && table.column_index(column).is_none();
    let unknown: Vec<&str> = hidden.iter().filter(is_unknown).map(|one| one.as_str()).collect();
    if shown.is_empty() || unknown.is_empty() {
        return Ok(());
    }
    let name = format!("{}.{}", table.schema, table.name);
    let (shown, unknown) = (shown.join(", "), unknown.join(", "));
    Err(Error::fatal(
        Origin::Config,
        SETTINGS_SHED,
        format!(
            "the settings of {name} hid {shown}, and show it now; they hide {unknown}, which {name} does not \
             have in these rows: they may be from before a column got that name; nothing was published \
             with it"
        ),
    )
    .with_remedy(format!(
        "hide {shown} too until these rows are through; where it is to be published, name {name} under \
         `tables`, with the columns to hide that it has"
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Mask, OnViolation};
    use crate::envelope::testing::{table, text_column};

    #[test]
    fn settings_that_hide_must_go_on_hiding() {
        let column = |name: &str| name.to_owned();
        let old = TableConfig {
            key: Some(vec![column("id")]),
            exclude: vec![column("note")],
            mask: vec![(column("email"), Mask::Sha256)],
            contract: Some(Arc::new(serde_json::json!({}))),
            on_violation: OnViolation::DeadLetter,
            ..TableConfig::default()
        };
        let none = TableConfig::default();
        assert_eq!(shed(&old, &none), ["key", "columns.exclude", "columns.mask", "contract"]);
        assert!(shed(&old, &old).is_empty() && shed(&none, &old).is_empty());
        let stricter =
            TableConfig { exclude: vec![column("email"), column("note")], ..old.clone() };
        assert!(shed(&old, &TableConfig { mask: Vec::new(), ..stricter }).is_empty());
        let weaker = TableConfig { mask: vec![(column("email"), Mask::Redact)], ..old.clone() };
        assert_eq!(shed(&old, &weaker), ["columns.mask"]);
    }

    #[test]
    fn a_hidden_column_that_may_have_a_new_name_is_not_shown() {
        let config = TableConfig {
            exclude: vec!["ssn".to_owned()],
            mask: vec![("email".to_owned(), Mask::Redact)],
            ..TableConfig::default()
        };
        let before = ["id", "ssn", "email"].map(str::to_owned);
        let is_refused = |columns: &[&str]| {
            let columns = columns.iter().map(|name| text_column(name)).collect();
            check_columns(&table("t", columns), &config, &before).is_err()
        };
        assert!(is_refused(&["id", "social", "email"]));
        assert!(is_refused(&["id", "ssn", "mail"]));
        assert!(!is_refused(&["id", "ssn", "email"]));
        assert!(!is_refused(&["id", "email"]), "dropped");
        assert!(!is_refused(&["id", "ssn", "email", "note"]), "added");
        assert!(!is_refused(&["key", "ssn", "email"]), "one that was shown");
    }

    #[test]
    fn settings_for_a_column_that_is_yet_to_come_do_not_show_the_one_that_was_hidden() {
        let refuses = |hide: &[&str], hidden_before: &[&str]| {
            let owned =
                |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
            let config = TableConfig { exclude: owned(hide), ..TableConfig::default() };
            let columns = ["id", "secret"].map(text_column).to_vec();
            let before = owned(&["id", "secret"]);
            check_settings(&table("t", columns), &config, &before, &owned(hidden_before)).is_err()
        };
        assert!(refuses(&["s2"], &["secret"]), "renamed later");
        assert!(!refuses(&["s2", "secret"], &["secret"]), "both");
        assert!(!refuses(&[], &["secret"]), "it is to be published");
        assert!(!refuses(&["s2"], &[]), "nothing was hidden");
        assert!(!refuses(&["id"], &["secret"]), "another that is there");
    }
}
