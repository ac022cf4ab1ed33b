//! Whether a session asks for values in the server's binary form.
//!
//! It is one option for all tables and types of a session, so every published column must have a form
//! that [`crate::decode`] can put into text. Where a table comes later that has none, or the server
//! cannot make one, the session ends (RT2222) and the next one has values sent as text.

use rowtide_sdk::Result;
use tokio_postgres::Client;

use crate::catalog::{TypeCatalog, query_facts};
use crate::config::BinaryValues;
use crate::decode;
use crate::publication::sent_tables;
use crate::source::PostgresSource;
use crate::sql::{json_rows, literal};

/// `bytea` and its array.
const BYTES: [u32; 2] = [17, 1001];

/// Whether the source's values are to be sent in binary.
///
/// # Errors
/// Where the catalog cannot be asked.
pub(crate) async fn is_wanted(
    source: &PostgresSource,
    client: &Client,
    major: u32,
) -> Result<bool> {
    if source.config.binary == BinaryValues::Off || source.memory.is_text_only() {
        return Ok(false);
    }
    let used = used_types(client, &source.config.publication, major).await?;
    // Bytes are twice as long in text, which costs the server half as much again. Of other types it
    // saves up to a sixth, and we spend as much or more.
    if source.config.binary == BinaryValues::Auto && !used.iter().any(|oid| BYTES.contains(oid)) {
        return Ok(false);
    }
    let of_users = used.iter().filter(|oid| !decode::is_builtin(**oid));
    let of_users: Vec<(u32, i32)> = of_users.map(|oid| (*oid, -1)).collect();
    let facts = match of_users.is_empty() {
        true => Vec::new(),
        false => query_facts(client, 0, &of_users).await?.types,
    };
    let catalog = TypeCatalog::new(facts, []);
    Ok(used.iter().all(|oid| catalog.resolve(*oid, -1).has_binary()))
}

/// The types of all published columns.
async fn used_types(client: &Client, publication: &str, major: u32) -> Result<Vec<u32>> {
    let statement = format!(
        "SELECT DISTINCT to_jsonb(a.atttypid::int8) FROM pg_publication p \
         CROSS JOIN LATERAL {} t \
         JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE p.pubname = {}",
        sent_tables(major),
        literal(publication)
    );
    let mut sql = client;
    json_rows(&mut sql, &statement, "reading the types of published columns").await
}
