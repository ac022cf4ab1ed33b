//! How fast the jsonl sink takes records, and what that costs.
//!
//! ```text
//! cargo run --release -p rowtide-basic --example jsonl_speed -- [records] [topics] [folder] [fsync]
//! ```
//!
//! Records of 420 bytes in batches of 600, from one thread that does nothing else; a commit every
//! 250 ms. Prints MB/s and the CPU of the whole process, the kernel's part included, per million
//! records.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_basic::jsonl::{JsonlConfig, JsonlSink};
use rowtide_sdk::{
    BufferPool, Checkpoint, Completion, Position, Record, RecordBatch, Result, Sink,
};
use tokio::sync::mpsc;

const RECORD_BYTES: usize = 420;
const BATCH_RECORDS: u64 = 600;
const COMMIT_INTERVAL: Duration = Duration::from_millis(250);
/// The kernel counts CPU time of a process in these (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(Ok(3_000_000), |text| text.parse())?;
    let topics: u32 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let fsync: bool = arguments.next().map_or(Ok(true), |text| text.parse())?;
    let dir = tempfile::tempdir_in(parent)?;
    let config = JsonlConfig { fsync, ..JsonlConfig::new(dir.path()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (cpu, started) = (cpu_seconds()?, Instant::now());
    let commits = runtime.block_on(run(config, records, topics))?;
    let (cpu, seconds) = (cpu_seconds()? - cpu, started.elapsed().as_secs_f64());
    let millions = as_f64(records) / 1e6;
    let megabytes = millions * as_f64(RECORD_BYTES as u64);
    print(&format!(
        "{records} records, {topics} topic(s), fsync {fsync}: {seconds:.2} s, {:.0} k records/s, \
         {:.0} MB/s, {:.3} CPU-s/M, {commits} answers seen in time, peak {} MB",
        millions * 1000.0 / seconds,
        megabytes / seconds,
        cpu / millions,
        peak_megabytes()?,
    ));
    Ok(())
}

async fn run(config: JsonlConfig, records: u64, topics: u32) -> Result<u64> {
    let mut sink = JsonlSink::new(config);
    sink.open().await?;
    let (reply, mut outcomes) = mpsc::unbounded_channel();
    let names: Vec<Arc<str>> = (0..topics).map(|n| Arc::from(format!("topic-{n}"))).collect();
    let mut line = vec![b'x'; RECORD_BYTES];
    if let Some(last) = line.last_mut() {
        *last = b'\n';
    }
    let pool = BufferPool::default();
    let (mut next, mut sequence, mut answers) = (0, 0, 0);
    let mut last_commit = Instant::now();
    while next < records {
        let mut data = pool.take();
        let mut batch_records = Vec::new();
        for n in next..records.min(next.saturating_add(BATCH_RECORDS)) {
            let start = u32::try_from(data.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&line);
            let end = u32::try_from(data.len().saturating_sub(1)).unwrap_or(u32::MAX);
            batch_records.push(Record {
                topic: u32::try_from(n % u64::from(topics)).unwrap_or(0),
                key: None,
                value: Some(start..end),
                to_all_partitions: false,
                headers: None,
            });
        }
        next = next.saturating_add(BATCH_RECORDS);
        let checkpoint = Checkpoint {
            position: Position::new(format!("{{\"next\":{next}}}")),
            host: Arc::from("{}"),
        };
        let batch = RecordBatch {
            data,
            topics: names.clone(),
            records: batch_records,
            checkpoint,
            pool: pool.clone(),
        };
        sink.submit(batch, Completion::new(sequence, reply.clone(), None)).await?;
        sequence = sequence.saturating_add(1);
        if last_commit.elapsed() > COMMIT_INTERVAL {
            last_commit = Instant::now();
            sink.flush().await?;
        }
        while let Ok(outcome) = outcomes.try_recv() {
            outcome.result?;
            answers += 1;
        }
    }
    sink.close(Instant::now() + Duration::from_secs(60)).await?;
    Ok(answers)
}

/// User and system time of all threads of this process.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The fields behind the name in brackets, which may hold anything; `man 5 proc`.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(as_f64(ticks) / TICKS_PER_SECOND)
}

fn peak_megabytes() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024)
}

#[allow(clippy::cast_precision_loss, reason = "counts for people, far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::print_stdout, reason = "the result of a measuring program")]
fn print(text: &str) {
    println!("{text}");
}
