//! The fuzz targets under libFuzzer: one program for all, so that they are built once.
//!
//! `FUZZ_TARGET` names the target. `FUZZ_SEEDS` names a folder for its first inputs, which libFuzzer
//! is to be given as a corpus.
#![no_main]

#[path = "../../connectors/postgres/tests/fuzz/targets.rs"]
mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use targets::{Target, target};

static TARGET: LazyLock<Target> =
    LazyLock::new(|| target(&std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET")));

fn write_seeds() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (index, seed) in TARGET.seeds.iter().enumerate() {
        std::fs::write(std::path::Path::new(&folder).join(index.to_string()), seed).unwrap();
    }
}

fuzz_target!(init: write_seeds(), |input: &[u8]| (TARGET.check)(input));
