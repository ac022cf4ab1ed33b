//! The one place that names every connector: kinds of sources and sinks, and how each is built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rowtide_basic::discard::{self, DiscardConfig, DiscardSink};
use rowtide_basic::jsonl::{self, JsonlConfig, JsonlSink};
use rowtide_basic::stdout::{self, StdoutConfig, StdoutSink};
use rowtide_kafka::{KafkaConfig, KafkaLimits, KafkaSink};
use rowtide_mysql::{MysqlConfig, MysqlSource};
use rowtide_postgres::{Lsn, PostgresConfig, PostgresSource, SlotInfo};
use rowtide_sdk::{
    BoxFuture, Checkpoint, Code, Error, Finding, Origin, Position, Preflight, Provider,
    ReselectRules, Result, Secret, Sink, Source, Table, TopicSpec,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{
    BuildContext, Kinds, Proposal, ServerSlot, SettingProblem, SinkFactory, SinkKind,
    SourceFactory, SourceKind, Wanted,
};

/// Every kind of source and sink of this build.
pub static KINDS: Kinds = Kinds {
    sources: &[
        SourceKind {
            name: "postgres",
            schema: PostgresConfig::json_schema,
            parse: |settings, folder| postgres(settings, folder),
        },
        SourceKind {
            name: "mysql",
            schema: MysqlConfig::json_schema,
            parse: |settings, folder| mysql(settings, folder),
        },
    ],
    sinks: &[
        SinkKind {
            name: "kafka",
            schema: KafkaConfig::json_schema,
            parse: |settings, folder| kafka(settings, folder),
        },
        SinkKind {
            name: "jsonl",
            schema: JsonlConfig::json_schema,
            parse: |settings, _| Ok(Arc::new(Jsonl(read(settings)?))),
        },
        SinkKind {
            name: "stdout",
            schema: StdoutConfig::json_schema,
            parse: |settings, _| Ok(Arc::new(Stdout(read(settings)?))),
        },
        SinkKind {
            name: "discard",
            schema: DiscardConfig::json_schema,
            parse: |settings, _| Ok(Arc::new(Discard(read(settings)?))),
        },
    ],
};

fn read<T: DeserializeOwned>(settings: Value) -> Result<T, Vec<SettingProblem>> {
    serde_json::from_value(settings).map_err(|error| vec![setting("", error.to_string())])
}

fn setting(field: &str, message: String) -> SettingProblem {
    SettingProblem { code: None, field: field.to_owned(), message, remedy: None }
}

fn as_problem(finding: Finding) -> SettingProblem {
    SettingProblem {
        code: Some(finding.code),
        field: String::new(),
        message: finding.message,
        remedy: finding.remedy,
    }
}

#[derive(Debug)]
struct Postgres(PostgresSource);

fn postgres(settings: Value, folder: &Path) -> Result<Arc<dyn SourceFactory>, Vec<SettingProblem>> {
    let config: PostgresConfig = read(settings)?;
    let problems = config.problems(folder);
    if !problems.is_empty() {
        return Err(problems.into_iter().map(as_problem).collect());
    }
    match PostgresSource::new(config, folder) {
        Ok(source) => Ok(Arc::new(Postgres(source))),
        Err(error) => Err(vec![as_problem(Finding::from(&error))]),
    }
}

impl SourceFactory for Postgres {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(self.0.clone()))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        known: Preflight<'a>,
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(rowtide_postgres::check(&self.0, known))
    }

    fn tables<'a>(&'a self, _cx: &'a BuildContext<'a>) -> BoxFuture<'a, Result<Vec<Arc<Table>>>> {
        Box::pin(rowtide_postgres::tables(&self.0))
    }

    fn message_topic(&self) -> Option<String> {
        self.0.message_topic().map(str::to_owned)
    }

    fn reads_back(&self) -> bool {
        true
    }

    fn setup_sql<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        provider: Provider,
        reselects: ReselectRules<'a>,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            Ok(rowtide_postgres::setup_sql(&self.0, cx.connector, provider, reselects).await)
        })
    }

    fn resources(&self) -> Vec<String> {
        self.0.resources()
    }

    fn propose<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        wanted: &'a Wanted,
        saved: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<Proposal>> {
        Box::pin(async move {
            let position = match wanted {
                Wanted::Adopt => rowtide_postgres::position_at_slot(&self.0).await?,
                Wanted::At(text) => {
                    let lsn: Lsn = text.parse().map_err(|error| {
                        let message = format!("{text:?} is {error}");
                        Error::fatal(Origin::Config, Code("RT1025"), message)
                            .with_remedy("write it as the server does: 0/16B3748")
                    })?;
                    rowtide_postgres::position_at(&self.0, lsn).await?
                }
            };
            proposal(position, saved, rowtide_postgres::describe)
        })
    }

    fn slots<'a>(&'a self, _cx: &'a BuildContext<'a>) -> BoxFuture<'a, Result<Vec<ServerSlot>>> {
        Box::pin(async {
            Ok(rowtide_postgres::slots(&self.0).await?.into_iter().map(server_slot).collect())
        })
    }

    fn drop_slot<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        name: Option<&'a str>,
        apply: bool,
    ) -> BoxFuture<'a, Result<ServerSlot>> {
        Box::pin(
            async move { rowtide_postgres::drop_slot(&self.0, name, apply).await.map(server_slot) },
        )
    }
}

/// What saving a position means, in the source's words for positions.
fn proposal(
    position: Position,
    saved: Option<&Position>,
    describe: fn(&Position) -> Result<String>,
) -> Result<Proposal> {
    let mut consequences = Vec::new();
    if let Some(saved) = saved {
        let words = describe(saved)
            .unwrap_or_else(|_| "a position that this source did not write".to_owned());
        consequences.push(format!("until now taken as delivered: {words}"));
    }
    let words = describe(&position)?;
    consequences.push(format!("from now on taken as delivered, whether it was or not: {words}"));
    consequences.push("everything after it is delivered (again)".to_owned());
    Ok(Proposal { position, consequences })
}

fn server_slot(slot: SlotInfo) -> ServerSlot {
    let SlotInfo { name, kind, database, reader, retained, state, is_ours } = slot;
    ServerSlot { name, kind, database, reader, retained, state, is_ours }
}

#[derive(Debug)]
struct Mysql(MysqlSource);

fn mysql(settings: Value, folder: &Path) -> Result<Arc<dyn SourceFactory>, Vec<SettingProblem>> {
    let config: MysqlConfig = read(settings)?;
    let problems = config.problems(folder);
    if !problems.is_empty() {
        return Err(problems.into_iter().map(as_problem).collect());
    }
    match MysqlSource::new(config, folder) {
        Ok(source) => Ok(Arc::new(Mysql(source))),
        Err(error) => Err(vec![as_problem(Finding::from(&error))]),
    }
}

impl SourceFactory for Mysql {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(self.0.clone()))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        known: Preflight<'a>,
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(rowtide_mysql::check(&self.0, known))
    }

    fn tables<'a>(&'a self, _cx: &'a BuildContext<'a>) -> BoxFuture<'a, Result<Vec<Arc<Table>>>> {
        Box::pin(rowtide_mysql::tables(&self.0))
    }

    fn setup_sql<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        provider: Provider,
        _reselects: ReselectRules<'a>,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move { Ok(rowtide_mysql::setup_sql(&self.0, cx.connector, provider)) })
    }

    fn propose<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        wanted: &'a Wanted,
        saved: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<Proposal>> {
        Box::pin(async move {
            let (position, prepared) = match wanted {
                Wanted::Adopt => {
                    let prepared = rowtide_mysql::prepared_now(&self.0).await?;
                    (rowtide_mysql::position_at_end(&self.0).await?, prepared)
                }
                Wanted::At(text) => (rowtide_mysql::position_at(&self.0, text).await?, None),
            };
            let mut proposal = proposal(position, saved, rowtide_mysql::describe)?;
            if let Some(saved) = saved
                && let Some(why) = rowtide_mysql::another_log(&self.0, saved).await?
            {
                proposal.consequences.push(format!(
                    "this log is not the one of the saved position ({}): events of it may bear ids that were \
                     delivered for other changes; where anything drops ids that it knows, do not save this, \
                     but begin under another connector name (with jsonl another `dir` too)",
                    why.code.0
                ));
            }
            if prepared != Some(0) {
                let count = prepared.map_or_else(|| "any".to_owned(), |count| count.to_string());
                proposal.consequences.push(format!(
                    "XA transactions that were prepared before it ({count}; XA RECOVER lists them): their \
                     changes are not delivered when they commit (RT2714)"
                ));
            }
            Ok(proposal)
        })
    }

    fn resources(&self) -> Vec<String> {
        self.0.resource().into_iter().collect()
    }
}

#[derive(Debug)]
struct Kafka(KafkaConfig);

fn kafka(settings: Value, folder: &Path) -> Result<Arc<dyn SinkFactory>, Vec<SettingProblem>> {
    let mut config: KafkaConfig = read(settings)?;
    if let Some(tls) = &mut config.tls {
        for pem in [&mut tls.ca, &mut tls.certificate].into_iter().flatten() {
            *pem = in_folder(pem, folder);
        }
        if let Some(key) = &mut tls.key {
            *key = Secret::new(in_folder(key.expose(), folder));
        }
    }
    let problems = config.problems();
    if problems.is_empty() {
        return Ok(Arc::new(Kafka(config)));
    }
    Err(problems.into_iter().map(|problem| setting(&problem.path, problem.message)).collect())
}

/// A PEM setting is the text itself or a path; a relative path starts at the configuration file.
fn in_folder(pem: &str, folder: &Path) -> String {
    if pem.trim_start().starts_with("-----BEGIN") {
        return pem.to_owned();
    }
    folder.join(pem).to_string_lossy().into_owned()
}

/// The bounds that the host sets on a Kafka sink.
fn limits(cx: &BuildContext<'_>) -> KafkaLimits {
    let max_record_bytes = cx.max_event.saturating_add(crate::pipeline::RECORD_OVERHEAD);
    KafkaLimits { memory_bytes: cx.memory, max_record_bytes }
}

impl SinkFactory for Kafka {
    fn build(&self, cx: &BuildContext<'_>) -> Result<Box<dyn Sink>> {
        Ok(Box::new(KafkaSink::new(self.0.clone(), limits(cx))?))
    }

    fn check<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        topics: &'a [TopicSpec],
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(rowtide_kafka::check(&self.0, limits(cx), topics))
    }

    fn keeps_position(&self) -> bool {
        false
    }

    fn resource(&self) -> Option<String> {
        None
    }
}

#[derive(Debug)]
struct Jsonl(JsonlConfig);

impl SinkFactory for Jsonl {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Sink>> {
        Ok(Box::new(JsonlSink::new(self.0.clone())))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        _topics: &'a [TopicSpec],
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { jsonl::check(&self.0) })
    }

    fn keeps_position(&self) -> bool {
        true
    }

    fn saved(&self) -> Result<Option<Checkpoint>> {
        jsonl::stored_checkpoint(&self.0)
    }

    fn is_held(&self) -> bool {
        jsonl::is_held(&self.0)
    }

    fn resource(&self) -> Option<String> {
        // `./events/` and `events` are one folder, and two in two working folders; links are the lock's
        // matter.
        let dir = &self.0.dir;
        let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let whole: PathBuf = whole.components().collect();
        Some(format!("the folder {}", whole.display()))
    }
}

#[derive(Debug)]
struct Stdout(StdoutConfig);

impl SinkFactory for Stdout {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Sink>> {
        Ok(Box::new(StdoutSink::new(&self.0)))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        _topics: &'a [TopicSpec],
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { stdout::check(&self.0) })
    }

    fn keeps_position(&self) -> bool {
        false
    }

    fn resource(&self) -> Option<String> {
        None
    }
}

#[derive(Debug)]
struct Discard(DiscardConfig);

impl SinkFactory for Discard {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Sink>> {
        Ok(Box::new(DiscardSink::new(&self.0)))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        _topics: &'a [TopicSpec],
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { discard::check(&self.0) })
    }

    fn keeps_position(&self) -> bool {
        false
    }

    fn resource(&self) -> Option<String> {
        None
    }
}
