//! `rowtide check`: the configuration was valid; now every connector's source and sink is looked at.

use std::fmt::Write as _;

use rowtide_sdk::{Finding, Severity};

use super::output::Out;
use super::{Exit, fit, runtime};
use crate::config::{BuildContext, Config, ConnectorConfig};

/// Prints every finding of every connector, errors first.
pub(super) fn check(config: &Config) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut out = Out::new();
    let mut exit = Exit::Ok;
    for connector in &config.connectors {
        let found = runtime.block_on(look(config, connector));
        let (text, failed) = report(connector, found);
        let printed = out.text(&text);
        exit = [exit, failed, printed].into_iter().find(|e| *e != Exit::Ok).unwrap_or(Exit::Ok);
    }
    runtime.shutdown_background();
    exit
}

/// What was found about one connector.
struct Found {
    source: Vec<Finding>,
    tables: Vec<Finding>,
    sink: Vec<Finding>,
}

async fn look(config: &Config, connector: &ConnectorConfig) -> Found {
    let cx = BuildContext {
        connector: &connector.name,
        memory: config.memory,
        max_event: config.max_event,
    };
    let keys = |schema: &str, table: &str| connector.table(schema, table).key.clone();
    let (source, tables) = tokio::join!(
        connector.source.factory.check(&cx, &keys),
        connector.source.factory.tables(&cx),
    );
    // Where the tables cannot be read, the source's own findings say why.
    let (findings, topics) = match &tables {
        Ok(tables) => fit::check(connector, tables, config.max_event),
        Err(_) => (Vec::new(), Vec::new()),
    };
    let sink = connector.sink.factory.check(&cx, &topics).await;
    Found { source, tables: findings, sink }
}

/// The text for one connector and how the process should end for it.
fn report(connector: &ConnectorConfig, found: Found) -> (String, Exit) {
    let mut text = String::new();
    let mut exit = Exit::Ok;
    let sides = [
        ("source", connector.source.kind, found.source, Exit::Source),
        ("tables", "settings and topics", found.tables, Exit::Config),
        ("sink", connector.sink.kind, found.sink, Exit::Sink),
    ];
    for (side, kind, mut findings, failure) in sides {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
        let verdict = if failed { "cannot work" } else { "ok" };
        push_line(&mut text, &format!("{} {side} ({kind}): {verdict}", connector.name));
        for finding in &findings {
            push_finding(&mut text, finding);
        }
        if failed && exit == Exit::Ok {
            exit = failure;
        }
    }
    (text, exit)
}

fn push_finding(text: &mut String, finding: &Finding) {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    push_line(text, &format!("  {severity} {}: {}", finding.code, finding.message));
    for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
        push_line(text, &format!("      {line}"));
    }
}

fn push_line(text: &mut String, line: &str) {
    let _infallible = writeln!(text, "{line}");
}
