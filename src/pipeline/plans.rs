//! Makes plans: version, topic, tombstones and schemas of each table version, once.

use std::sync::Arc;
use std::time::Duration;

use rowtide_sdk::{Class, Error, Sink, SourceInfo, Table, TopicSpec};
use tokio::time::sleep;

use super::backoff::Backoff;
use super::hidden::check_names;
use super::schema_files::SchemaFiles;
use super::topics::Topics;
use crate::config::{ConnectorConfig, OnViolation};
use crate::envelope::{Plan, PlanContext, TableRoute};
use crate::schema::{Assigned, Compatibility, Projection, Versions};

/// The least time between two attempts to write a schema.
const SCHEMA_RETRY: Duration = Duration::from_millis(250);

/// What a record needs beside its value: key, headers and the broker's own framing.
pub(crate) const RECORD_OVERHEAD: usize = 64 * 1024;

/// What is asked of a topic whose records may be as large as `max_event` allows.
pub(crate) fn topic_spec(topic: &Arc<str>, max_event: usize) -> TopicSpec {
    TopicSpec {
        name: Arc::clone(topic),
        max_record_bytes: max_event.saturating_add(RECORD_OVERHEAD),
        keyless: None,
        keeps_newest: false,
    }
}

/// What the topic of messages holds.
pub(crate) const MESSAGES: &str = "the messages of applications";

/// What is asked of the topic of messages. Their key is the prefix, which many share: a topic that
/// keeps the newest record of a key would lose the others.
pub(crate) fn message_spec(topic: &Arc<str>, max_event: usize) -> TopicSpec {
    TopicSpec { keyless: Some("a logical message".into()), ..topic_spec(topic, max_event) }
}

/// What is asked of the topic of the dead letters, which have no key.
pub(crate) fn dead_letter_spec(topic: &Arc<str>, max_event: usize) -> TopicSpec {
    TopicSpec { keyless: Some("a dead letter".into()), ..topic_spec(topic, max_event) }
}

/// What the topic of the schema changes holds.
pub(crate) const SCHEMA_CHANGES: &str = "the schema changes";

/// What is asked of the topic of the schema changes: it is read from its start.
pub(crate) fn schema_topic_spec(topic: &Arc<str>, max_event: usize) -> TopicSpec {
    TopicSpec { keeps_newest: true, ..topic_spec(topic, max_event) }
}

/// The table's name where its events have no key.
pub(crate) fn keyless(table: &Table, projection: &Projection) -> Option<Arc<str>> {
    projection.key.is_empty().then(|| format!("{}.{}", table.schema, table.name).into())
}

/// Makes the plans of one pipeline.
#[derive(Debug)]
pub(crate) struct Planner {
    connector: ConnectorConfig,
    info: SourceInfo,
    max_event: usize,
    topics: Topics,
    pub(crate) versions: Versions,
    files: Option<SchemaFiles>,
    has_dead_letters: bool,
    /// The topic of messages, where the source hands some over; and whether it is ready.
    messages: Option<(Arc<str>, bool)>,
    /// The topic of the schema changes, where they are told; and whether it is ready.
    schema_changes: Option<(Arc<str>, bool)>,
}

impl Planner {
    /// Starts from the saved schema versions.
    ///
    /// # Errors
    /// Fatal where the topic of messages cannot be.
    pub(crate) fn new(
        connector: &ConnectorConfig,
        info: SourceInfo,
        max_event: usize,
        versions: Versions,
    ) -> Result<Self, Error> {
        let mut topics = Topics::new(&connector.name, &connector.routing.topic_template);
        let messages = match connector.source.factory.message_topic() {
            Some(template) => Some((topics.reserve(&template, MESSAGES)?, false)),
            None => None,
        };
        let schema_changes = match &connector.schema_changes.topic {
            Some(topic) => Some((topics.reserve(topic, SCHEMA_CHANGES)?, false)),
            None => None,
        };
        Ok(Self {
            topics,
            files: connector.schema_changes.dir.as_deref().map(SchemaFiles::new),
            connector: connector.clone(),
            info,
            max_event,
            versions,
            has_dead_letters: false,
            messages,
            schema_changes,
        })
    }

    /// The topic of messages, where the source hands some over.
    pub(crate) fn messages(&self) -> Option<Arc<str>> {
        self.messages.as_ref().map(|(topic, _)| Arc::clone(topic))
    }

    /// Makes the topics ready that are no table's; the first time only.
    ///
    /// # Errors
    /// What the sink gives.
    pub(crate) async fn prepare(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let Some((topic, is_ready)) = self.messages.as_mut().filter(|(_, ready)| !ready) else {
            return Ok(());
        };
        let spec = message_spec(topic, self.max_event);
        spec.check(sink.prepare(&spec).await?)?;
        *is_ready = true;
        Ok(())
    }

    /// The topic of the dead letters.
    pub(crate) fn dead_letters(&self) -> Arc<str> {
        self.topics.dead_letters()
    }

    /// Makes a table version's plan, and its topics ready.
    ///
    /// # Errors
    /// What settings that do not fit the table, or the sink, give.
    pub(crate) async fn plan(
        &mut self,
        table: &Arc<Table>,
        sink: &mut dyn Sink,
    ) -> Result<Plan, Error> {
        let config = self.connector.table(&table.schema, &table.name).clone();
        let names_exactly = self.connector.names_exactly(&table.schema, &table.name);
        check_names(&self.connector, &self.versions, table)?;
        let projection = Plan::projection(table, &config, names_exactly)?;
        let topic = self.topics.topic(table)?;
        let mut spec = topic_spec(&topic, self.max_event);
        spec.keyless = keyless(table, &projection);
        let info = sink.prepare(&spec).await?;
        spec.check(info)?;
        if config.on_violation == OnViolation::DeadLetter && !self.has_dead_letters {
            let spec = dead_letter_spec(&self.dead_letters(), self.max_event);
            spec.check(sink.prepare(&spec).await?)?;
            self.has_dead_letters = true;
        }
        let subject = crate::envelope::subject(&self.connector.name, table);
        let schema_changes = self.schema_changes.as_ref().map(|(topic, _)| Arc::clone(topic));
        let assigned =
            self.versions.assign(&subject, table, &projection, schema_changes.as_deref())?;
        log_version(&subject, &assigned);
        if assigned.change.is_some()
            && let Some((topic, is_ready)) =
                self.schema_changes.as_mut().filter(|(_, ready)| !ready)
        {
            sink.prepare(&schema_topic_spec(topic, self.max_event)).await?;
            *is_ready = true;
        }
        if let Some(files) = &self.files {
            keep_schema(files, &subject, &assigned, sink).await?;
        }
        if projection.key.is_empty() {
            tracing::warn!(
                code = "RT2218",
                subject,
                "the table has no key: its events carry none, and a topic of several partitions keeps no order among them"
            );
        }
        let cx = PlanContext {
            name: &self.connector.name,
            info: self.info,
            config: &config,
            routing: &self.connector.routing,
        };
        let route = TableRoute { topic, info, schema_changes };
        Plan::new(&cx, Arc::clone(table), &projection, &assigned, route)
    }
}

/// Sees to it that the folder of the schemas has a version. A full disk is waited for here: a run that
/// began anew would publish everything since the saved position once more.
async fn keep_schema(
    files: &SchemaFiles,
    subject: &str,
    assigned: &Assigned,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    let mut is_waiting = false;
    loop {
        match files.keep(subject, assigned.version, &assigned.schema).await {
            Ok(()) => break,
            Err(error) if error.class() != Class::Transient => return Err(error),
            Err(error) if !is_waiting => {
                is_waiting = true;
                tracing::warn!(
                    code = %error.code(), error = %error,
                    "the schema of a new version cannot be written; nothing more is sent until it can"
                );
                // What was sent before need not wait.
                sink.flush().await?;
            }
            Err(_same) => {}
        }
        sleep(backoff.next_delay().max(SCHEMA_RETRY)).await;
    }
    if is_waiting {
        tracing::info!(subject, "the schema is written; going on");
    }
    Ok(())
}

/// Logs a version that is new.
fn log_version(subject: &str, assigned: &Assigned) {
    let Some(change) = assigned.change.as_ref().filter(|_| assigned.is_new) else { return };
    let version = assigned.version;
    let reasons: Vec<String> =
        change.reasons.iter().map(|reason| reason.what.to_string()).collect();
    let reasons = reasons.join(", ");
    if change.compatibility == Compatibility::Breaking {
        tracing::warn!(subject, %version, reasons, "new schema version that may break consumers");
    } else {
        let compatibility = change.compatibility.name();
        tracing::info!(subject, %version, compatibility, reasons, "new schema version");
    }
}
