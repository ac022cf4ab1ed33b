//! `rowtide slot list|drop`: the replication slots of the sources' servers.

use std::fmt::Write as _;

use rowtide_sdk::Result;

use super::output::{Out, bytes, columns, complain};
use super::position::{Keeper, context, saved};
use super::{Exit, connector_named, runtime};
use crate::config::{Config, ConnectorConfig, ServerSlot};

/// What to do with slots.
pub(super) enum Action {
    /// Print those of every connector's server, or of one's.
    List { connector: Option<String> },
    /// Drop one.
    Drop { connector: String, slot: Option<String>, apply: bool },
}

/// Does it.
pub(super) fn slot(config: &Config, action: &Action) -> Exit {
    let named = match action {
        Action::List { connector } => connector.as_ref(),
        Action::Drop { connector, .. } => Some(connector),
    };
    let chosen = match named.map(|name| connector_named(config, name)) {
        None => None,
        Some(Ok(connector)) => Some(connector),
        Some(Err(exit)) => return exit,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let done = runtime.block_on(async {
        match (action, chosen) {
            (Action::Drop { slot, apply, .. }, Some(connector)) => {
                drop_one(config, connector, slot.as_deref(), *apply).await
            }
            (_, Some(connector)) => list(config, std::slice::from_ref(connector)).await,
            (_, None) => list(config, &config.connectors).await,
        }
    });
    runtime.shutdown_background();
    match done {
        Ok(text) => Out::new().text(&text),
        Err(error) => {
            complain(&error.to_string());
            Exit::of(&error)
        }
    }
}

async fn list(config: &Config, connectors: &[ConnectorConfig]) -> Result<String> {
    let mut text = String::new();
    for connector in connectors {
        let slots = connector.source.factory.slots(&context(config, connector)).await?;
        if !text.is_empty() {
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "on the server of {}:", connector.name);
        let header = ["SLOT", "KIND", "DATABASE", "READ BY", "RETAINED", "STATE", "CONNECTOR"];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(slots.iter().map(|slot| row(slot, &connector.name)));
        columns(&mut text, &rows);
    }
    Ok(text)
}

fn row(slot: &ServerSlot, connector: &str) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        slot.name.clone(),
        slot.kind.clone(),
        or_dash(slot.database.clone()),
        or_dash(slot.reader.map(|pid| format!("process {pid}"))),
        or_dash(slot.retained.map(|retained| bytes(retained as f64))),
        slot.state.clone(),
        if slot.is_ours { connector.to_owned() } else { "-".to_owned() },
    ]
}

async fn drop_one(
    config: &Config,
    connector: &ConnectorConfig,
    name: Option<&str>,
    apply: bool,
) -> Result<String> {
    let factory = &connector.source.factory;
    let cx = context(config, connector);
    let slot = factory.drop_slot(&cx, name, false).await?;
    // Held while the slot goes, so that no run of the connector takes it meanwhile.
    let keeper = match slot.is_ours && apply {
        true => Some(Keeper::open(config, connector).await?),
        false => None,
    };
    if apply {
        factory.drop_slot(&cx, name, true).await?;
    }
    let has_position = slot.is_ours && saved(config, connector)?.0.is_some();
    if let Some(keeper) = keeper {
        keeper.close().await?;
    }
    let verb = if apply { "dropped" } else { "would be dropped" };
    let kept = slot.retained.map_or_else(String::new, |kept| format!(", {}", bytes(kept as f64)));
    let mut text = format!(
        "{verb}: the slot {} ({}, {}); the log it keeps{kept} is let go\n",
        slot.name, slot.kind, slot.state
    );
    if has_position {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} has a saved position: without its slot, changes since then cannot be had any more, \
             and its next start is refused (RT2204) until a position in a new slot is adopted",
            connector.name
        );
    }
    if !apply {
        text.push_str("nothing was changed; the same command with --yes drops it.\n");
    }
    Ok(text)
}
