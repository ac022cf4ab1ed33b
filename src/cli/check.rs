//! `rowtide check`: the configuration was valid; now every connector's source and sink is looked at.

use std::fmt::Write as _;

use clap::ValueEnum;
use rowtide_sdk::{
    Checkpoint, Code, Error, Finding, KEYLESS_COMPACTED, Origin, Preflight, Provider,
    ReselectRules, Severity,
};
use serde_json::{Value, json};

use super::output::{Out, complain};
use super::{Exit, fit, listen, runtime};
use crate::config::{
    BuildContext, Config, ConnectorConfig, OnViolation, Problems, TableConfig, Unchanged,
};
use crate::offsets;
use crate::pipeline::{ClaimRegistry, ConnectorClaims, SchemaFiles, check_not_elsewhere, scratch};
use crate::schema::{HostState, KEY_NOT_LOGGED, Versions};

/// RT2302: the folder for what a source sets aside cannot be used.
const SPOOL_UNUSABLE: Code = Code("RT2302");

/// RT2218: what a source says of a key that the log lacks.
const KEY_NOT_IN_LOG: Code = Code("RT2218");

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Who runs the database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProviderArg {
    /// You, with a superuser
    #[value(name = "self")]
    SelfRun,
    /// Amazon RDS or Aurora
    Rds,
    /// Google Cloud SQL
    #[value(name = "cloudsql")]
    CloudSql,
    /// Azure Database
    Azure,
}

impl From<ProviderArg> for Provider {
    fn from(provider: ProviderArg) -> Self {
        match provider {
            ProviderArg::SelfRun => Self::SelfRun,
            ProviderArg::Rds => Self::Rds,
            ProviderArg::CloudSql => Self::CloudSql,
            ProviderArg::Azure => Self::Azure,
        }
    }
}

/// Prints every finding of every connector, errors first. Ends with an error's code only where there
/// is an error.
pub(super) fn check(config: &Config, format: Format) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut out = Out::new();
    let mut exit = Exit::Ok;
    let mut rows = Vec::new();
    let claims = ClaimRegistry::default();
    if let Some(address) = config.ops {
        let side = ops(runtime.block_on(listen::check(config, address)));
        exit = match format {
            Format::Text => out.text(&report(None, std::slice::from_ref(&side))),
            Format::Json => {
                rows.extend(side.rows(None));
                Exit::Ok
            }
        };
        exit = side.failed().unwrap_or(exit);
    }
    for connector in &config.connectors {
        let sides = sides(connector, runtime.block_on(look(config, connector, &claims)));
        let failed = sides.iter().find_map(Side::failed);
        let printed = match format {
            Format::Text => out.text(&report(Some(connector), &sides)),
            Format::Json => {
                rows.extend(sides.iter().flat_map(|side| side.rows(Some(&connector.name))));
                Exit::Ok
            }
        };
        let of_this = failed.unwrap_or(printed);
        exit = if exit == Exit::Ok { of_this } else { exit };
    }
    if format == Format::Json {
        let printed = out.text(&document(&rows, exit));
        exit = if exit == Exit::Ok { printed } else { exit };
    }
    runtime.shutdown_background();
    exit
}

/// Prints a configuration's problems as findings.
pub(super) fn misconfigured(problems: &Problems) -> Exit {
    let row = |problem: &crate::config::Problem| {
        json!({
            "connector": null,
            "side": "config",
            "level": Severity::Error.name(),
            "code": problem.code.0,
            "where": problem.path,
            "message": problem.message,
            "remedy": problem.remedy,
        })
    };
    let rows: Vec<Value> = problems.0.iter().map(row).collect();
    let printed = Out::new().text(&document(&rows, Exit::Config));
    if printed == Exit::Ok { Exit::Config } else { printed }
}

/// Prints the SQL that gives every source what it needs.
pub(super) fn print_sql(config: &Config, provider: ProviderArg) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut out = Out::new();
    let mut exit = Exit::Ok;
    for connector in &config.connectors {
        let cx = context(config, connector);
        let lookup = |schema: &str, table: &str| reselects(connector, schema, table);
        let rule = |(pattern, table): &(String, TableConfig)| {
            (pattern.clone(), table.unchanged == Unchanged::Reselect)
        };
        let rules: Vec<(String, bool)> = connector.tables.iter().map(rule).collect();
        let wanted = ReselectRules { lookup: &lookup, rules: &rules };
        let sql = connector.source.factory.setup_sql(&cx, provider.into(), wanted);
        let sql = runtime.block_on(sql);
        let this = match sql {
            Ok(sql) => out.text(&sql),
            Err(error) => {
                complain(&format!("{}: {error}", connector.name));
                Exit::of(&error)
            }
        };
        exit = if exit == Exit::Ok { this } else { exit };
    }
    runtime.shutdown_background();
    exit
}

fn reselects(connector: &ConnectorConfig, schema: &str, table: &str) -> bool {
    connector.table(schema, table).unchanged == Unchanged::Reselect
}

fn context<'a>(config: &Config, connector: &'a ConnectorConfig) -> BuildContext<'a> {
    BuildContext { connector: &connector.name, memory: config.memory, max_event: config.max_event }
}

/// What was found about one connector.
struct Found {
    state: Vec<Finding>,
    source: Vec<Finding>,
    tables: Vec<Finding>,
    sink: Vec<Finding>,
}

async fn look(config: &Config, connector: &ConnectorConfig, claims: &ClaimRegistry) -> Found {
    let Saved { checkpoint: saved, host, is_none: is_first_start, findings: mut state } =
        saved(config, connector);
    let (folder, name) = (config.state_dir.clone(), connector.name.clone());
    let claims = ConnectorClaims::new(claims.clone(), folder, name, Vec::new());
    let cx = context(config, connector);
    let keys = |schema: &str, table: &str| connector.table(schema, table).key.clone();
    let resume = saved.as_ref().map(|checkpoint| &checkpoint.position);
    let reselects = |schema: &str, table: &str| reselects(connector, schema, table);
    let excludes = |schema: &str, table: &str, column: &str| {
        connector.table(schema, table).exclude.iter().any(|excluded| excluded == column)
    };
    let sets_aside = |schema: &str, table: &str| {
        connector.table(schema, table).on_violation == OnViolation::DeadLetter
    };
    let hiding = connector.hiding();
    let scratch = scratch(&config.state_dir, &connector.name);
    let has_no_folder = state.iter().any(|found| found.code == offsets::STATE_IO);
    let sightings = host.as_ref().map(Versions::sightings).unwrap_or_default();
    let known = Preflight {
        keys: &keys,
        sets_aside: &sets_aside,
        reselects: &reselects,
        excludes: &excludes,
        hiding: hiding.as_ref(),
        sightings: &sightings,
        resume,
        is_first_start,
        claims: &claims,
        name: &connector.name,
        scratch: (!has_no_folder).then_some(&*scratch),
    };
    let (mut source, tables) = tokio::join!(
        connector.source.factory.check(&cx, known),
        connector.source.factory.tables(&cx),
    );
    // The source sees it, but it is the host's: with its exit code, and where the state folder cannot be
    // used, once.
    state.extend(source.extract_if(.., |found| found.code == SPOOL_UNUSABLE));
    source.retain(|found| !(has_no_folder && found.code == offsets::STATE_IO));
    // Where the tables cannot be read, the source's own findings say why.
    let (mut findings, topics) = match &tables {
        Ok(tables) => fit::check(connector, tables, host.as_ref(), config.max_event),
        Err(_) => (Vec::new(), Vec::new()),
    };
    // A key that the log lacks is told once, by the code with which a run refuses it.
    let is_told = |place: &Option<String>| {
        findings.iter().any(|found| found.code == KEY_NOT_LOGGED && found.place == *place)
    };
    source.retain(|found| {
        let is_refused = found.code == KEY_NOT_IN_LOG && found.severity == Severity::Error;
        !(is_refused && is_told(&found.place))
    });
    let sink = connector.sink.factory.check(&cx, &topics).await;
    // The sink sees it, but the table's settings (or the topic's) mend it.
    let (keyless, sink) = sink.into_iter().partition(|found| found.code == KEYLESS_COMPACTED);
    findings.extend::<Vec<Finding>>(keyless);
    if let Some(dir) = &connector.schema_changes.dir {
        findings.extend(SchemaFiles::new(dir).check().err().as_ref().map(Finding::from));
    }
    Found { state, source, tables: findings, sink }
}

/// What is saved of a connector.
struct Saved {
    /// The checkpoint that a run would start from.
    checkpoint: Option<Checkpoint>,
    /// What the host saved in it.
    host: Option<Versions>,
    /// Whether it is known that there is none, rather than one that cannot be read.
    is_none: bool,
    /// What is wrong with it or where it is kept.
    findings: Vec<Finding>,
}

fn saved(config: &Config, connector: &ConnectorConfig) -> Saved {
    let (read, mut findings) = if connector.sink.factory.keeps_position() {
        // A run looks into the folder all the same: others may have claimed what this one wants.
        let others = offsets::others_claiming(&config.state_dir, &connector.name, "");
        let unusable = others.err().filter(|error| error.code() == offsets::STATE_IO);
        // Where the position cannot be read, the sink's own check says so.
        (connector.sink.factory.saved().ok(), unusable.iter().map(Finding::from).collect())
    } else {
        let (saved, findings) = offsets::check(&config.state_dir, &connector.name);
        let is_read = findings.iter().all(|finding| finding.severity != Severity::Error);
        ((saved.is_some() || is_read).then_some(saved), findings)
    };
    let is_none = matches!(read, Some(None));
    if is_none {
        let elsewhere = check_not_elsewhere(config, connector).err();
        let is_new = |error: &Error| findings.iter().all(|found| found.code != error.code());
        findings.extend(elsewhere.filter(is_new).map(|error| Finding::from(&error)));
    }
    let checkpoint = read.flatten();
    let parse =
        |checkpoint: &Checkpoint| HostState::parse(&checkpoint.host).and_then(Versions::new);
    let host = match checkpoint.as_ref().map(parse).transpose() {
        Ok(host) => host,
        Err(error) => {
            findings.push(Finding::from(&error));
            None
        }
    };
    Saved { checkpoint, host, is_none, findings }
}

/// One side of a connector, or of the whole process, and what was found there, errors first.
struct Side {
    name: &'static str,
    /// What it is: the kind of source or sink.
    kind: &'static str,
    findings: Vec<Finding>,
    /// How the process ends where there is an error, but for one of the configuration.
    exit: Exit,
}

fn sides(connector: &ConnectorConfig, found: Found) -> Vec<Side> {
    let has_state = !connector.sink.factory.keeps_position();
    let sides = [
        ("state", "saved position", found.state, Exit::Host),
        ("source", connector.source.kind, found.source, Exit::Source),
        ("tables", "settings and topics", found.tables, Exit::Config),
        ("sink", connector.sink.kind, found.sink, Exit::Sink),
    ];
    sides
        .into_iter()
        .filter(|(name, _, findings, _)| *name != "state" || has_state || !findings.is_empty())
        .map(|(name, kind, mut findings, exit)| {
            findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
            Side { name, kind, findings, exit }
        })
        .collect()
}

/// Where metrics and status would be served.
fn ops(found: Option<Finding>) -> Side {
    let findings = found.into_iter().collect();
    Side { name: "ops", kind: "metrics and status", findings, exit: Exit::Config }
}

impl Side {
    /// How the process ends, where there is an error: as a run would that meets the first.
    fn failed(&self) -> Option<Exit> {
        let is_error = |finding: &&Finding| finding.severity == Severity::Error;
        let first = self.findings.iter().find(is_error)?;
        Some(if first.origin == Some(Origin::Config) { Exit::Config } else { self.exit })
    }

    fn rows(&self, connector: Option<&str>) -> impl Iterator<Item = Value> {
        self.findings.iter().map(move |finding| {
            json!({
                "connector": connector,
                "side": self.name,
                "level": finding.severity.name(),
                "code": finding.code.0,
                "where": finding.place.as_deref().unwrap_or(self.kind),
                "message": finding.message,
                "remedy": finding.remedy,
            })
        })
    }
}

/// All findings as one JSON document.
fn document(rows: &[Value], exit: Exit) -> String {
    let is = |row: &&Value, level: Severity| {
        row.get("level").and_then(Value::as_str) == Some(level.name())
    };
    let count = |level: Severity| rows.iter().filter(|row| is(row, level)).count();
    let document = json!({
        "exit": exit.number(),
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "infos": count(Severity::Info),
        "findings": rows,
    });
    format!("{document:#}\n")
}

/// The text for one connector, or for what is the whole process's.
fn report(connector: Option<&ConnectorConfig>, sides: &[Side]) -> String {
    let mut text = String::new();
    let of = connector.map(|connector| format!("{} ", connector.name)).unwrap_or_default();
    for side in sides {
        let verdict = if side.failed().is_some() { "cannot work" } else { "ok" };
        push_line(&mut text, &format!("{of}{} ({}): {verdict}", side.name, side.kind));
        for finding in &side.findings {
            push_finding(&mut text, finding);
        }
    }
    text
}

fn push_finding(text: &mut String, finding: &Finding) {
    let place = finding.place.iter().map(|place| format!(" ({place})")).collect::<String>();
    let severity = finding.severity.name();
    push_line(text, &format!("  {severity} {}{place}: {}", finding.code, finding.message));
    for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
        push_line(text, &format!("      {line}"));
    }
}

fn push_line(text: &mut String, line: &str) {
    let _infallible = writeln!(text, "{line}");
}
