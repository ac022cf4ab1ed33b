//! One connector's life: source to encoder to sink, and the position back.
//!
//! ```text
//!            batch channel (2)                    submit
//! source ───────────────────► pump: plan, encode ────────► sink
//!    ▲                          │ track                      │ outcomes, any order
//!    │ committed (watch)        ▼                            ▼
//!    └──────────────────── commit task: contiguous watermark, save, tell
//! ```
//!
//! Every connector runs on a thread and a runtime of its own, so that one which fails or stalls
//! leaves the others running.

mod acks;
mod backoff;
mod claims;
mod commit;
mod hidden;
mod plans;
mod progress;
mod pump;
mod review;
mod schema_files;
mod session;
#[cfg(test)]
mod simulation;
mod stall;
mod supervise;
mod topics;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rowtide_sdk::{Checkpoint, Code, Error, Origin};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConnectorConfig};
use crate::offsets;
use crate::ops::board::{Board, ConnectorBoard};
pub use claims::ClaimRegistry;
pub(crate) use claims::ConnectorClaims;
pub(crate) use hidden::{check_names, overshadowed};
pub(crate) use plans::{
    MESSAGES, RECORD_OVERHEAD, SCHEMA_CHANGES, dead_letter_spec, keyless, message_spec,
    schema_topic_spec, topic_spec,
};
pub(crate) use review::{fit, unmatched};
pub(crate) use schema_files::SchemaFiles;
pub(crate) use session::scratch;
pub(crate) use topics::Topics;

/// The checkpoint that is saved for a connector, without holding anything: it may be running.
pub(crate) fn saved(
    config: &Config,
    connector: &ConnectorConfig,
) -> Result<Option<Checkpoint>, Error> {
    let sink = &connector.sink.factory;
    match sink.keeps_position() {
        true => sink.saved(),
        false => offsets::saved(&config.state_dir, &connector.name),
    }
}

/// RT4012: the position is saved where another sink looks for it.
const SAVED_ELSEWHERE: Code = Code("RT4012");

/// Refuses a connector that has no position where its sink looks for one, but had one elsewhere: it would
/// begin anew, and what came since would be missing.
///
/// # Errors
/// RT4012, fatal; whatever keeps the state folder from being read.
pub(crate) fn check_not_elsewhere(
    config: &Config,
    connector: &ConnectorConfig,
) -> Result<(), Error> {
    let (state, name) = (&config.state_dir, &connector.name);
    let sink = &connector.sink.factory;
    let in_state = || format!("the state folder {}", state.display());
    let keeps = sink.keeps_position();
    let here = if keeps { sink.resource().unwrap_or_default() } else { in_state() };
    let is_in_state = keeps && offsets::saved(state, name)?.is_some();
    let kept = offsets::kept(state, name)?;
    let fatal = |message: String| Error::fatal(Origin::Config, SAVED_ELSEWHERE, message);
    let anew = "MySQL and MariaDB: where the log ends, which leaves out what came since; PostgreSQL: where the slot \
                stands";
    if kept.as_ref() == Some(&here) && !is_in_state {
        let message = format!(
            "{here} has no position of connector {name} any more: a start would not go on from there"
        );
        return Err(fatal(message).with_remedy(format!(
            "bring back what was there (a disk that is not mounted?); or, to begin anew, `rowtide position adopt \
             --connector {name} --yes` ({anew})"
        )));
    }
    let kept = kept.filter(|place| *place != here);
    let places = is_in_state.then(in_state).into_iter().chain(kept).collect::<Vec<_>>();
    if places.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{here} has no position of connector {name}, which had one in {}: a start would not go on from there",
        places.join(" and in ")
    );
    Err(fatal(message).with_remedy(format!(
        "put the former `sink` back; or, to go on with this one, read the place by `rowtide position show \
         --connector {name}` under the former settings and save it here by `rowtide position set --connector {name} \
         --at PLACE --yes`; or, to begin anew, `rowtide position adopt --connector {name} --yes` ({anew})"
    )))
}

/// How one connector ended.
#[derive(Debug)]
pub struct ConnectorEnd {
    /// Its name.
    pub name: String,
    /// `Ok` after a clean stop.
    pub result: Result<(), Error>,
}

/// What happens to connectors while any of them runs.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'a> {
    /// One has ended.
    Ended(&'a ConnectorEnd),
    /// One failed for good so long ago, and others still run.
    StillEnded(&'a ConnectorEnd, Duration),
}

/// How often a connector that failed for good is named again while others run.
const REMIND_EVERY: Duration = Duration::from_secs(300);

/// The bytes a source may hold beside the encoded records: two batches in the channel, one being
/// filled and one being encoded.
pub(crate) const RAW_BATCHES: usize = 4;

/// Runs every connector until it fails for good or `shutdown` is cancelled, and reports each end as
/// it comes, and failures again and again. Returns when all have ended. `board` shows the connectors
/// of the configuration, in its order.
pub async fn run(
    config: Arc<Config>,
    board: &Board,
    shutdown: CancellationToken,
    mut notify: impl FnMut(Notice<'_>),
) -> Vec<ConnectorEnd> {
    let claims = ClaimRegistry::default();
    let (report, reports) = mpsc::channel(config.connectors.len().max(1));
    for (connector, board) in config.connectors.iter().zip(board.connectors()) {
        let job = Job {
            config: Arc::clone(&config),
            connector: connector.clone(),
            claims: claims.clone(),
            board: Arc::clone(board),
            shutdown: shutdown.clone(),
            is_reviewed: Arc::default(),
        };
        for found in overshadowed(connector) {
            let (code, remedy) = (found.code.0, found.remedy.unwrap_or_default());
            tracing::warn!(connector = connector.name, code, remedy, "{}", found.message);
        }
        let report = report.clone();
        let name = connector.name.clone();
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let end =
                ConnectorEnd { name: job.connector.name.clone(), result: supervise::run(&job) };
            let _gone = report.blocking_send(end);
        });
        if let Err(error) = spawned {
            let end = ConnectorEnd { name, result: Err(supervise::thread_error(error)) };
            notify(Notice::Ended(&end));
            return vec![end];
        }
    }
    drop(report);
    collect(reports, notify).await
}

/// Gathers the ends of all connectors.
async fn collect(
    mut reports: mpsc::Receiver<ConnectorEnd>,
    mut notify: impl FnMut(Notice<'_>),
) -> Vec<ConnectorEnd> {
    let mut ends: Vec<(Instant, ConnectorEnd)> = Vec::new();
    let mut reminders = tokio::time::interval_at(Instant::now() + REMIND_EVERY, REMIND_EVERY);
    loop {
        tokio::select! {
            end = reports.recv() => {
                let Some(end) = end else { break };
                notify(Notice::Ended(&end));
                ends.push((Instant::now(), end));
            }
            _ = reminders.tick() => {
                for (at, end) in ends.iter().filter(|(_, end)| end.result.is_err()) {
                    notify(Notice::StillEnded(end, at.elapsed()));
                }
            }
        }
    }
    ends.into_iter().map(|(_, end)| end).collect()
}

/// One connector's share of the configuration.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) config: Arc<Config>,
    pub(crate) connector: ConnectorConfig,
    pub(crate) claims: ClaimRegistry,
    pub(crate) board: Arc<ConnectorBoard>,
    pub(crate) shutdown: CancellationToken,
    /// Whether the tables were reviewed, which is once in a process.
    pub(crate) is_reviewed: Arc<AtomicBool>,
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::{Code, Origin};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_again_while_others_run() {
        let (report, reports) = mpsc::channel(3);
        let end = |name: &str, result| ConnectorEnd { name: name.to_owned(), result };
        let others = async move {
            let failure = Error::fatal(Origin::Source, Code("RT2204"), "gone");
            tokio::time::sleep(Duration::from_secs(60)).await;
            report.send(end("shop", Err(failure))).await.unwrap();
            report.send(end("done", Ok(()))).await.unwrap();
            tokio::time::sleep(Duration::from_secs(590)).await;
            report.send(end("audit", Ok(()))).await.unwrap();
        };
        let mut told = Vec::new();
        let gather = collect(reports, |notice| match notice {
            Notice::Ended(end) => told.push((end.name.clone(), None)),
            Notice::StillEnded(end, since) => told.push((end.name.clone(), Some(since.as_secs()))),
        });
        let ((), ends) = tokio::join!(others, gather);
        let expected = [
            ("shop", None),
            ("done", None),
            ("shop", Some(240)),
            ("shop", Some(540)),
            ("audit", None),
        ];
        let told: Vec<_> = told.iter().map(|(name, since)| (name.as_str(), *since)).collect();
        assert_eq!(told, expected);
        assert!(ends.iter().any(|end| end.name == "shop" && end.result.is_err()));
    }
}
