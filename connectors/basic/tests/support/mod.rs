//! A workload whose every line is a function of its number, and what the files must then hold.

#![allow(dead_code, reason = "each user of this module needs a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rowtide_sdk::{BufferPool, Checkpoint, Position, Record, RecordBatch};

/// The topics of the workload.
pub(crate) const TOPICS: [&str; 3] =
    ["shop.public.orders", "shop.public.items", "shop.public.users"];

/// A batch of records: index of the topic, and the line or nothing (a tombstone).
pub(crate) fn batch(topics: &[&str], values: &[(u32, Option<&str>)]) -> RecordBatch {
    let mut batch = empty_batch(0);
    batch.topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
    for (topic, value) in values {
        push(&mut batch, *topic, *value);
    }
    batch
}

/// Adds a record.
pub(crate) fn push(batch: &mut RecordBatch, topic: u32, value: Option<&str>) {
    let value = value.map(|text| {
        let start = u32::try_from(batch.data.len()).unwrap();
        batch.data.extend_from_slice(text.as_bytes());
        let end = u32::try_from(batch.data.len()).unwrap();
        batch.data.push(b'\n');
        start..end
    });
    batch.records.push(Record { topic, key: None, value, to_all_partitions: false, headers: None });
}

/// A batch without records that moves the position to `next`.
pub(crate) fn empty_batch(next: u64) -> RecordBatch {
    RecordBatch {
        data: Vec::new(),
        topics: Vec::new(),
        records: Vec::new(),
        checkpoint: checkpoint(next),
        pool: BufferPool::default(),
    }
}

/// The checkpoint after all records below `next`.
pub(crate) fn checkpoint(next: u64) -> Checkpoint {
    Checkpoint {
        position: Position::new(format!("{{\"next\":{next}}}")),
        host: Arc::from("{\"schemas\":[]}"),
    }
}

/// The `next` of a checkpoint; 0 without one.
pub(crate) fn next_of(checkpoint: Option<&Checkpoint>) -> u64 {
    checkpoint.map_or(0, |checkpoint| {
        let json: serde_json::Value = serde_json::from_str(checkpoint.position.as_str()).unwrap();
        json["next"].as_u64().unwrap()
    })
}

/// Where record `n` goes.
pub(crate) fn topic_of(n: u64) -> u32 {
    // Runs of one topic and interleaved ones.
    u32::try_from((n / 7 + n % 3 / 2) % 3).unwrap()
}

/// The line of record `n`, without its line feed.
pub(crate) fn line_of(n: u64) -> String {
    let length = usize::try_from(n.wrapping_mul(2_654_435_761) % 200).unwrap();
    format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(length))
}

/// The batch of records `from..to`.
pub(crate) fn workload(from: u64, to: u64) -> RecordBatch {
    let mut batch = empty_batch(to);
    batch.topics = TOPICS.iter().map(|topic| Arc::from(*topic)).collect();
    for n in from..to {
        push(&mut batch, topic_of(n), Some(&line_of(n)));
    }
    batch
}

/// What each topic's files must hold once all records below `next` are committed.
pub(crate) fn expected(next: u64) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for n in 0..next {
        let topic = TOPICS[topic_of(n) as usize].to_owned();
        let text: &mut String = files.entry(topic).or_default();
        text.push_str(&line_of(n));
        text.push('\n');
    }
    files
}

/// What the files hold: segments in order, topics without a byte left out. With `limits`, only the
/// committed bytes, as a reader of the manifest sees them.
pub(crate) fn contents(dir: &Path, committed_only: bool) -> BTreeMap<String, String> {
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if !entry.path().is_dir() {
            continue;
        }
        let topic = entry.file_name().into_string().unwrap();
        let mut segments: Vec<_> =
            fs::read_dir(entry.path()).unwrap().map(|it| it.unwrap().path()).collect();
        segments.sort();
        let mut text = String::new();
        for path in segments {
            let number: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            if committed_only {
                let mark = &manifest["topics"][&topic];
                match number.cmp(&mark["segment"].as_u64().unwrap_or(0)) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => {
                        bytes.truncate(usize::try_from(mark["length"].as_u64().unwrap()).unwrap());
                    }
                    std::cmp::Ordering::Greater => continue,
                }
            }
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        if !text.is_empty() {
            files.insert(topic, text);
        }
    }
    files
}

/// Fails with the first difference rather than with megabytes of text.
pub(crate) fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "other topics"
    );
    for (topic, text) in expected {
        if found[topic] == *text {
            continue;
        }
        let pair = found[topic].lines().zip(text.lines()).enumerate().find(|(_, (a, b))| a != b);
        panic!(
            "{topic}: {} bytes found, {} expected, first difference {pair:?}",
            found[topic].len(),
            text.len()
        );
    }
}
