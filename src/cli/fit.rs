//! Whether a connector's settings fit the tables it would capture: columns, contracts, topics, schemas.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{Code, Finding, Severity, Table, TopicSpec};
use serde_json::Value;

use crate::config::{ConnectorConfig, OnViolation, TableConfig};
use crate::envelope::Plan;
use crate::pipeline::{
    MESSAGES, SCHEMA_CHANGES, Topics, check_names, dead_letter_spec, fit, keyless, message_spec,
    overshadowed, schema_topic_spec, topic_spec, unmatched,
};
use crate::schema::{Versions, is_always_present, subject_collision};

/// Looks at every table, also with what is saved of them; and gives the topics that would be written to.
/// No I/O happens here.
pub(super) fn check(
    connector: &ConnectorConfig,
    tables: &[Arc<Table>],
    saved: Option<&Versions>,
    max_event: usize,
) -> (Vec<Finding>, Vec<TopicSpec>) {
    let mut findings = unmatched(connector, tables);
    findings.extend(overshadowed(connector));
    findings.extend(shared_subjects(connector, tables));
    let mut topics = Topics::new(&connector.name, &connector.routing.topic_template);
    let mut specs = Vec::new();
    if let Some(template) = connector.source.factory.message_topic() {
        match topics.reserve(&template, MESSAGES) {
            Ok(topic) => specs.push(message_spec(&topic, max_event)),
            Err(error) => findings.push(Finding::from(&error)),
        }
    }
    if let Some(topic) = &connector.schema_changes.topic {
        match topics.reserve(topic, SCHEMA_CHANGES) {
            Ok(topic) => specs.push(schema_topic_spec(&topic, max_event)),
            Err(error) => findings.push(Finding::from(&error)),
        }
    }
    let mut has_dead_letters = false;
    for table in tables {
        let config = connector.table(&table.schema, &table.name);
        let place = format!("table {}.{}", table.schema, table.name);
        has_dead_letters |= config.on_violation == OnViolation::DeadLetter;
        let names_exactly = connector.names_exactly(&table.schema, &table.name);
        let renamed = saved.map(|saved| check_names(connector, saved, table));
        findings.extend(
            renamed.and_then(Result::err).map(|error| Finding::from(&error).at(place.clone())),
        );
        findings.extend(fit(connector, saved, table));
        let projection = Plan::projection(table, config, names_exactly);
        if let Some(contract) = &config.contract {
            findings.extend(contract_findings(table, config, contract));
        }
        match topics.topic(table) {
            Ok(name) => {
                let keyless = projection.ok().and_then(|projection| keyless(table, &projection));
                specs.push(TopicSpec { keyless, ..topic_spec(&name, max_event) });
            }
            Err(error) => findings.push(Finding::from(&error).at(place)),
        }
    }
    if has_dead_letters {
        specs.push(dead_letter_spec(&topics.dead_letters(), max_event));
    }
    (findings, specs)
}

/// Tables that would share a schema subject, because a name holds a dot.
fn shared_subjects(connector: &ConnectorConfig, tables: &[Arc<Table>]) -> Vec<Finding> {
    let mut owners: HashMap<String, &Table> = HashMap::new();
    let mut findings = Vec::new();
    for table in tables {
        let subject = crate::envelope::subject(&connector.name, table);
        let names = (table.schema.as_str(), table.name.as_str());
        if let Some(other) = owners.get(&subject) {
            let error = subject_collision(&subject, (&other.schema, &other.name), names);
            findings.push(Finding::from(&error));
        }
        owners.insert(subject, table);
    }
    findings
}

/// Required columns of a contract that an event may lack.
fn contract_findings(table: &Table, config: &TableConfig, contract: &Value) -> Vec<Finding> {
    let required = contract.get("required").and_then(Value::as_array).into_iter().flatten();
    let lacking = required.filter_map(Value::as_str).filter_map(|name| {
        match table.columns.iter().find(|column| column.name == name) {
            None => Some((name, "is not in the table", "or add it to the table")),
            Some(column) if !is_always_present(table, column, config) => Some((
                name,
                "may be left out of an update that does not change it",
                "or set `unchanged` to a placeholder or REPLICA IDENTITY FULL for the table",
            )),
            Some(_) => None,
        }
    });
    lacking
        .map(|(name, why, or)| {
            let table = format!("{}.{}", table.schema, table.name);
            let message =
                format!("the contract of {table} requires the column {name}, which {why}");
            Finding::new(Severity::Error, Code("RT1026"), message)
                .at(format!("table {table}"))
                .with_remedy(format!("take {name} out of the contract's `required`, {or}"))
        })
        .collect()
}
