//! A model of power failures, for tests.
//!
//! The sink's every change to the folder is journalled. From any prefix of the journal the model
//! builds states that a disk may be in after the power failed there, assuming no more than POSIX
//! promises: bytes are kept up to the last sync of their file, names up to the last sync of their
//! folder, and of everything later any part may or may not have made it. Recovery must then find
//! exactly the lines of the position it reports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and says where"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rowtide_sdk::{Completion, Held, Sink};
use tokio::sync::mpsc;

use super::config::{JsonlConfig, Rotate};
use super::disk::{Disk, MANIFEST, segment_path};
use super::{JsonlSink, recover};
use crate::lines::Stretches;
use crate::support;
use crate::units::{Age, ByteSize};

#[derive(Debug, Clone)]
enum Op {
    /// A topic's folder was made.
    Folder(String),
    /// A segment was made.
    Create(String, u64),
    /// Bytes went to the end of a file.
    Append(PathBuf, Vec<u8>),
    /// A file or folder was synced.
    Sync(PathBuf),
    /// A manifest, synced itself, took its name.
    Manifest(Vec<u8>),
    /// So many batches were about to be answered as durable.
    Committed(u64),
}

type Journals = Mutex<HashMap<PathBuf, Vec<Op>>>;

/// The journals of watched folders.
fn journals() -> &'static Journals {
    static JOURNALS: OnceLock<Journals> = OnceLock::new();
    JOURNALS.get_or_init(Journals::default)
}

/// Journals the changes of one folder, where a test watches it.
#[derive(Debug)]
pub(crate) struct Journal {
    root: PathBuf,
}

impl Journal {
    pub(crate) fn of(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn note(&self, op: impl FnOnce() -> Op) {
        if let Some(journal) = journals().lock().unwrap().get_mut(&self.root) {
            journal.push(op());
        }
    }

    pub(crate) fn folder(&self, topic: &str) {
        self.note(|| Op::Folder(topic.to_owned()));
    }

    pub(crate) fn create(&self, topic: &str, number: u64) {
        self.note(|| Op::Create(topic.to_owned(), number));
    }

    pub(crate) fn append(&self, path: &Path, lines: &Stretches, data: &[u8]) {
        self.note(|| {
            let mut bytes = Vec::new();
            lines.write(data, &mut bytes).unwrap();
            Op::Append(path.to_owned(), bytes)
        });
    }

    pub(crate) fn sync(&self, path: &Path) {
        self.note(|| Op::Sync(path.to_owned()));
    }

    pub(crate) fn replace_manifest(&self, bytes: &[u8]) {
        self.note(|| Op::Manifest(bytes.to_vec()));
    }

    pub(crate) fn committed(&self, batches: u64) {
        self.note(|| Op::Committed(batches));
    }
}

/// What is on a disk, with what is sure of it.
#[derive(Debug)]
struct Model {
    folders: BTreeMap<String, IsSynced>,
    segments: BTreeMap<PathBuf, Segment>,
    /// The manifests that may be found (at first none): the one that is sure, and later ones.
    manifests: Vec<Option<Vec<u8>>>,
    committed: u64,
}

type IsSynced = bool;

#[derive(Debug, Default)]
struct Segment {
    topic: String,
    is_name_synced: IsSynced,
    bytes: Vec<u8>,
    synced_bytes: usize,
}

impl Model {
    fn after(root: &Path, ops: &[Op]) -> Self {
        let mut model = Self {
            folders: BTreeMap::new(),
            segments: BTreeMap::new(),
            manifests: vec![None],
            committed: 0,
        };
        for op in ops {
            match op {
                Op::Folder(topic) => {
                    model.folders.insert(topic.clone(), false);
                }
                Op::Create(topic, number) => {
                    let segment = Segment { topic: topic.clone(), ..Segment::default() };
                    model.segments.insert(segment_path(root, topic, *number), segment);
                }
                Op::Append(path, bytes) => {
                    model.segments.get_mut(path).unwrap().bytes.extend_from_slice(bytes);
                }
                Op::Sync(path) => model.sync(root, path),
                Op::Manifest(bytes) => model.manifests.push(Some(bytes.clone())),
                Op::Committed(batches) => model.committed = *batches,
            }
        }
        model
    }

    fn sync(&mut self, root: &Path, path: &Path) {
        if let Some(segment) = self.segments.get_mut(path) {
            segment.synced_bytes = segment.bytes.len();
        } else if path == root {
            self.folders.values_mut().for_each(|synced| *synced = true);
            self.manifests.drain(..self.manifests.len().saturating_sub(1));
        } else {
            let of_folder = self.segments.iter_mut().filter(|(it, _)| it.parent() == Some(path));
            of_folder.for_each(|(_, segment)| segment.is_name_synced = true);
        }
    }

    /// Puts one possible state into `target`. `chance(n)` chooses below `n`.
    fn materialise(&self, root: &Path, target: &Path, mut chance: impl FnMut(usize) -> usize) {
        let mut lost_folders = Vec::new();
        for (topic, is_synced) in &self.folders {
            if *is_synced || chance(2) == 0 {
                fs::create_dir(target.join(topic)).unwrap();
            } else {
                lost_folders.push(topic);
            }
        }
        for (path, segment) in &self.segments {
            let is_there = segment.is_name_synced || chance(2) == 0;
            if !is_there || lost_folders.contains(&&segment.topic) {
                continue;
            }
            let unsure = segment.bytes.len() - segment.synced_bytes;
            let kept = segment.synced_bytes + chance(unsure + 1);
            let mut bytes = segment.bytes[..kept].to_vec();
            if chance(2) == 0 {
                // The length made it, the bytes did not.
                bytes[segment.synced_bytes..].fill(0);
            }
            fs::write(target.join(path.strip_prefix(root).unwrap()), bytes).unwrap();
        }
        if let Some(manifest) = &self.manifests[chance(self.manifests.len())] {
            fs::write(target.join(MANIFEST), manifest).unwrap();
        }
    }
}

/// Runs the sink over batches of the given sizes; a zero asks for a commit.
async fn run(dir: &Path, steps: &[u64], rotate: u64) {
    let rotate = Rotate { bytes: ByteSize(rotate), age: Age(Duration::from_secs(60)) };
    let mut sink = JsonlSink::new(JsonlConfig { rotate, fsync: false, ..JsonlConfig::new(dir) });
    assert!(matches!(sink.open().await.unwrap(), Held::Here(None)));
    let (reply, _outcomes) = mpsc::unbounded_channel();
    let (mut next, mut sequence) = (0, 0);
    for step in steps {
        if *step == 0 {
            sink.flush().await.unwrap();
            tokio::task::yield_now().await;
            continue;
        }
        let batch = support::workload(next, next + step);
        next += step;
        sink.submit(batch, Completion::new(sequence, reply.clone(), None)).await.unwrap();
        sequence += 1;
    }
    sink.close(Instant::now() + Duration::from_secs(10)).await.unwrap();
}

/// A folder in memory where there is one: thousands of states are built and thrown away, and none of
/// them needs a disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn after_a_power_failure_the_files_end_at_the_position(
        steps in prop::collection::vec(prop_oneof![3 => 1_u64..40, 1 => Just(0_u64)], 1..25),
        rotate in 500_u64..20_000,
        seed in any::<u64>(),
    ) {
        let dir = scratch();
        let root = dir.path().to_owned();
        journals().lock().unwrap().insert(root.clone(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&root, &steps, rotate));
        let ops = journals().lock().unwrap().remove(&root).unwrap();

        let sizes: Vec<u64> = steps.iter().copied().filter(|step| *step > 0).collect();
        let records_of = |batches: u64| sizes.iter().take(usize::try_from(batches).unwrap()).sum::<u64>();
        let mut random = seed;
        let mut chance = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % below
        };
        for end in 1..=ops.len() {
            let model = Model::after(&root, &ops[..end]);
            let target = scratch();
            model.materialise(&root, target.path(), &mut chance);
            let disk = Disk::lock(&JsonlConfig { fsync: false, ..JsonlConfig::new(target.path()) }).unwrap();
            let recovered = recover::recover(&disk).unwrap();
            let next = support::next_of(recovered.manifest.checkpoint().as_ref());
            prop_assert!(next >= records_of(model.committed), "an answered batch is lost");
            support::assert_same(&support::contents(target.path(), false), &support::expected(next));
        }
    }
}
