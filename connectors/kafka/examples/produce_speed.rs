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
//! set too. `RATE` (records a second) paces the sending; `SINGLES` first sends so many lone records,
//! 20 ms apart, and prints how long each took to be acknowledged.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example that prints figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_kafka::{KafkaConfig, KafkaLimits, KafkaSink};
use rowtide_sdk::{
    AllHeaders, BufferPool, Checkpoint, Completion, Outcome, Position, Record, RecordBatch,
    RecordHeaders, Sink, TopicSpec,
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

/// A sink with its topics, and what is sent through it.
struct Run {
    sink: KafkaSink,
    topics: Vec<Arc<str>>,
    template: Template,
    pool: BufferPool,
    reply: mpsc::UnboundedSender<Outcome>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    memory: usize,
    per_batch: usize,
}

impl Run {
    /// Opens the sink, prepares its topics and waits for the first record.
    async fn start() -> Self {
        let started = Instant::now();
        let per_batch = env("BATCH", 600);
        let memory = env("MEMORY_MIB", 32) * 1024 * 1024;
        let mut section: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&env("CONFIG", "{}".to_owned())).unwrap();
        section.insert("brokers".into(), env("BROKERS", "127.0.0.1:9092".to_owned()).into());
        let config: KafkaConfig = serde_json::from_value(section.into()).unwrap();
        let limits = KafkaLimits { memory_bytes: memory, max_record_bytes: 1 << 20 };
        let mut sink = KafkaSink::new(config, limits).unwrap();
        sink.open().await.unwrap();
        let opened = started.elapsed();
        let name = env("TOPIC", "produce_speed".to_owned());
        let topics: Vec<Arc<str>> =
            (0..env("KINDS", 1)).map(|n| Arc::from(format!("{name}.{n}"))).collect();
        for name in &topics {
            let spec = TopicSpec {
                name: Arc::clone(name),
                max_record_bytes: 1 << 20,
                keyless: None,
                keeps_newest: false,
            };
            sink.prepare(&spec).await.unwrap();
        }
        let prepared = started.elapsed();
        let headers = env("HEADERS", "none".to_owned());
        let template = template(u32::try_from(per_batch).unwrap(), &headers);
        let (reply, outcomes) = mpsc::unbounded_channel();
        let pool = BufferPool::default();
        let mut run = Self { sink, topics, template, pool, reply, outcomes, memory, per_batch };
        run.send_one().await;
        println!(
            "open {} ms, topics ready {} ms, first record acknowledged {} ms, then {} kB",
            opened.as_millis(),
            prepared.as_millis(),
            started.elapsed().as_millis(),
            usage().1
        );
        run
    }

    async fn send_one(&mut self) {
        let one = batch(&self.template, self.topics.first().unwrap(), 1, &self.pool);
        let done = Completion::new(0, self.reply.clone(), None);
        self.sink.submit(one, done).await.unwrap();
        self.outcomes.recv().await.unwrap().result.unwrap();
    }

    /// Sends lone records and prints how long they took.
    async fn send_singles(&mut self, count: usize) {
        let mut took = Vec::new();
        for _ in 0..count {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let sent = Instant::now();
            self.send_one().await;
            took.push(sent.elapsed());
        }
        took.sort();
        if let (Some(p50), Some(p99)) = (took.get(count / 2), took.get(count * 99 / 100)) {
            println!("lone records acknowledged after {p50:.1?} (p50), {p99:.1?} (p99)");
        }
    }

    /// Sends `count` batches at `rate` records a second and waits for all of them.
    async fn send_all(&mut self, count: usize, rate: f64) {
        let running = Instant::now();
        let permits = Arc::new(Semaphore::new(self.memory));
        let cost = u32::try_from(self.template.data.len()).unwrap();
        let mut answered = 0;
        for (sequence, topic) in self.topics.iter().cycle().take(count).enumerate() {
            let due = Duration::from_secs_f64((sequence * self.per_batch) as f64 / rate);
            tokio::time::sleep_until((running + due).into()).await;
            let permit = Arc::clone(&permits).acquire_many_owned(cost).await.unwrap();
            let done = Completion::new(sequence as u64, self.reply.clone(), Some(permit));
            let batch = batch(&self.template, topic, self.per_batch, &self.pool);
            self.sink.submit(batch, done).await.unwrap();
            while let Ok(outcome) = self.outcomes.try_recv() {
                outcome.result.unwrap();
                answered += 1;
            }
        }
        while answered < count {
            self.outcomes.recv().await.unwrap().result.unwrap();
            answered += 1;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut run = Run::start().await;
    run.send_singles(env("SINGLES", 0)).await;
    let batches = env("N", 1_000_000_usize).div_ceil(run.per_batch);
    let (cpu_before, _) = usage();
    let running = Instant::now();
    run.send_all(batches, env("RATE", f64::INFINITY)).await;
    let (cpu, peak) = usage();
    let records = batches * run.per_batch;
    let millions = records as f64 / 1e6;
    println!(
        "{records} records in {:.2} s ({:.0} k/s), {:.2} CPU-s/M, peak {:.1} MB",
        running.elapsed().as_secs_f64(),
        millions * 1e3 / running.elapsed().as_secs_f64(),
        (cpu - cpu_before).as_secs_f64() / millions,
        peak as f64 / 1024.0,
    );
    run.sink.close(Instant::now() + Duration::from_secs(10)).await.unwrap();
}
