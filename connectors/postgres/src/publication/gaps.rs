//! Whether the publication sent the tables all the time between two looks, in one run or in two.
//!
//! What it did not send is not in the log, and no sign of that is either. But each entry of a
//! publication has an oid that no other entry has, and its own row another `xmin` whenever its options
//! were altered; vacuum leaves both as they are. So what somebody took out and put back can be told, as
//! long as what we alter ourselves is told apart.

use std::collections::BTreeSet;

use rowtide_sdk::Result;
use serde::{Deserialize, Serialize};

use super::review::{Review, set_options};
use super::{CatalogTable, Publication, log_end, tables_complete};
use crate::sql::Sql;
use crate::stream::codes;

/// Names in one message at most.
const NAMES_MAX: usize = 20;

/// How a publication stands: what a later look is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imprint {
    /// The publication's name.
    publication: String,
    /// Its oid.
    oid: u32,
    /// [`Publication::version`].
    version: String,
    /// The oids of its entries, of tables and schemas.
    entries: BTreeSet<u32>,
    /// The oids of wanted tables that it does not send.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unsent: BTreeSet<u32>,
}

impl Imprint {
    pub(super) fn of(name: &str, publication: &Publication, unsent: BTreeSet<u32>) -> Self {
        let entries = publication.named.values().chain(publication.schemas.values());
        Self {
            publication: name.to_owned(),
            oid: publication.oid,
            version: publication.version.clone(),
            entries: entries.copied().collect(),
            unsent,
        }
    }

    /// Reads what [`Imprint::to_json`] wrote; `None` where it is something else.
    pub(crate) fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The canonical JSON: the same is always the same bytes.
    pub(crate) fn to_json(&self) -> String {
        // Strings and numbers in structs cannot fail to serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A wanted table that is sent, and by which entries.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    name: String,
    oid: u32,
    /// Of the table, of those above it, and of its schema; that of the publication where it is of all
    /// tables.
    entries: Vec<u32>,
}

impl Sending {
    pub(super) fn of(publication: &Publication, table: &CatalogTable) -> Self {
        let named = std::iter::once(&table.oid).chain(&table.ancestors);
        let named = named.filter_map(|oid| publication.named.get(oid).copied());
        let by_schema = publication.schemas.get(&table.schema).copied();
        let by_all = publication.all_tables.then_some(publication.oid);
        Self {
            name: table.full_name(),
            oid: table.oid,
            entries: named.chain(by_schema).chain(by_all).collect(),
        }
    }

    /// Whether it was sent all the time since.
    fn is_whole_since(&self, before: &Imprint) -> bool {
        let is_known = |entry: &u32| before.entries.contains(entry) || *entry == before.oid;
        !before.unsent.contains(&self.oid)
            && (self.entries.is_empty() || self.entries.iter().any(is_known))
    }
}

/// What was not sent all the time between two looks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gaps {
    tables: Vec<String>,
    /// Whether the publication's options were altered, and so perhaps what all its tables send.
    is_altered: bool,
}

fn gaps(before: &Imprint, review: &Review) -> Gaps {
    // Another name is another choice of the settings.
    let Some(now) = review.imprint.as_ref().filter(|now| now.publication == before.publication)
    else {
        return Gaps::default();
    };
    let gaps = review.sendings.iter().filter(|sending| !sending.is_whole_since(before));
    let mut tables: Vec<String> = gaps.map(|sending| sending.name.clone()).collect();
    tables.sort_unstable();
    Gaps { tables, is_altered: now.oid == before.oid && now.version != before.version }
}

/// Says from where changes are complete that were perhaps not sent since an earlier look, because
/// somebody else altered the publication.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn tell_gaps(sql: &mut impl Sql, before: &Imprint, review: &Review) -> Result<()> {
    let found = gaps(before, review);
    if found == Gaps::default() {
        return Ok(());
    }
    let lsn = log_end(sql).await?;
    if !found.tables.is_empty() {
        tables_complete(&found.tables, &lsn, false);
    }
    // Of operations that it still lacks it is said once they are added.
    if found.is_altered && review.lacking.is_empty() {
        let names: Vec<&str> =
            review.sendings.iter().map(|sending| sending.name.as_str()).collect();
        tracing::warn!(
            code = codes::OPERATIONS_MISSING.0,
            publication = before.publication,
            tables = listed(&names),
            lsn,
            "somebody else altered the options of the publication: changes of these tables are sure to \
             be complete only from transactions that begin after this LSN, as operations that it left \
             out meanwhile are not in the log"
        );
    }
    Ok(())
}

/// Names, but not thousands of them.
fn listed(names: &[&str]) -> String {
    let first: Vec<&str> = names.iter().take(NAMES_MAX).copied().collect();
    match names.len() > first.len() {
        true => format!("{}, … ({} in all)", first.join(", "), names.len()),
        false => first.join(", "),
    }
}

/// How the publication stands once we have run the statements `done`: what somebody else altered since
/// the look is not in it, so that the next look finds it.
pub(super) fn altered(name: &str, review: &Review, after: &Publication, done: &[&str]) -> Imprint {
    let added = |oid: &&u32| after.named.contains_key(oid);
    let added: BTreeSet<u32> = review.added_oids.iter().filter(added).copied().collect();
    let unsent = review.unsent.difference(&added).copied().collect();
    let mut imprint = Imprint::of(name, after, unsent);
    let Some(before) = review.imprint.as_ref() else { return imprint };
    let own: BTreeSet<u32> = added.iter().filter_map(|oid| after.named.get(oid).copied()).collect();
    imprint.entries.retain(|entry| before.entries.contains(entry) || own.contains(entry));
    let options = set_options(name, review.plan.publish.as_ref(), review.plan.generated);
    if !options.is_some_and(|options| done.contains(&options.as_str())) {
        imprint.version.clone_from(&before.version);
    }
    imprint
}

#[cfg(test)]
mod tests;
