//! Makes plans: version, topic, tombstones and schemas of each table version, once.

use std::sync::Arc;

use rowtide_sdk::{Code, Error, Origin, Sink, SourceInfo, Table, TopicSpec};

use super::topics::Topics;
use crate::config::{ConnectorConfig, OnViolation};
use crate::envelope::{Plan, PlanContext, TableRoute};
use crate::schema::Versions;

/// What a record needs beside its value: key, headers and the broker's own framing.
pub(crate) const RECORD_OVERHEAD: usize = 64 * 1024;

/// RT5013: a table without a key would go to a compacted topic.
pub(crate) const KEYLESS_COMPACTED: Code = Code("RT5013");

fn keyless_compacted(subject: &str, topic: &str) -> Error {
    Error::fatal(
        Origin::Config,
        KEYLESS_COMPACTED,
        format!("{subject} has no key, but its topic {topic} compacts by key"),
    )
    .with_remedy("give the table a `key` in its settings, or the topic cleanup.policy=delete")
}

/// Makes the plans of one pipeline.
#[derive(Debug)]
pub(crate) struct Planner {
    connector: ConnectorConfig,
    info: SourceInfo,
    max_event: usize,
    topics: Topics,
    pub(crate) versions: Versions,
    has_dead_letters: bool,
}

impl Planner {
    pub(crate) fn new(
        connector: &ConnectorConfig,
        info: SourceInfo,
        max_event: usize,
        versions: Versions,
    ) -> Self {
        Self {
            topics: Topics::new(&connector.name, &connector.routing.topic_template),
            connector: connector.clone(),
            info,
            max_event,
            versions,
            has_dead_letters: false,
        }
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
        let projection = Plan::projection(table, &config, names_exactly)?;
        let topic = self.topics.topic(table)?;
        let info = sink.prepare(&self.spec(&topic)).await?;
        if config.on_violation == OnViolation::DeadLetter && !self.has_dead_letters {
            sink.prepare(&self.spec(&self.dead_letters())).await?;
            self.has_dead_letters = true;
        }
        let subject = crate::envelope::subject(&self.connector.name, table);
        let (version, is_new) = self.versions.assign(&subject, table, &projection)?;
        if is_new {
            tracing::info!(subject, version = %version, columns = table.columns.len(), "new schema version");
        }
        if projection.key.is_empty() {
            if info.compacts {
                return Err(keyless_compacted(&subject, &topic));
            }
            tracing::warn!(
                subject,
                "the table has no key: its events carry none, and their order is kept per partition only by chance"
            );
        }
        let cx = PlanContext {
            name: &self.connector.name,
            info: self.info,
            config: &config,
            routing: &self.connector.routing,
        };
        Plan::new(&cx, Arc::clone(table), &projection, version, TableRoute { topic, info })
    }

    fn spec(&self, topic: &Arc<str>) -> TopicSpec {
        TopicSpec {
            name: Arc::clone(topic),
            max_record_bytes: self.max_event.saturating_add(RECORD_OVERHEAD),
        }
    }
}
