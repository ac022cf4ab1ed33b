//! `rowtide check`: the configuration was valid; now every connector's source and sink is looked at.

use std::fmt::Write as _;

use rowtide_sdk::{Checkpoint, Finding, KEYLESS_COMPACTED, Preflight, Severity};

use super::output::Out;
use super::{Exit, fit, runtime};
use crate::config::{BuildContext, Config, ConnectorConfig};
use crate::offsets;
use crate::pipeline::{ClaimRegistry, ConnectorClaims, SchemaFiles};
use crate::schema::HostState;

/// Prints every finding of every connector, errors first.
pub(super) fn check(config: &Config) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut out = Out::new();
    let mut exit = Exit::Ok;
    let claims = ClaimRegistry::default();
    for connector in &config.connectors {
        let found = runtime.block_on(look(config, connector, &claims));
        let (text, failed) = report(connector, found);
        let printed = out.text(&text);
        exit = [exit, failed, printed].into_iter().find(|e| *e != Exit::Ok).unwrap_or(Exit::Ok);
    }
    runtime.shutdown_background();
    exit
}

/// What was found about one connector.
struct Found {
    state: Vec<Finding>,
    source: Vec<Finding>,
    tables: Vec<Finding>,
    sink: Vec<Finding>,
}

async fn look(config: &Config, connector: &ConnectorConfig, claims: &ClaimRegistry) -> Found {
    let (saved, state) = saved(config, connector);
    let (folder, name) = (config.state_dir.clone(), connector.name.clone());
    let claims = ConnectorClaims::new(claims.clone(), folder, name, Vec::new());
    let cx = BuildContext {
        connector: &connector.name,
        memory: config.memory,
        max_event: config.max_event,
    };
    let keys = |schema: &str, table: &str| connector.table(schema, table).key.clone();
    let resume = saved.as_ref().map(|checkpoint| &checkpoint.position);
    let known = Preflight { keys: &keys, resume, claims: &claims };
    let (source, tables) = tokio::join!(
        connector.source.factory.check(&cx, known),
        connector.source.factory.tables(&cx),
    );
    // Where the tables cannot be read, the source's own findings say why.
    let (mut findings, topics) = match &tables {
        Ok(tables) => fit::check(connector, tables, config.max_event),
        Err(_) => (Vec::new(), Vec::new()),
    };
    let sink = connector.sink.factory.check(&cx, &topics).await;
    // The sink sees it, but the table's settings (or the topic's) mend it.
    let (keyless, sink) = sink.into_iter().partition(|found| found.code == KEYLESS_COMPACTED);
    findings.extend::<Vec<Finding>>(keyless);
    if let Some(dir) = &connector.schema_changes.dir {
        findings.extend(SchemaFiles::new(dir).check().err().as_ref().map(Finding::from));
    }
    Found { state, source, tables: findings, sink }
}

/// The checkpoint that a run would start from, and what is wrong with it or where it is kept.
fn saved(config: &Config, connector: &ConnectorConfig) -> (Option<Checkpoint>, Vec<Finding>) {
    let (saved, mut findings) = if connector.sink.factory.keeps_position() {
        // Where it cannot be read, the sink's own check says so.
        (connector.sink.factory.saved().unwrap_or_default(), Vec::new())
    } else {
        offsets::check(&config.state_dir, &connector.name)
    };
    let host = saved.as_ref().map(|checkpoint| HostState::parse(&checkpoint.host));
    findings.extend(host.and_then(Result::err).as_ref().map(Finding::from));
    (saved, findings)
}

/// The text for one connector and how the process should end for it.
fn report(connector: &ConnectorConfig, found: Found) -> (String, Exit) {
    let mut text = String::new();
    let mut exit = Exit::Ok;
    let sides = [
        ("state", "saved position", found.state, Exit::Host),
        ("source", connector.source.kind, found.source, Exit::Source),
        ("tables", "settings and topics", found.tables, Exit::Config),
        ("sink", connector.sink.kind, found.sink, Exit::Sink),
    ];
    let has_state = !connector.sink.factory.keeps_position();
    for (side, kind, mut findings, failure) in sides {
        if side == "state" && !has_state && findings.is_empty() {
            continue;
        }
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
