//! How settings and tables fit each other, by the catalog's description of the tables: for a check, and
//! for a run before it reads the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowtide_sdk::{Code, Error, Finding, LogStart, Origin, Severity, Table, TableReview};

use crate::config::{ConnectorConfig, TableConfig};
use crate::envelope::{Plan, subject};
use crate::schema::{UNKNOWN_COLUMN, Versions};

/// RT1027: table settings match no table.
const UNMATCHED: Code = Code("RT1027");

/// What a run makes of the tables: it tells of settings that fit none, and refuses what the first row of
/// a table would certainly be refused for. `is_told` is set once that is done.
pub(super) fn review(
    connector: &ConnectorConfig,
    saved: Versions,
    is_told: &Arc<AtomicBool>,
) -> TableReview {
    let (connector, is_told) = (connector.clone(), Arc::clone(is_told));
    Box::new(move |tables, log| {
        let mut found = unmatched(&connector, tables);
        if let Some(miswritten) = found.iter().find(|found| found.severity == Severity::Error) {
            let error = Error::fatal(Origin::Config, UNMATCHED, miswritten.message.clone());
            return Err(error.with_remedy(miswritten.remedy.clone().unwrap_or_default()));
        }
        match log {
            LogStart::Now => refuse(&connector, tables)?,
            LogStart::Earlier => {
                found
                    .extend(tables.iter().filter_map(|table| fit(&connector, Some(&saved), table)));
            }
        }
        for Finding { code, message, remedy, .. } in found {
            let remedy = remedy.unwrap_or_default();
            tracing::warn!(code = code.0, remedy, "{message}");
        }
        is_told.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// The first refusal, and how many more there are.
fn refuse(connector: &ConnectorConfig, tables: &[Arc<Table>]) -> Result<(), Error> {
    let mut refused = tables.iter().filter_map(|table| projected(connector, table).err());
    let Some(error) = refused.next() else { return Ok(()) };
    let more = refused.count();
    if more > 0 {
        tracing::error!(
            more,
            "the settings of other tables do not fit either: `rowtide check` lists them"
        );
    }
    Err(error)
}

fn projected(connector: &ConnectorConfig, table: &Table) -> Result<(), Error> {
    let names_exactly = connector.names_exactly(&table.schema, &table.name);
    let config = connector.table(&table.schema, &table.name);
    Plan::projection(table, config, names_exactly).map(drop)
}

/// Settings that apply to no table; an error where only the case of letters keeps them from one that no other
/// settings are for.
pub(crate) fn unmatched(connector: &ConnectorConfig, tables: &[Arc<Table>]) -> Vec<Finding> {
    let is_used = |pattern: &str| {
        tables.iter().any(|table| connector.pattern_matches(pattern, &table.schema, &table.name))
    };
    let unused = connector.tables.iter().filter(|(pattern, _)| !is_used(pattern));
    let finding = |(pattern, _): &(String, TableConfig)| {
        if let Some(table) = but_for_case(connector, pattern, tables) {
            return miswritten(pattern, table);
        }
        let message =
            format!("the settings of {pattern:?} match no table under whose name rows come now");
        Finding::new(Severity::Warning, UNMATCHED, message)
            .at(format!("tables.{pattern}"))
            .with_remedy(
                "correct the name, or add the table to `source.tables.include`; leave them where \
                 changes that are not delivered yet come under that name: of a table that was renamed or \
                 is to come, on PostgreSQL of a partition from before `publish_via_partition_root`",
            )
    };
    unused.map(finding).collect()
}

/// The table that a pattern would match but for the case of letters, where no settings match it.
fn but_for_case<'t>(
    connector: &ConnectorConfig,
    pattern: &str,
    tables: &'t [Arc<Table>],
) -> Option<&'t Table> {
    let pattern = pattern.to_lowercase();
    let has_settings = |table: &Table| {
        let mut all = connector.tables.iter();
        all.any(|(other, _)| connector.pattern_matches(other, &table.schema, &table.name))
    };
    let is_it = |table: &&Table| {
        let (schema, name) = (table.schema.to_lowercase(), table.name.to_lowercase());
        connector.pattern_matches(&pattern, &schema, &name) && !has_settings(table)
    };
    tables.iter().map(Arc::as_ref).find(is_it)
}

fn miswritten(pattern: &str, table: &Table) -> Finding {
    let (schema, name) = (&table.schema, &table.name);
    let message = format!(
        "the settings of {pattern:?} match no table, and would match {schema}.{name} but for the case of letters"
    );
    Finding::new(Severity::Error, UNMATCHED, message).at(format!("tables.{pattern}")).with_remedy(
        "write the name as the database does, which for it is another one in another case",
    )
}

/// Whether a table's settings fit it: as it is now, and as it was when a change of it was delivered last,
/// in which form others may still be in the log.
pub(crate) fn fit(
    connector: &ConnectorConfig,
    saved: Option<&Versions>,
    table: &Table,
) -> Option<Finding> {
    let place = format!("table {}.{}", table.schema, table.name);
    let named = named(connector, table);
    let subject = subject(&connector.name, table);
    let before = saved.and_then(|saved| saved.columns_before(&subject, table));
    let lacked = before.map(|before| {
        let is_lacked = |name: &&&String| !before.contains(name);
        named.iter().filter(is_lacked).map(|name| name.as_str()).collect::<Vec<_>>()
    });
    let found = match (projected(connector, table), lacked) {
        (Err(error), Some(lacked)) if error.code() == UNKNOWN_COLUMN && lacked.is_empty() => {
            fits_no_more(&error)
        }
        (Err(error), _) => Finding::from(&error),
        (Ok(()), Some(lacked)) if !lacked.is_empty() => fits_only_now(table, &lacked),
        (Ok(()), _) => return None,
    };
    Some(found.at(place))
}

/// The columns that the table must have.
fn named<'a>(connector: &'a ConnectorConfig, table: &Table) -> Vec<&'a String> {
    let config = connector.table(&table.schema, &table.name);
    let key = config.key.iter().flatten();
    let masked = config.mask.iter().map(|(column, _)| column);
    let hidden = config.exclude.iter().chain(masked);
    match connector.names_exactly(&table.schema, &table.name) {
        true => key.chain(hidden).collect(),
        false => key.collect(),
    }
}

fn fits_no_more(error: &Error) -> Finding {
    let message = format!(
        "{}; it had the column when a change of it was delivered last: changes from before the ALTER pass, \
         and the first one after it will be refused",
        error.message()
    );
    Finding::new(Severity::Warning, error.code(), message).with_remedy(
        "where changes from before are still to come, start with these settings, and correct them when the \
         connector stops; where none are, correct them now",
    )
}

fn fits_only_now(table: &Table, lacked: &[&str]) -> Finding {
    let (name, columns) = (format!("{}.{}", table.schema, table.name), lacked.join(", "));
    let message = format!(
        "the settings of {name} name {columns}, which it did not have when a change of it was delivered \
         last: where changes from before the ALTER are still to come, they will be refused"
    );
    Finding::new(Severity::Warning, UNKNOWN_COLUMN, message).with_remedy(
        "nothing where none are to come; else deliver them with the settings as they were, or name the \
         columns to hide under a pattern that matches this table alone, whose settings may name columns \
         that a table does not have",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rowtide_sdk::Origin;

    use super::*;
    use crate::config::{Environment, load_text};
    use crate::envelope::testing::{table, text_column};
    use crate::registry::KINDS;
    use crate::schema::HostState;

    /// A connector with these settings of tables.
    fn connector(tables: &str) -> ConnectorConfig {
        let text = format!(
            "connectors: {{ shop: {{ snapshot: never, sink: {{ type: discard }}, tables: {tables}, \
             source: {{ type: postgres, url: 'postgres://u@h/d', slot: s, publication: p }} }} }}"
        );
        let config =
            load_text(Path::new("a.yaml"), &text, &Environment::default(), &KINDS).unwrap();
        config.connectors.into_iter().next().unwrap()
    }

    fn masking(name: &str, column: &str) -> ConnectorConfig {
        connector(&format!("{{ '{name}': {{ columns: {{ mask: {{ {column}: redact }} }} }} }}"))
    }

    fn of(columns: &[&str]) -> Table {
        table("t", columns.iter().map(|name| text_column(name)).collect())
    }

    /// What is saved once a change of the table in this form was delivered.
    fn delivered(columns: &[&str]) -> Versions {
        let mut versions = Versions::new(HostState::default()).unwrap();
        let table = of(columns);
        let projection = Plan::projection(&table, &TableConfig::default(), false).unwrap();
        versions.assign("shop.public.t", &table, &projection, None).unwrap();
        versions
    }

    #[test]
    fn a_run_refuses_what_its_first_row_would_be_refused_for() {
        let tables = [Arc::new(of(&["id", "mail"]))];
        let reviewed = |config: &ConnectorConfig, log| {
            let is_told = Arc::new(AtomicBool::new(false));
            let nothing = Versions::new(HostState::default()).unwrap();
            let result = review(config, nothing, &is_told)(&tables, log);
            assert_eq!(is_told.load(Ordering::Relaxed), result.is_ok());
            result.map_err(|error| (error.code().0, error.origin()))
        };
        let mistyped = masking("public.t", "email");
        let key_is_hidden = masking("public.t", "id");
        assert_eq!(reviewed(&mistyped, LogStart::Now), Err(("RT5007", Origin::Config)));
        assert_eq!(reviewed(&key_is_hidden, LogStart::Now), Err(("RT5014", Origin::Config)));
        // The log may hold the table as it was.
        assert_eq!(reviewed(&mistyped, LogStart::Earlier), Ok(()));
        for (name, column) in [("public.t", "mail"), ("public.*", "email"), ("public.u", "x")] {
            assert_eq!(reviewed(&masking(name, column), LogStart::Now), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_the_log_may_still_hold_counts_too() {
        let table = of(&["id", "mail"]);
        let fit = |column: &str, saved: &[&str]| {
            let found = fit(&masking("public.t", column), Some(&delivered(saved)), &table)?;
            assert_eq!(found.code, UNKNOWN_COLUMN);
            assert_eq!(found.place.as_deref(), Some("table public.t"));
            Some((found.severity, found.message))
        };
        assert_eq!(fit("mail", &["id", "mail"]), None);
        let (severity, _) = fit("emial", &["id", "email"]).unwrap();
        assert_eq!(severity, Severity::Error, "in neither form");
        let (severity, message) = fit("email", &["id", "email"]).unwrap();
        assert!(severity == Severity::Warning && message.contains("after it"), "{message}");
        let (severity, message) = fit("mail", &["id", "email"]).unwrap();
        assert!(severity == Severity::Warning && message.contains("name mail"), "{message}");
    }

    #[test]
    fn settings_that_only_case_keeps_from_a_table_are_refused() {
        let tables = [Arc::new(of(&["id"]))];
        let severity = |config: &str| {
            let found = unmatched(&connector(config), &tables);
            found.iter().map(|found| found.severity).collect::<Vec<_>>()
        };
        assert_eq!(severity("{ Public.T: {} }"), [Severity::Error]);
        assert_eq!(severity("{ 'public.[T]': {} }"), [Severity::Error]);
        assert_eq!(severity("{ Public.T: {}, public.t: {} }"), [Severity::Warning]);
        assert_eq!(severity("{ Public.U: {} }"), [Severity::Warning]);
        let config = connector("{ Public.T: {} }");
        let nothing = Versions::new(HostState::default()).unwrap();
        let result =
            review(&config, nothing, &Arc::new(AtomicBool::new(false)))(&tables, LogStart::Earlier);
        assert_eq!(result.map_err(|error| error.code().0), Err("RT1027"));
    }

    #[test]
    fn settings_that_match_no_table_are_named() {
        let tables = [Arc::new(of(&["id"]))];
        let found = unmatched(&connector("{ public.t: {}, public.tt: {}, 'o.*': {} }"), &tables);
        let places: Vec<_> = found.iter().filter_map(|found| found.place.as_deref()).collect();
        assert_eq!(places, ["tables.public.tt", "tables.o.*"]);
    }
}
