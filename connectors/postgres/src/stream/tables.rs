//! Tables made of Relation messages and frozen catalog facts.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{Finding, KnownTable, Result};

use crate::config::ConnectOptions;
use crate::error::good_before;
use crate::family::Family;
use crate::relation::{
    Described, RelationMessage, TableFacts, build_table, decodings, load_facts, needs_catalog,
};
use crate::wire::{SqlClient, sql_client};

/// Makes tables. Opens an SQL connection of its own when the catalog must be asked.
pub(crate) struct Tables {
    options: ConnectOptions,
    client: Option<SqlClient>,
    /// By schema and name: the facts in force.
    facts: HashMap<(String, String), TableFacts>,
    /// What was made in this session, by oid.
    made: HashMap<u32, Made>,
    /// Whether values come in binary.
    is_binary: bool,
    /// Looks after hidden columns, where settings hide any.
    family: Option<Family>,
}

/// A table made of a message and facts.
struct Made {
    message: RelationMessage,
    facts: TableFacts,
    described: Described,
}

impl Tables {
    /// Starts with the facts that were saved with the position.
    pub(crate) fn new(
        options: ConnectOptions,
        known: &[KnownTable],
        is_binary: bool,
        family: Option<Family>,
    ) -> Self {
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
        Self { options, client: None, facts, made: HashMap::new(), is_binary, family }
    }

    /// The table that a message describes. At its first sight in a session frozen facts are used
    /// where they describe it, so that a replay sees what was seen before. A description that is
    /// sent again within a session follows a change, perhaps one that it does not show itself (the
    /// primary key under FULL, an attribute of a composite): then the catalog is asked again.
    ///
    /// # Errors
    /// Where the catalog cannot be asked.
    pub(crate) async fn table(&mut self, message: &RelationMessage) -> Result<Described> {
        let exposed = self.exposed(message).await?;
        let described = self.described(message).await?;
        Ok(Described { exposed, ..described })
    }

    /// Whether the table would show what settings hide. The server describes a table again where the
    /// rows of another partition come under its name, and a partition also where they come under the
    /// name of the table above it.
    async fn exposed(&mut self, message: &RelationMessage) -> Result<Option<Arc<Finding>>> {
        if self.family.is_none() {
            return Ok(None);
        }
        let client = self.connected().await?;
        let found = match &self.family {
            Some(family) => family.exposed(&mut &*client, message).await?,
            None => None,
        };
        self.client = Some(client);
        Ok(found.map(Arc::new))
    }

    async fn described(&mut self, message: &RelationMessage) -> Result<Described> {
        let key = (message.schema.clone(), message.name.clone());
        let is_first = !self.made.contains_key(&message.oid);
        let is_frozen = self.facts.get(&key).is_some_and(|facts| facts.describes(message));
        if !is_frozen || (!is_first && needs_catalog(message)) {
            let mut facts = self.load(message).await?;
            if let Some(earlier) = self.earlier(&key, message) {
                facts.fill(message, earlier);
            }
            // The catalog may have moved on so far that it does not know the table any more.
            if !is_frozen || facts.primary_key().is_some() {
                self.facts.insert(key.clone(), facts);
            }
        }
        let fresh = || TableFacts::from_relation(message);
        let facts = self.facts.entry(key).or_insert_with(fresh);
        if let Some(made) = self.made.get(&message.oid)
            && made.message == *message
            && made.facts == *facts
        {
            return Ok(made.described.clone());
        }
        let table = Arc::new(build_table(&self.options.database, message, facts));
        let mut described = Described::from(table);
        if self.is_binary {
            let decodings = decodings(message, facts);
            described.binary = decodings.into_iter().map(|decoding| decoding.binary).collect();
        }
        let (message, facts) = (message.clone(), facts.clone());
        let made = Made { message, facts, described: described.clone() };
        self.made.insert(made.message.oid, made);
        Ok(described)
    }

    /// What was known of the table before, by its name or an earlier one.
    fn earlier(&self, key: &(String, String), message: &RelationMessage) -> Option<&TableFacts> {
        let of_table = |facts: &&TableFacts| facts.is_of(message);
        let renamed = || {
            let same = self.facts.iter().filter(|(_, facts)| facts.is_of(message));
            same.min_by_key(|(name, _)| *name).map(|(_, facts)| facts)
        };
        self.facts.get(key).filter(of_table).or_else(renamed)
    }

    async fn connected(&mut self) -> Result<SqlClient> {
        match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => Ok(client),
            // The stream's own login was good.
            None => sql_client(&self.options).await.map_err(good_before),
        }
    }

    async fn load(&mut self, message: &RelationMessage) -> Result<TableFacts> {
        if !needs_catalog(message) {
            return Ok(TableFacts::from_relation(message));
        }
        let client = self.connected().await?;
        let facts = load_facts(&client, message).await?;
        // One more table usually follows; at most one idle connection stays open.
        self.client = Some(client);
        Ok(facts)
    }
}
