//! `rowtide run`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::complain;
use super::{Exit, listen, runtime};
use crate::config::Config;
use crate::ops::board::Board;
use crate::ops::{http, logs};
use crate::pipeline::{self, ConnectorEnd, Notice};

/// How long threads of libraries may take to end once every connector has.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// Runs every connector until all have ended.
pub(super) fn run(config: Config) -> Exit {
    logs::init(&config.logs);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let exit = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        match watch_signals(&shutdown) {
            Ok(()) => until_ended(config, shutdown).await,
            Err(error) => {
                complain(&format!("RT1030: signals cannot be handled: {error}"));
                Exit::Internal
            }
        }
    });
    runtime.shutdown_timeout(LEFTOVERS);
    exit
}

async fn until_ended(config: Config, shutdown: CancellationToken) -> Exit {
    let config = Arc::new(config);
    let connectors = config.connectors.iter();
    let board = Arc::new(Board::new(
        connectors.map(|one| (one.name.as_str(), one.source.kind, one.sink.kind)),
    ));
    if let Some(address) = config.ops
        && let Err(error) = serve(address, &board).await
    {
        let found = listen::refused(address, &error);
        complain(&format!("{} {}: {}", found.code, listen::PLACE, found.message));
        found.remedy.iter().for_each(|remedy| complain(&format!("       {remedy}")));
        return Exit::Config;
    }
    let ends = pipeline::run(Arc::clone(&config), &board, shutdown, tell);
    exit_of(&config, &ends.await)
}

/// Serves the board from now on, beside the connectors.
async fn serve(address: SocketAddr, board: &Arc<Board>) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics and status are served");
    if !address.ip().is_loopback() {
        tracing::warn!(
            "metrics and status are served beyond this machine, to whoever asks: anyone there can \
             read positions, table and slot names, and errors"
        );
    }
    tokio::spawn(http::serve(listener, Arc::clone(board)));
    Ok(())
}

fn tell(notice: Notice<'_>) {
    match notice {
        Notice::Ended(ConnectorEnd { name, result: Err(error) }) => {
            tracing::error!(connector = %name, code = %error.code(), "stopped for good: {error}");
        }
        Notice::StillEnded(ConnectorEnd { name, result: Err(error) }, since) => tracing::warn!(
            connector = %name, code = %error.code(), stopped_s = since.as_secs(),
            "still stopped for good while other connectors run: {}", error.message()
        ),
        Notice::Ended(_) | Notice::StillEnded(..) => {}
    }
}

/// The first failure in the order of the configuration decides.
fn exit_of(config: &Config, ends: &[ConnectorEnd]) -> Exit {
    let end_of = |name: &str| ends.iter().find(|end| end.name == name);
    config
        .connectors
        .iter()
        .filter_map(|connector| end_of(&connector.name)?.result.as_ref().err())
        .map(Exit::of)
        .next()
        .unwrap_or(Exit::Ok)
}

/// A second signal so soon after the first is the same one: some tools signal a process and its
/// group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The first signal asks for an orderly stop, the second ends the process at once. Only saved
/// positions are ever confirmed, so that nothing is lost either way (invariant A8).
fn watch_signals(shutdown: &CancellationToken) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let name = either(&mut term, &mut interrupt).await;
        tracing::info!(signal = name, "stopping: what is in flight is delivered and saved first");
        shutdown.cancel();
        let asked = Instant::now();
        let name = loop {
            let name = either(&mut term, &mut interrupt).await;
            if asked.elapsed() >= SAME_SIGNAL {
                break name;
            }
        };
        tracing::warn!(signal = name, "ending at once; the rest is repeated at the next start");
        std::process::exit(i32::from(Exit::Aborted.number()));
    });
    Ok(())
}

async fn either(term: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
