//! The server's replication slots, for the operator: `rowtide slot list|drop`.

use rowtide_sdk::{Error, Origin, Result};

use crate::error::codes as refusals;
use crate::guard::{self, View};
use crate::source::PostgresSource;
use crate::sql::{Sql as _, json_rows, literal};
use crate::wire::sql_client;

/// A replication slot as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its name.
    pub name: String,
    /// `physical`, or the plugin of a logical slot.
    pub kind: String,
    /// The database of a logical slot.
    pub database: Option<String>,
    /// The server process that reads it.
    pub reader: Option<i64>,
    /// Bytes of log that the server keeps for it.
    pub retained: Option<u64>,
    /// `reserved`, `extended`, `unreserved`, `lost`, or why the server has invalidated it.
    pub state: String,
    /// Whether it is the one of the source's settings.
    pub is_ours: bool,
}

impl SlotInfo {
    fn of(view: &View, ours: &str) -> Self {
        let slot = &view.slot;
        Self {
            name: slot.slot_name.clone(),
            kind: slot.plugin.clone().unwrap_or_else(|| "physical".to_owned()),
            database: slot.database.clone(),
            reader: slot.active_pid,
            retained: view.retained(),
            state: match (&slot.invalidation_reason, &slot.wal_status) {
                (Some(reason), _) => reason.clone(),
                (None, Some(status)) => status.clone(),
                (None, None) => "unused".to_owned(),
            },
            is_ours: slot.slot_name == ours,
        }
    }
}

/// Every slot of the source's server. Connects and reads.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn slots(source: &PostgresSource) -> Result<Vec<SlotInfo>> {
    let client = sql_client(&source.options).await?;
    let mut sql = &*client;
    let statement = format!("{} ORDER BY slot_name", guard::select_views());
    let views: Vec<View> = json_rows(&mut sql, &statement, "listing the slots").await?;
    Ok(views.iter().map(|view| SlotInfo::of(view, &source.config.slot)).collect())
}

/// Drops a slot that nobody reads; without a name, the one of the settings. Gives it as it was. Without
/// `apply` nothing is changed.
///
/// # Errors
/// Fatal `RT2119` where there is no such slot, `RT2205` where that of the settings cannot be ours; transient `RT2118` where somebody reads it; what the
/// server refuses.
pub async fn drop_slot(
    source: &PostgresSource,
    name: Option<&str>,
    apply: bool,
) -> Result<SlotInfo> {
    let client = sql_client(&source.options).await?;
    let mut sql = &*client;
    let is_named = name.is_some();
    let name = name.unwrap_or(&source.config.slot);
    let Some(view) = guard::view(&mut sql, name).await? else {
        let message = format!("there is no slot \"{name}\" on {}", source.options.places());
        return Err(Error::fatal(Origin::Source, refusals::SLOT_MISSING, message)
            .with_remedy("`rowtide slot list` shows those that there are"));
    };
    if !is_named {
        view.slot.check_ours(&source.options.database)?;
    }
    view.slot.check_free(&mut sql).await?;
    if apply {
        let statement = format!("SELECT pg_drop_replication_slot({})", literal(name));
        sql.rows(&statement, "dropping the slot").await?;
    }
    Ok(SlotInfo::of(&view, &source.config.slot))
}
