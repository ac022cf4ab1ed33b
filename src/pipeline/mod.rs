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
mod plans;
mod progress;
mod pump;
mod session;
#[cfg(test)]
mod simulation;
mod supervise;
mod topics;

use std::sync::Arc;

use rowtide_sdk::Error;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConnectorConfig};
pub use claims::ClaimRegistry;
pub(crate) use claims::ConnectorClaims;
pub(crate) use plans::{RECORD_OVERHEAD, keyless, topic_spec};
pub(crate) use topics::Topics;

/// How one connector ended.
#[derive(Debug)]
pub struct ConnectorEnd {
    /// Its name.
    pub name: String,
    /// `Ok` after a clean stop.
    pub result: Result<(), Error>,
}

/// The bytes a source may hold beside the encoded records: two batches in the channel, one being
/// filled and one being encoded.
pub(crate) const RAW_BATCHES: usize = 4;

/// Runs every connector until it fails for good or `shutdown` is cancelled, and reports each end as
/// it comes. Returns when all have ended.
pub async fn run(
    config: Arc<Config>,
    shutdown: CancellationToken,
    mut ended: impl FnMut(&ConnectorEnd),
) -> Vec<ConnectorEnd> {
    let claims = ClaimRegistry::default();
    let (report, mut reports) = tokio::sync::mpsc::channel(config.connectors.len().max(1));
    for connector in &config.connectors {
        let job = Job {
            config: Arc::clone(&config),
            connector: connector.clone(),
            claims: claims.clone(),
            shutdown: shutdown.clone(),
        };
        let report = report.clone();
        let name = connector.name.clone();
        let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let end =
                ConnectorEnd { name: job.connector.name.clone(), result: supervise::run(&job) };
            let _gone = report.blocking_send(end);
        });
        if let Err(error) = spawned {
            let end = ConnectorEnd { name, result: Err(supervise::thread_error(error)) };
            ended(&end);
            return vec![end];
        }
    }
    drop(report);
    let mut ends = Vec::with_capacity(config.connectors.len());
    while let Some(end) = reports.recv().await {
        ended(&end);
        ends.push(end);
    }
    ends
}

/// One connector's share of the configuration.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) config: Arc<Config>,
    pub(crate) connector: ConnectorConfig,
    pub(crate) claims: ClaimRegistry,
    pub(crate) shutdown: CancellationToken,
}
