//! The fuzz targets under libFuzzer: one program for all, so that they are built once.
//!
//! `FUZZ_TARGET` names the target. `FUZZ_SEEDS` names a folder for its first inputs, which libFuzzer
//! is to be given as a corpus. An input's first byte chooses the check, so that each run of it is short
//! and its counters tell of one decoder; what is checked is behind it.
#![no_main]

#[path = "../../connectors/postgres/tests/types/checker.rs"]
mod checker;
mod frame;
#[path = "../../connectors/mysql/tests/fuzz/targets.rs"]
mod mysql;
#[path = "../../connectors/postgres/tests/fuzz/targets.rs"]
mod postgres;

use std::path::Path;
use std::sync::LazyLock;

use frame::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET");
    if name.starts_with("mysql_") { mysql::target(&name) } else { postgres::target(&name) }
});

fn write_seeds() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    for choice in 0..TARGET.checks.len() {
        for (index, seed) in TARGET.seeds.iter().enumerate() {
            let path = Path::new(&folder).join(format!("{choice}-{index}"));
            std::fs::write(path, [&[u8::try_from(choice).unwrap()][..], seed].concat()).unwrap();
        }
    }
}

fn run(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else { return };
    TARGET.checks[usize::from(choice) % TARGET.checks.len()](input);
}

fuzz_target!(init: write_seeds(), |input: &[u8]| run(input));
