//! What publishing costs: sends pre-encoded records of 420 bytes through the sink and prints CPU
//! seconds per million records, the peak memory of the process and the time to the first
//! acknowledgement.
//!
//! ```text
//! BROKERS=127.0.0.1:9092 N=2000000 cargo run --release -p rowtide-kafka --example produce_speed
//! ```
//!
//! `TOPIC`, `BATCH` (records in a batch), `MEMORY_MIB` (bytes in flight), `HEADERS` (none, id, all),
//! `KINDS` (topics to write to in turn) and `CONFIG` (more of the sink's section, as JSON) may be
//! set too.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_kafka::{KafkaConfig, KafkaLimits, KafkaSink, RECORD_OVERHEAD_BYTES};
use rowtide_sdk::{
    AllHeaders, BufferPool, Checkpoint, Completion, Position, Record, RecordBatch, RecordHeaders,
    Sink, TopicSpec,
};
use tokio::sync::{Semaphore, mpsc};

const RECORD_BYTES: usize = 420;

fn env<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The CPU time of this process so far, and its peak resident memory in kilobytes.
fn usage() -> (Duration, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse().unwrap();
    (Duration::from_millis(ticks * 10), peak)
}

/// A batch of records such as the host encodes them.
struct Template {
    data: Vec<u8>,
    records: Vec<Record>,
}

fn template(count: u32, headers: &str) -> Template {
    let mut data = Vec::new();
    let mut records = Vec::new();
    let mark = |data: &Vec<u8>| u32::try_from(data.len()).unwrap();
    for n in 0..count {
        let key = mark(&data);
        data.extend_from_slice(format!("{{\"id\":{}}}", 100_000 + n * 7).as_bytes());
        let value = mark(&data);
        let id = format!("shop:0/16B3800:{n}");
        let head = format!(
            "{{\"v\":\"1.0\",\"id\":\"{id}\",\"op\":\"c\",\"key\":{{\"id\":{}}},\
             \"before\":null,\"after\":{{\"id\":{},\"amount\":\"{}.60\",\
             \"created_at\":\"2026-11-20T16:57:13.123456Z\",\"note\":\"customer {}\"}},\
             \"schema\":{{\"subject\":\"shop.public.orders\",\"version\":\"1.2\"}},\"ts_us\":{},\
             \"pad\":\"",
            100_000 + n * 7,
            100_000 + n * 7,
            n % 97,
            n.wrapping_mul(2_654_435_761),
            1_763_657_833_123_456_u64 + u64::from(n),
        );
        data.extend_from_slice(head.as_bytes());
        data.resize(value as usize + RECORD_BYTES - 2, b'x');
        data.extend_from_slice(b"\"}");
        let end = mark(&data);
        data.push(b'\n');
        let at = value + 17;
        let id = at..at + u32::try_from(id.len()).unwrap();
        let headers = (headers != "none").then(|| {
            let all = (headers == "all").then(|| AllHeaders {
                op: "c",
                subject: Arc::from("shop.public.orders"),
                version: Arc::from("1.2"),
            });
            Box::new(RecordHeaders { id, all })
        });
        records.push(Record {
            topic: 0,
            key: Some(key..value),
            value: Some(value..end),
            to_all_partitions: false,
            headers,
        });
    }
    Template { data, records }
}

fn batch(template: &Template, topic: &Arc<str>, count: usize, pool: &BufferPool) -> RecordBatch {
    let mut data = pool.take();
    data.extend_from_slice(&template.data);
    RecordBatch {
        data,
        topics: vec![Arc::clone(topic)],
        records: template.records.iter().take(count).cloned().collect(),
        checkpoint: Checkpoint { position: Position::new("{}"), host: Arc::from("{}") },
        pool: pool.clone(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let started = Instant::now();
    let total: usize = env("N", 1_000_000);
    let per_batch: usize = env("BATCH", 600);
    let memory = env("MEMORY_MIB", 32) * 1024 * 1024;
    let kinds: usize = env("KINDS", 1);
    let mut section: serde_json::Value =
        serde_json::from_str(&env("CONFIG", "{}".to_owned())).unwrap();
    section["brokers"] = env("BROKERS", "127.0.0.1:9092".to_owned()).into();
    let config: KafkaConfig = serde_json::from_value(section).unwrap();
    let limits = KafkaLimits { memory_bytes: memory, max_record_bytes: 1 << 20 };

    let mut sink = KafkaSink::new(config, limits).unwrap();
    sink.open().await.unwrap();
    let opened = started.elapsed();
    let name = env("TOPIC", "produce_speed".to_owned());
    let topics: Vec<Arc<str>> = (0..kinds).map(|n| Arc::from(format!("{name}.{n}"))).collect();
    for name in &topics {
        let spec = TopicSpec { name: Arc::clone(name), max_record_bytes: 1 << 20 };
        sink.prepare(&spec).await.unwrap();
    }
    let prepared = started.elapsed();

    let template = template(u32::try_from(per_batch).unwrap(), &env("HEADERS", "none".to_owned()));
    let pool = BufferPool::default();
    let permits = Arc::new(Semaphore::new(memory));
    let (reply, mut outcomes) = mpsc::unbounded_channel();

    let first = topics.first().unwrap();
    let one = batch(&template, first, 1, &pool);
    sink.submit(one, Completion::new(0, reply.clone(), None)).await.unwrap();
    outcomes.recv().await.unwrap().result.unwrap();
    let (cpu_before, peak_before) = usage();
    println!(
        "open {} ms, topics ready {} ms, first record acknowledged {} ms, then {peak_before} kB",
        opened.as_millis(),
        prepared.as_millis(),
        started.elapsed().as_millis()
    );

    let running = Instant::now();
    let batches = total.div_ceil(per_batch);
    let cost = template.data.len() + per_batch * RECORD_OVERHEAD_BYTES;
    let mut answered = 0;
    for (sequence, topic) in topics.iter().cycle().take(batches).enumerate() {
        let permit = Arc::clone(&permits).acquire_many_owned(u32::try_from(cost).unwrap());
        let permit = permit.await.unwrap();
        let done = Completion::new(sequence as u64, reply.clone(), Some(permit));
        sink.submit(batch(&template, topic, per_batch, &pool), done).await.unwrap();
        while let Ok(outcome) = outcomes.try_recv() {
            outcome.result.unwrap();
            answered += 1;
        }
    }
    while answered < batches {
        outcomes.recv().await.unwrap().result.unwrap();
        answered += 1;
    }
    let (cpu, peak) = usage();
    let millions = (batches * per_batch) as f64 / 1e6;
    println!(
        "{} records in {:.2} s ({:.0} k/s), {:.2} CPU-s/M, peak {:.1} MB",
        batches * per_batch,
        running.elapsed().as_secs_f64(),
        millions * 1e3 / running.elapsed().as_secs_f64(),
        (cpu - cpu_before).as_secs_f64() / millions,
        peak as f64 / 1024.0,
    );
    sink.close(Instant::now() + Duration::from_secs(10)).await.unwrap();
}
