//! `rowtide position show|set|adopt`: where a connector goes on.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rowtide_sdk::{Checkpoint, Code, Error, Held, Origin, Result, Sink};

use super::output::{Out, complain};
use super::{Exit, connector_named, runtime};
use crate::config::{BuildContext, Config, ConnectorConfig, Wanted};
use crate::offsets::FileStore;
use crate::pipeline;
use crate::schema::HostState;

/// What to do with the position.
pub(super) enum Action {
    /// Print it.
    Show,
    /// Replace it by a place in the source's own terms.
    Set { place: String, apply: bool },
    /// Replace it by where the server's own resource stands.
    Adopt { apply: bool },
}

/// How long a sink that keeps the position may take to close.
const CLOSE: Duration = Duration::from_secs(10);

/// Does `action` for the connector `name`.
pub(super) fn position(config: &Config, name: &str, action: &Action) -> Exit {
    let connector = match connector_named(config, name) {
        Ok(connector) => connector,
        Err(exit) => return exit,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let done = runtime.block_on(act(config, connector, action));
    runtime.shutdown_background();
    match done {
        Ok(text) => Out::new().text(&text),
        Err(error) => {
            complain(&error.to_string());
            Exit::of(&error)
        }
    }
}

async fn act(config: &Config, connector: &ConnectorConfig, action: &Action) -> Result<String> {
    let (wanted, apply) = match action {
        Action::Show => return show(config, connector),
        Action::Set { place, apply } => (Wanted::At(place.clone()), *apply),
        Action::Adopt { apply } => (Wanted::Adopt, *apply),
    };
    // Held from here on, so that no run starts in between.
    let mut keeper = Keeper::open(config, connector).await?;
    let saved = keeper.saved.take();
    let cx = context(config, connector);
    let position = saved.as_ref().map(|checkpoint| &checkpoint.position);
    let proposal = connector.source.factory.propose(&cx, &wanted, position).await?;

    let mut text = String::new();
    let before = position.map_or("none", |position| position.as_str());
    let _infallible = writeln!(text, "saved:    {before}\nproposed: {}", proposal.position);
    for line in &proposal.consequences {
        let _infallible = writeln!(text, "  - {line}");
    }
    if apply {
        let host = match saved {
            Some(checkpoint) => checkpoint.host,
            None => HostState::default().render()?,
        };
        keeper.save(Checkpoint { position: proposal.position, host }).await?;
        text.push_str("saved.\n");
    } else {
        text.push_str("nothing was changed; the same command with --yes saves it.\n");
    }
    keeper.close().await?;
    Ok(text)
}

/// What is saved, and where, without holding anything: the connector may be running.
pub(super) fn saved(
    config: &Config,
    connector: &ConnectorConfig,
) -> Result<(Option<Checkpoint>, String)> {
    let kept = match connector.sink.factory.keeps_position() {
        true => format!("with the data of the {} sink", connector.sink.kind),
        false => format!("in {}", config.state_dir.display()),
    };
    Ok((pipeline::saved(config, connector)?, kept))
}

fn show(config: &Config, connector: &ConnectorConfig) -> Result<String> {
    let (saved, kept) = saved(config, connector)?;
    let position: serde_json::Value = match &saved {
        Some(checkpoint) => {
            serde_json::from_str(checkpoint.position.as_str()).map_err(|error| {
                Error::fatal(Origin::Host, Code("RT4002"), "the saved position is not JSON")
                    .with_source(error)
            })?
        }
        None => serde_json::Value::Null,
    };
    let shown = serde_json::json!({
        "connector": connector.name,
        "kept": kept,
        "position": position,
    });
    Ok(format!("{shown:#}\n"))
}

pub(super) fn context<'a>(config: &Config, connector: &'a ConnectorConfig) -> BuildContext<'a> {
    BuildContext { connector: &connector.name, memory: config.memory, max_event: config.max_event }
}

/// Whoever keeps the position, held exclusively.
pub(super) struct Keeper {
    place: Place,
    /// What was saved when it was opened.
    saved: Option<Checkpoint>,
}

enum Place {
    File(FileStore),
    Sink(Box<dyn Sink>),
}

impl Keeper {
    pub(super) async fn open(config: &Config, connector: &ConnectorConfig) -> Result<Self> {
        if !connector.sink.factory.keeps_position() {
            let mut store = FileStore::open(&config.state_dir, &connector.name)?;
            let saved = store.load()?;
            return Ok(Self { place: Place::File(store), saved });
        }
        let mut sink = connector.sink.factory.build(&context(config, connector))?;
        let saved = match sink.open().await? {
            Held::Here(saved) => saved,
            Held::Elsewhere => None,
        };
        Ok(Self { place: Place::Sink(sink), saved })
    }

    async fn save(&mut self, checkpoint: Checkpoint) -> Result<()> {
        match &mut self.place {
            Place::File(store) => store.save(&checkpoint),
            Place::Sink(sink) => sink.store_position(&checkpoint).await,
        }
    }

    pub(super) async fn close(self) -> Result<()> {
        match self.place {
            Place::File(_) => Ok(()),
            Place::Sink(mut sink) => sink.close(Instant::now() + CLOSE).await,
        }
    }
}
