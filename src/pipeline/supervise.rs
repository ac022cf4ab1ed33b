//! Restarts a connector by the class of its error.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use rowtide_sdk::{Class, Code, Error, Origin};

use super::backoff::Backoff;
use super::{Job, saved, session};

/// RT4010: a thread or runtime cannot be started.
const NO_THREAD: Code = Code("RT4010");

/// How often the board learns that the thread moves.
const PULSE: Duration = Duration::from_secs(1);

/// A run with progress that lasted so long makes the next restart a first one. One that fails again
/// sooner, for instance on a full disk, waits longer each time.
const LASTED: Duration = Duration::from_secs(10);

/// Why a connector has no thread.
pub(crate) fn thread_error(error: std::io::Error) -> Error {
    Error::fatal(Origin::Host, NO_THREAD, "cannot start a thread").with_source(error)
}

/// Runs a connector on this thread until it is stopped or fails for good.
pub(crate) fn run(job: &Job) -> Result<(), Error> {
    // The thread's own span puts the connector's name on every line that is logged here.
    let _span = tracing::info_span!("pipeline", connector = %job.connector.name).entered();
    // One thread per connector encodes, submits and commits; sources and sinks have threads of
    // their own where they need them.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread_error)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = Box::pin(supervise(job)) => result,
            never = pulse(job) => match never {},
        }
    });
    job.board.ends(&result);
    // A blocked disk must not hold up the exit; what was not committed is repeated.
    runtime.shutdown_background();
    result
}

/// Shows that this thread gets around to its tasks.
async fn pulse(job: &Job) -> Infallible {
    loop {
        job.board.moves();
        tokio::time::sleep(PULSE).await;
    }
}

/// What a connector does after an error that passes.
fn what_follows(job: &Job) -> &'static str {
    match saved(&job.config, &job.connector) {
        Ok(None) => {
            "the connector starts again; no position is saved yet: changes that are committed before it \
             streams for the first time are not captured (PostgreSQL: unless a replication slot holds them)"
        }
        _ => "the connector restarts from its saved position",
    }
}

async fn supervise(job: &Job) -> Result<(), Error> {
    let mut backoff = Backoff::default();
    loop {
        job.board.starts();
        let started = Instant::now();
        let end = session::run(job).await;
        if job.shutdown.is_cancelled() {
            return match end.result {
                Err(error) if error.class() != Class::Transient => Err(error),
                _ => Ok(()),
            };
        }
        let Err(error) = end.result else { return Ok(()) };
        if error.class() != Class::Transient {
            return Err(error);
        }
        if end.has_progressed && started.elapsed() >= LASTED {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        job.board.waits(&error);
        tracing::warn!(
            code = %error.code(), error = %error,
            retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "{}", what_follows(job)
        );
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = job.shutdown.cancelled() => return Ok(()),
        }
    }
}
