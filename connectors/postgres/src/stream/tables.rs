//! Tables made of Relation messages and frozen catalog facts.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{KnownTable, Result, Table};

use crate::config::ConnectOptions;
use crate::relation::{RelationMessage, TableFacts, build_table, load_facts, needs_catalog};
use crate::wire::{SqlClient, sql_client};

/// Makes tables. Opens an SQL connection of its own when the catalog must be asked.
pub(crate) struct Tables {
    options: ConnectOptions,
    client: Option<SqlClient>,
    /// By schema and name: the facts in force.
    facts: HashMap<(String, String), TableFacts>,
}

impl Tables {
    /// Starts with the facts that were saved with the position.
    pub(crate) fn new(options: ConnectOptions, known: &[KnownTable]) -> Self {
        let facts = known
            .iter()
            .filter_map(|table| {
                let Some(facts) = TableFacts::from_json(&table.facts) else {
                    tracing::warn!(
                        schema = table.schema,
                        table = table.name,
                        "the table's saved facts cannot be read; the catalog is asked again"
                    );
                    return None;
                };
                Some(((table.schema.clone(), table.name.clone()), facts))
            })
            .collect();
        Self { options, client: None, facts }
    }

    /// The table that a message describes, with the facts frozen at its first sight.
    ///
    /// # Errors
    /// Where the catalog cannot be asked.
    pub(crate) async fn table(&mut self, message: &RelationMessage) -> Result<Arc<Table>> {
        let key = (message.schema.clone(), message.name.clone());
        let is_frozen = self.facts.get(&key).is_some_and(|facts| facts.describes(message));
        if !is_frozen {
            let facts = self.load(message).await?;
            self.facts.insert(key.clone(), facts);
        }
        let fresh = || TableFacts::from_relation(message);
        let facts = self.facts.entry(key).or_insert_with(fresh);
        Ok(Arc::new(build_table(&self.options.database, message, facts)))
    }

    async fn load(&mut self, message: &RelationMessage) -> Result<TableFacts> {
        if !needs_catalog(message) {
            return Ok(TableFacts::from_relation(message));
        }
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => sql_client(&self.options).await?,
        };
        let facts = load_facts(&client, message).await?;
        // One more table usually follows; at most one idle connection stays open.
        self.client = Some(client);
        Ok(facts)
    }
}
