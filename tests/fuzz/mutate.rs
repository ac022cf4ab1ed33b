//! A moment of mutation for a fuzz target: its seeds, the committed corpus (`tests/fuzz/corpus`) and
//! inputs that failed once (`tests/fuzz/regressions`), then what becomes of them at random. A failure
//! prints the input in hexadecimal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::frame::{ROOT, Target};

/// A small generator: the same inputs in the same order each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// An input made of one or two of the corpus.
fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(8)).min(input.len());
        match random.below(5) {
            0 => drop(input.drain(at..end.max(at))),
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => input[at] = random.below(256) as u8,
            3 => {
                let copy = input[at..end.max(at)].to_vec();
                input.splice(at..at, copy);
            }
            _ => {
                let other = &corpus[random.below(corpus.len())];
                input.truncate(at);
                input.extend(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    input
}

/// Committed inputs without the byte that chooses the check: here all are run.
fn committed(folder: &str, name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(ROOT).join("tests/fuzz").join(folder).join(name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap().split_off(1)).collect()
}

pub(crate) fn fuzz(name: &str, target: Target) {
    let Target { checks, seeds } = target;
    let corpus = [seeds, committed("corpus", name), committed("regressions", name)].concat();
    let run = |input: &[u8]| {
        let all = || checks.iter().for_each(|check| check(input));
        if catch_unwind(AssertUnwindSafe(all)).is_err() {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fails on {hex}");
        }
    };
    corpus.iter().for_each(|input| run(input));
    let (started, mut random) = (Instant::now(), Random(0x9e37_79b9_7f4a_7c15));
    while started.elapsed() < Duration::from_millis(700) {
        run(&mutated(&mut random, &corpus));
    }
}
