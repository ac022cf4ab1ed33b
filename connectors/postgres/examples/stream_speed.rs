//! How fast the source alone hands a backlog over: `stream_speed URL SLOT PUBLICATION ROWS`.
//!
//! The slot must exist. Batches are counted and given back; their positions are saved at once.
#![allow(clippy::print_stdout, reason = "an example that prints what it measured")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_postgres::{PostgresConfig, PostgresSource};
use rowtide_sdk::{Claims, Limits, Reporter, Result, Source, SourceContext, batch_channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct NoClaims;

impl Claims for NoClaims {
    fn claim(&self, _resource: &str) -> Result<()> {
        Ok(())
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, slot, publication, rows] = arguments.as_slice() else {
        return Err("stream_speed URL SLOT PUBLICATION ROWS".into());
    };
    let rows: usize = rows.parse()?;
    let config: PostgresConfig = serde_json::from_value(serde_json::json!({
        "url": url, "slot": slot, "publication": publication,
    }))?;
    let source = PostgresSource::new(config, Path::new("/"))?;
    let (out, mut received, spent) = batch_channel(2);
    let (committed, watching) = watch::channel(None);
    let (shutdown, drained) = (CancellationToken::new(), CancellationToken::new());
    let cx = SourceContext {
        name: "speed".to_owned(),
        resume: None,
        known_tables: Vec::new(),
        reselection: Arc::new(|_| Vec::new()),
        hiding: None,
        review: None,
        sightings: rowtide_sdk::Sightings::default(),
        note: rowtide_sdk::Note::default(),
        out,
        committed: watching,
        shutdown: shutdown.clone(),
        drained: drained.clone(),
        limits: Limits::default(),
        claims: Arc::new(NoClaims),
        report: Reporter::default(),
        scratch: std::env::temp_dir().join(format!("stream_speed.{}", std::process::id())),
    };
    let started = Instant::now();
    let task = tokio::spawn(Box::new(source).run(cx));
    let (mut entries, mut batches, mut bytes, mut first) = (0, 0, 0, None);
    while entries < rows {
        let Some(mut batch) = received.recv().await else { break };
        entries += batch.entries.len();
        bytes += batch.bytes.len();
        batches += 1;
        if !batch.entries.is_empty() {
            first.get_or_insert_with(|| started.elapsed());
        }
        committed.send_replace(batch.resume.clone());
        batch.clear(1 << 20);
        let _ = spent.try_send(batch);
    }
    let took = started.elapsed();
    shutdown.cancel();
    drained.cancel();
    let stopped = Instant::now();
    task.await??;
    println!(
        "{entries} rows, {batches} batches, {bytes} bytes in {took:.3?} (first after {:.1?}), \
         {:.3?} CPU, stopped in {:.1?}",
        first.unwrap_or_default(),
        cpu(),
        stopped.elapsed()
    );
    Ok(())
}
