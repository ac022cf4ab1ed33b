//! The jsonl sink through its public face.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rowtide_basic::jsonl::{JsonlConfig, JsonlSink, Rotate, check, stored_checkpoint};
use rowtide_basic::{Age, ByteSize};
use rowtide_sdk::{Class, Completion, Held, Outcome, RecordBatch, Severity, Sink, TopicSpec};
use tokio::sync::{Semaphore, mpsc};

/// A sink with the replies to everything submitted.
struct Open {
    sink: JsonlSink,
    reply: mpsc::UnboundedSender<Outcome>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    sequence: u64,
    /// What `open` said.
    next: u64,
}

impl Open {
    async fn new(config: JsonlConfig) -> Self {
        let mut sink = JsonlSink::new(config);
        let Held::Here(checkpoint) = sink.open().await.unwrap() else {
            panic!("the position is kept with the data");
        };
        let (reply, outcomes) = mpsc::unbounded_channel();
        let next = support::next_of(checkpoint.as_ref());
        Self { sink, reply, outcomes, sequence: 0, next }
    }

    async fn submit(&mut self, batch: RecordBatch) {
        let done = Completion::new(self.sequence, self.reply.clone(), None);
        self.sequence += 1;
        self.sink.submit(batch, done).await.unwrap();
    }

    async fn outcome(&mut self) -> Outcome {
        let next = tokio::time::timeout(Duration::from_secs(10), self.outcomes.recv());
        next.await.expect("an answer in time").unwrap()
    }

    /// Asks for a commit and waits until everything is answered.
    async fn commit(&mut self, answered: u64) {
        self.sink.flush().await.unwrap();
        for sequence in answered..self.sequence {
            let outcome = self.outcome().await;
            assert_eq!(outcome.sequence, sequence);
            outcome.result.unwrap();
        }
    }

    async fn close(mut self) {
        self.sink.close(Instant::now() + Duration::from_secs(10)).await.unwrap();
    }
}

fn config(dir: &Path) -> JsonlConfig {
    JsonlConfig { fsync: false, ..JsonlConfig::new(dir) }
}

async fn refusal(config: JsonlConfig) -> rowtide_sdk::Error {
    JsonlSink::new(config).open().await.expect_err("must be refused")
}

fn segments(dir: &Path, topic: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir.join(topic))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn manifest(dir: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn lines_and_position_are_committed_together_and_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("made/on/demand");
    let config = JsonlConfig::new(&dir);
    assert!(check(&config).is_empty());
    assert_eq!(stored_checkpoint(&config).unwrap(), None);
    let mut open = Open::new(config.clone()).await;
    assert_eq!(open.next, 0);
    for (from, to) in [(0, 10), (10, 11), (11, 300)] {
        open.submit(support::workload(from, to)).await;
    }
    open.commit(0).await;
    support::assert_same(&support::contents(&dir, true), &support::expected(300));
    // Progress alone is committed too.
    open.submit(support::empty_batch(305)).await;
    open.commit(3).await;
    assert_eq!(stored_checkpoint(&config).unwrap(), Some(support::checkpoint(305)));
    // What was not asked for is committed by the close.
    open.submit(support::workload(300, 310)).await;
    open.close().await;
    support::assert_same(&support::contents(&dir, false), &support::expected(310));
    let open = Open::new(config.clone()).await;
    assert_eq!(open.next, 310);
    let findings = check(&config);
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].severity, findings[0].code.0), (Severity::Info, "RT3501"));
}

#[tokio::test]
async fn tombstones_leave_no_line_and_a_truncate_leaves_one() {
    let temp = tempfile::tempdir().unwrap();
    let mut open = Open::new(config(temp.path())).await;
    let mut batch =
        support::batch(&["a", "b"], &[(0, Some("{\"op\":\"d\"}")), (0, None), (1, None)]);
    batch.records.iter_mut().for_each(|record| record.to_all_partitions = true);
    open.submit(batch).await;
    open.commit(0).await;
    let files = support::contents(temp.path(), true);
    assert_eq!(files.into_iter().collect::<Vec<_>>(), [("a".into(), "{\"op\":\"d\"}\n".into())]);
    assert!(!temp.path().join("b").exists());
}

#[tokio::test]
async fn uncommitted_bytes_are_dropped_at_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut open = Open::new(config(dir)).await;
    open.submit(support::workload(0, 50)).await;
    open.commit(0).await;
    open.submit(support::workload(50, 90)).await;
    drop(open);
    // A torn line, a segment and a topic that no commit knows.
    let path = dir.join(support::TOPICS[0]).join("0000000001.jsonl");
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"torn").unwrap();
    fs::write(dir.join(support::TOPICS[0]).join("0000000002.jsonl"), "{}\n").unwrap();
    fs::create_dir(dir.join("new.topic")).unwrap();
    fs::write(dir.join("new.topic/0000000001.jsonl"), "{}\n").unwrap();
    // None of these is the sink's.
    fs::write(dir.join(support::TOPICS[0]).join("notes.txt"), "mine").unwrap();
    fs::create_dir(dir.join("other")).unwrap();
    fs::write(dir.join("other/file.jsonl"), "mine").unwrap();

    let mut open = Open::new(config(dir)).await;
    assert!([50, 90].contains(&open.next));
    fs::remove_file(dir.join(support::TOPICS[0]).join("notes.txt")).unwrap();
    assert_eq!(fs::read_to_string(dir.join("other/file.jsonl")).unwrap(), "mine");
    fs::remove_dir_all(dir.join("other")).unwrap();
    assert!(!dir.join("new.topic").exists());
    support::assert_same(&support::contents(dir, false), &support::expected(open.next));
    let next = open.next;
    open.submit(support::workload(next, 200)).await;
    open.close().await;
    support::assert_same(&support::contents(dir, false), &support::expected(200));
}

#[tokio::test]
async fn a_second_writer_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let open = Open::new(config(temp.path())).await;
    let error = refusal(config(temp.path())).await;
    assert_eq!((error.code().0, error.class()), ("RT3501", Class::Transient));
    drop(open);
    Open::new(config(temp.path())).await;
}

#[tokio::test]
async fn folders_that_are_not_as_they_were_left_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::create_dir(dir.join("lost+found")).unwrap();
    let mut open = Open::new(config(dir)).await;
    open.submit(support::workload(0, 50)).await;
    open.close().await;
    let manifest = dir.join("manifest.json");
    let whole = fs::read(&manifest).unwrap();
    let refused_as = async |code: &str| {
        let error = refusal(config(dir)).await;
        assert_eq!((error.code().0, error.class()), (code, Class::Fatal), "{error}");
        assert!(error.remedy().is_some());
        let findings = check(&config(dir));
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].severity, findings[0].code.0), (Severity::Error, code));
    };

    fs::remove_file(&manifest).unwrap();
    refused_as("RT3502").await;
    for length in 0..whole.len() - 1 {
        fs::write(&manifest, &whole[..length]).unwrap();
        assert_eq!(stored_checkpoint(&config(dir)).unwrap_err().code().0, "RT3503");
    }
    refused_as("RT3503").await;
    fs::write(&manifest, &whole).unwrap();

    let segment = dir.join(support::TOPICS[1]).join("0000000001.jsonl");
    let lines = fs::read(&segment).unwrap();
    fs::write(&segment, &lines[..lines.len() - 1]).unwrap();
    refused_as("RT3504").await;
    fs::remove_file(&segment).unwrap();
    refused_as("RT3504").await;
    fs::write(&segment, &lines).unwrap();
    Open::new(config(dir)).await;
}

#[tokio::test]
async fn folders_that_cannot_be_used_are_fatal() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    // Nobody, root included, may make a folder in these.
    for dir in [file.join("below"), file, Path::new("/proc/rowtide").to_owned()] {
        let error = refusal(config(&dir)).await;
        assert_eq!((error.code().0, error.class()), ("RT3512", Class::Fatal), "{error}");
        let findings = check(&config(&dir));
        assert!(findings.iter().any(|it| it.severity == Severity::Error), "{}", dir.display());
    }
}

#[tokio::test]
async fn segments_rotate_by_size_and_finished_ones_may_go() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let rotate = Rotate { bytes: ByteSize(5_000), ..Rotate::default() };
    let config = JsonlConfig { rotate, ..config(dir) };
    let mut open = Open::new(config.clone()).await;
    for n in 0..100 {
        open.submit(support::workload(n * 10, n * 10 + 10)).await;
    }
    open.commit(0).await;
    support::assert_same(&support::contents(dir, true), &support::expected(1000));
    for topic in support::TOPICS {
        let names = segments(dir, topic);
        assert!(names.len() > 3, "{names:?}");
        assert_eq!(manifest(dir)["topics"][topic]["segment"], names.len());
        for name in &names {
            let text = fs::read_to_string(dir.join(topic).join(name)).unwrap();
            assert!(text.len() <= 5_000 && text.ends_with('\n'));
        }
    }
    open.close().await;
    // One record larger than a segment has a segment of its own.
    let mut open = Open::new(config.clone()).await;
    let large = "x".repeat(6_000);
    for text in ["1", large.as_str(), "2"] {
        open.submit(support::batch(&["large"], &[(0, Some(text))])).await;
    }
    open.close().await;
    let text = |name: &str| fs::read_to_string(dir.join("large").join(name)).unwrap();
    assert_eq!(segments(dir, "large").len(), 3);
    assert_eq!(text("0000000001.jsonl"), "1\n");
    assert_eq!(text("0000000002.jsonl"), format!("{large}\n"));
    assert_eq!(text("0000000003.jsonl"), "2\n");
    // An archiver takes the finished ones; a damaged one is no longer the sink's business.
    fs::remove_file(dir.join("large/0000000001.jsonl")).unwrap();
    fs::write(dir.join("large/0000000002.jsonl"), "").unwrap();
    let mut open = Open::new(config).await;
    open.submit(support::batch(&["large"], &[(0, Some("3"))])).await;
    open.close().await;
    assert_eq!(text("0000000003.jsonl"), "2\n3\n");
}

/// Waits until the manifest says whether the newest segment of `t` is finished.
async fn until_finished(dir: &Path) {
    let started = Instant::now();
    while manifest(dir)["topics"]["t"]["finished"] != true {
        assert!(started.elapsed() < Duration::from_secs(20), "never finished");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_old_segment_is_finished_without_new_lines_or_a_flush() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let age = Duration::from_secs(1);
    let rotate = Rotate { age: Age(age), ..Rotate::default() };
    let config = JsonlConfig { rotate, ..config(dir) };
    let mut open = Open::new(config.clone()).await;
    open.submit(support::batch(&["t"], &[(0, Some("1"))])).await;
    open.commit(0).await;
    assert_eq!(manifest(dir)["topics"]["t"]["finished"], false);
    until_finished(dir).await;
    // Not a byte is added to it, by this run or by the next; even its folder may go.
    open.submit(support::batch(&["t"], &[(0, Some("2"))])).await;
    open.commit(1).await;
    assert_eq!(segments(dir, "t"), ["0000000001.jsonl", "0000000002.jsonl"]);
    until_finished(dir).await;
    open.close().await;
    fs::remove_dir_all(dir.join("t")).unwrap();
    let mut open = Open::new(config.clone()).await;
    open.submit(support::batch(&["t"], &[(0, Some("3"))])).await;
    open.commit(0).await;
    assert_eq!(segments(dir, "t"), ["0000000003.jsonl"]);
    drop(open);
    // The age goes on while nothing runs.
    tokio::time::sleep(age).await;
    let mut open = Open::new(config).await;
    open.submit(support::batch(&["t"], &[(0, Some("4"))])).await;
    open.close().await;
    assert_eq!(segments(dir, "t"), ["0000000003.jsonl", "0000000004.jsonl"]);
}

#[tokio::test]
async fn more_topics_than_files_may_be_open() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let names: Vec<String> = (0..400).map(|n| format!("topic-{n:03}")).collect();
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    let values: Vec<(u32, Option<&str>)> = (0..400).map(|n| (n, Some("{}"))).collect();
    let mut open = Open::new(config(dir)).await;
    for _ in 0..3 {
        open.submit(support::batch(&topics, &values)).await;
    }
    open.commit(0).await;
    let files = support::contents(dir, true);
    assert_eq!(files.len(), 400);
    assert!(files.values().all(|text| text == "{}\n{}\n{}\n"));
    drop(open);
    Open::new(config(dir)).await;
}

#[tokio::test]
async fn memory_comes_back_before_the_commit_and_commits_start_by_themselves() {
    let temp = tempfile::tempdir().unwrap();
    let mut open = Open::new(config(temp.path())).await;
    let memory = Arc::new(Semaphore::new(1));
    let line = "x".repeat(1 << 20);
    // Nobody asks for a commit; 40 MiB are more than may stay uncommitted.
    for n in 0..40 {
        let permit = Arc::clone(&memory).acquire_owned();
        let permit = tokio::time::timeout(Duration::from_secs(10), permit).await.unwrap().unwrap();
        let batch = support::batch(&["t"], &[(0, Some(line.as_str()))]);
        let done = Completion::new(n, open.reply.clone(), Some(permit));
        open.sink.submit(batch, done).await.unwrap();
    }
    assert!(open.outcome().await.result.is_ok());
    assert!(manifest(temp.path())["topics"]["t"]["length"].as_u64().unwrap() >= 32 << 20);
}

#[tokio::test]
async fn a_manifest_replaced_by_somebody_else_fences() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut open = Open::new(config(dir)).await;
    open.submit(support::workload(0, 50)).await;
    open.commit(0).await;
    let older = fs::read(dir.join("manifest.json")).unwrap();
    open.submit(support::workload(50, 60)).await;
    open.commit(1).await;
    fs::write(dir.join("manifest.json"), &older).unwrap();
    open.submit(support::workload(60, 70)).await;
    open.sink.flush().await.unwrap();
    let error = open.outcome().await.result.unwrap_err();
    assert_eq!((error.code().0, error.class()), ("RT3505", Class::Fenced));
    assert_eq!(fs::read(dir.join("manifest.json")).unwrap(), older);
    let late = Completion::new(9, open.reply.clone(), None);
    assert!(open.sink.submit(support::workload(70, 80), late).await.is_err());
    assert!(open.outcome().await.result.is_err());
    assert!(open.sink.flush().await.is_err());
    assert!(open.sink.close(Instant::now() + Duration::from_secs(1)).await.is_err());
}

#[tokio::test]
async fn a_segment_cut_by_somebody_else_is_noticed_at_the_commit() {
    let temp = tempfile::tempdir().unwrap();
    let mut open = Open::new(config(temp.path())).await;
    open.submit(support::batch(&["t"], &[(0, Some("1"))])).await;
    open.commit(0).await;
    fs::write(temp.path().join("t/0000000001.jsonl"), "").unwrap();
    open.submit(support::batch(&["t"], &[(0, Some("2"))])).await;
    open.sink.flush().await.unwrap();
    let error = open.outcome().await.result.unwrap_err();
    assert_eq!((error.code().0, error.class()), ("RT3504", Class::Fatal));
}

#[tokio::test]
async fn a_position_is_set_outside_a_run() {
    let temp = tempfile::tempdir().unwrap();
    let config = JsonlConfig::new(temp.path());
    let mut sink = JsonlSink::new(config.clone());
    sink.store_position(&support::checkpoint(77)).await.unwrap();
    assert!(sink.store_position(&support::checkpoint(78)).await.is_ok());
    sink.close(Instant::now() + Duration::from_secs(5)).await.unwrap();
    assert_eq!(stored_checkpoint(&config).unwrap(), Some(support::checkpoint(78)));
    drop(sink);
    assert_eq!(Open::new(config).await.next, 78);
}

#[tokio::test]
async fn topics_are_checked_before_use() {
    let temp = tempfile::tempdir().unwrap();
    let mut open = Open::new(config(temp.path())).await;
    let spec = |name: &str| TopicSpec {
        name: Arc::from(name),
        max_record_bytes: 1 << 20,
        keyless: None,
        keeps_newest: false,
    };
    assert!(!open.sink.prepare(&spec("shop.public.orders")).await.unwrap().compacts);
    assert_eq!(open.sink.prepare(&spec("lock")).await.unwrap_err().code().0, "RT3506");
    open.submit(support::batch(&["../outside"], &[(0, Some("{}"))])).await;
    assert_eq!(open.outcome().await.result.unwrap_err().code().0, "RT3506");
}

#[derive(Debug, Clone)]
enum Step {
    Submit(u64),
    Flush,
    Commit,
    Crash,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1_u64..60).prop_map(Step::Submit),
        2 => Just(Step::Flush),
        1 => Just(Step::Commit),
        2 => Just(Step::Crash),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..40)
}

async fn exactly_once(dir: &Path, steps: &[Step], rotate: u64) {
    let rotate = Rotate { bytes: ByteSize(rotate), ..Rotate::default() };
    let config = JsonlConfig { rotate, ..config(dir) };
    let mut open = Open::new(config.clone()).await;
    let (mut next, mut answered, mut committed) = (0, 0, 0);
    for step in steps {
        match step {
            Step::Submit(count) => {
                open.submit(support::workload(next, next + count)).await;
                next += count;
            }
            Step::Flush => open.sink.flush().await.unwrap(),
            Step::Commit => {
                open.commit(answered).await;
                (answered, committed) = (open.sequence, next);
            }
            Step::Crash | Step::Close => {
                if matches!(step, Step::Close) {
                    open.close().await;
                    committed = next;
                } else {
                    drop(open);
                }
                open = Open::new(config.clone()).await;
                assert!((committed..=next).contains(&open.next), "{committed}..={next}");
                (next, answered, committed) = (open.next, 0, open.next);
                support::assert_same(&support::contents(dir, false), &support::expected(next));
            }
        }
        // Answers that came meanwhile without being waited for.
        while let Ok(outcome) = open.outcomes.try_recv() {
            outcome.result.unwrap();
            answered = outcome.sequence + 1;
        }
    }
    open.close().await;
    support::assert_same(&support::contents(dir, false), &support::expected(next));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_hold_the_committed_prefix_after_any_run(
        steps in steps(),
        rotate in prop_oneof![Just(1_u64 << 30), 500_u64..20_000],
    ) {
        let temp = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(exactly_once(temp.path(), &steps, rotate));
    }
}
