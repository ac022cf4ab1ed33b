//! The jsonl sink in processes of its own: killed, locked out, out of space.
//!
//! The writing process is this test binary again, started with [`DIR`] set: it writes the workload
//! from the committed position on and prints a line for everything answered.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail, and says where"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rowtide_basic::jsonl::{JsonlConfig, JsonlSink, Rotate, check, stored_checkpoint};
use rowtide_basic::{Age, ByteSize};
use rowtide_sdk::{Class, Completion, Held, Result, Sink};
use tokio::sync::mpsc;

const DIR: &str = "ROWTIDE_TEST_JSONL_DIR";
/// Where to stop; without, the child writes until it is killed.
const UNTIL: &str = "ROWTIDE_TEST_JSONL_UNTIL";

/// The body of the child; does nothing when run as a test.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let until = std::env::var(UNTIL).ok().map(|text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(write(Path::new(&dir), until)) {
        Ok(next) => println!("\nclosed {next}"),
        Err(error) => println!("\nfailed {:?} {error}", error.class()),
    }
    for finding in check(&config(Path::new(&dir))) {
        println!("found {}", finding.code.0);
    }
}

fn config(dir: &Path) -> JsonlConfig {
    // A few segments in each round, and some finished by age.
    let rotate = Rotate { bytes: ByteSize(100_000), age: Age(Duration::from_millis(30)) };
    JsonlConfig { rotate, ..JsonlConfig::new(dir) }
}

async fn write(dir: &Path, until: Option<u64>) -> Result<u64> {
    let mut sink = JsonlSink::new(config(dir));
    let Held::Here(checkpoint) = sink.open().await? else { panic!("the position is here") };
    let mut next = support::next_of(checkpoint.as_ref());
    println!("\nopened {next}");
    let (reply, mut outcomes) = mpsc::unbounded_channel();
    let (mut sequence, mut ends) = (0, Vec::new());
    while until.is_none_or(|until| next < until) {
        let to = next + 1 + next.wrapping_mul(7919) % 60;
        let batch = support::workload(next, to);
        next = to;
        ends.push(to);
        sink.submit(batch, Completion::new(sequence, reply.clone(), None)).await?;
        sequence += 1;
        if sequence.is_multiple_of(5) {
            sink.flush().await?;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        while let Ok(outcome) = outcomes.try_recv() {
            outcome.result?;
            println!("durable {}", ends[usize::try_from(outcome.sequence).unwrap()]);
        }
    }
    sink.close(Instant::now() + Duration::from_secs(20)).await?;
    Ok(next)
}

/// Starts the child; `shell` runs before it and may set limits or mounts.
fn start(dir: &Path, until: Option<u64>, shell: &str) -> Child {
    let binary = std::env::current_exe().unwrap();
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(format!("{shell} exec \"$0\" --exact child --nocapture --test-threads 1"))
        .arg(binary)
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if let Some(until) = until {
        command.env(UNTIL, until.to_string());
    }
    command.spawn().unwrap()
}

/// The number that follows `word` on a whole line.
fn number(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok()
}

/// Reads lines until one starts with `word`.
fn wait_for(stdout: &mut BufReader<ChildStdout>, word: &str) -> u64 {
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        if let Some(number) = number(line.trim_end(), word) {
            return number;
        }
        line.clear();
    }
    panic!("the child ended without \"{word}\"");
}

/// Runs the child to its end and returns its last word.
fn last_word(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let is_word = |line: &&str| line.starts_with("closed ") || line.starts_with("failed ");
    text.lines().find(is_word).unwrap_or_else(|| panic!("no last word in {text}")).to_owned()
}

#[test]
fn killed_at_any_moment_every_record_is_there_once() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dropped_rounds = 0;
    for round in 0..50 {
        let before = support::next_of(stored_checkpoint(&config(dir)).unwrap().as_ref());
        let mut child = start(dir, None, "");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        assert_eq!(wait_for(&mut stdout, "opened"), before, "round {round}");
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_micros(random >> 49));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        // The last line may be cut in the middle of its number.
        let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let durable = whole.lines().filter_map(|line| number(line, "durable")).max();

        let next = support::next_of(stored_checkpoint(&config(dir)).unwrap().as_ref());
        assert!(next >= durable.unwrap_or(before), "round {round}: an answered batch is lost");
        support::assert_same(&support::contents(dir, true), &support::expected(next));
        if support::contents(dir, false) != support::contents(dir, true) {
            dropped_rounds += 1;
        }
    }
    let next = support::next_of(stored_checkpoint(&config(dir)).unwrap().as_ref());
    assert!(dropped_rounds > 5, "only {dropped_rounds} kills hit uncommitted bytes");
    assert!(next > 1000, "only {next} records were committed in all rounds");
    let word = last_word(start(dir, Some(next + 1000), ""));
    let end = number(&word, "closed").unwrap_or_else(|| panic!("{word}"));
    support::assert_same(&support::contents(dir, false), &support::expected(end));
}

#[test]
fn a_second_process_is_refused_and_names_the_first() {
    let temp = tempfile::tempdir().unwrap();
    let mut first = start(temp.path(), None, "");
    let mut stdout = BufReader::new(first.stdout.take().unwrap());
    wait_for(&mut stdout, "opened");
    // Its answers must not fill the pipe.
    let reader = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let word = last_word(start(temp.path(), Some(1), ""));
    assert!(word.starts_with(&format!("failed {:?} RT3501", Class::Fenced)), "{word}");
    assert!(word.contains(&format!("process {}", first.id())), "{word}");
    first.kill().unwrap();
    first.wait().unwrap();
    reader.join().unwrap().unwrap();
}

#[test]
fn a_file_size_limit_is_fatal_and_leaves_the_last_commit() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    // In blocks of 1 KiB; without the trap the signal would end the process.
    let word = last_word(start(dir, Some(100_000), "trap '' XFSZ; ulimit -f 40;"));
    assert!(word.starts_with(&format!("failed {:?} RT3511", Class::Fatal)), "{word}");
    let next = support::next_of(stored_checkpoint(&config(dir)).unwrap().as_ref());
    support::assert_same(&support::contents(dir, true), &support::expected(next));
    let word = last_word(start(dir, Some(next + 500), ""));
    let end = number(&word, "closed").unwrap_or_else(|| panic!("{word}"));
    support::assert_same(&support::contents(dir, false), &support::expected(end));
}

#[test]
fn a_full_disk_is_transient_and_leaves_the_last_commit() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, kept) = (temp.path().join("disk"), temp.path().join("kept"));
    std::fs::create_dir(&disk).unwrap();
    // A file system of 1 MiB that only this shell and its child see; its files are copied out.
    let script = format!(
        "mount -t tmpfs -o size=1m none '{0}' || exit 0; \"$0\" --exact child --nocapture; \
         cp -r '{0}' '{1}'",
        disk.display(),
        kept.display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DIR, &disk)
        .env(UNTIL, "100000")
        .output();
    if !kept.exists() {
        eprintln!("skipped: this system lets no one mount in a namespace of their own");
        return;
    }
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let word = text.lines().find(|line| line.starts_with("failed ")).unwrap_or(&text);
    assert!(word.starts_with(&format!("failed {:?} RT3510", Class::Transient)), "{word}");
    assert!(text.lines().any(|line| line == "found RT3510"), "the preflight tells it too: {text}");
    let next = support::next_of(stored_checkpoint(&config(&kept)).unwrap().as_ref());
    support::assert_same(&support::contents(&kept, true), &support::expected(next));
    let word = last_word(start(&kept, Some(next + 500), ""));
    let end = number(&word, "closed").unwrap_or_else(|| panic!("{word}"));
    support::assert_same(&support::contents(&kept, false), &support::expected(end));
}
