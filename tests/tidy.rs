//! The house rules that a machine can hold: who may know whom, sizes, headers, words, and generated
//! files that are committed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::fs;
use std::path::{Path, PathBuf};

use rowtide::registry::KINDS;

/// Lines of a source file at most, without the tests at its end; a longer one wants its parts named.
const LINES_MAX: usize = 650;
/// The same with the tests.
const LINES_WITH_TESTS_MAX: usize = 900;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that belongs to the project, relative to its root.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // In a linked work tree `.git` is a file.
            if [".git", "target", "quickstart-data", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                if !path.is_symlink() {
                    walk(&path, out);
                }
            // Of a linked work tree `.git` is a file.
            } else if name != ".git" {
                out.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut out = Vec::new();
    walk(root(), &mut out);
    out.sort();
    out
}

fn text(path: &Path) -> Option<String> {
    fs::read(root().join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

fn rust_files() -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.clone(), text(&path).unwrap()))
        .collect()
}

/// Fails with every finding.
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The names under `[dependencies]` of a package that belong to this workspace.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let manifest = text(Path::new(manifest)).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("rowtide")).map(str::to_owned).collect()
}

/// The crates of floor 0: the contract, and what connectors share.
const FLOOR_0: [&str; 3] = ["net", "sdk", "spool"];

#[test]
fn connectors_depend_on_floor_0_alone() {
    assert_eq!(own_dependencies("connectors/sdk/Cargo.toml"), [""; 0]);
    for folder in fs::read_dir(root().join("connectors")).unwrap() {
        let name = folder.unwrap().file_name().to_string_lossy().into_owned();
        let own = own_dependencies(&format!("connectors/{name}/Cargo.toml"));
        let is_connector = !FLOOR_0.contains(&name.as_str());
        let allowed = if is_connector { &FLOOR_0[..] } else { &["sdk"] };
        let is_allowed =
            |own: &String| allowed.iter().any(|allowed| *own == format!("rowtide-{allowed}"));
        assert!(own.iter().all(is_allowed), "{name} depends on {own:?}");
        let knows_the_contract = own.iter().any(|own| own == "rowtide-sdk");
        assert!(knows_the_contract || !is_connector, "{name} does not depend on the sdk");
    }
}

/// The modules of floor 2 and which of the others each may use.
const FLOOR_2: [(&str, &[&str]); 7] = [
    ("config", &["ops"]),
    ("envelope", &["config", "schema"]),
    ("schema", &["config"]),
    ("offsets", &["schema"]),
    ("pipeline", &["config", "envelope", "offsets", "ops", "schema"]),
    ("ops", &["config"]),
    ("explain", &[]),
];

#[test]
fn the_host_knows_no_connector_and_floors_hold() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let mut parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        if parts.next().as_deref() != Some("src") {
            continue;
        }
        let module = parts.next().unwrap_or_default();
        let Some((_, allowed)) = FLOOR_2.iter().find(|(name, _)| *name == module) else { continue };
        for other in ["rowtide_postgres::", "rowtide_kafka::", "rowtide_basic::", "rowtide_spool::"]
        {
            if text.contains(other) {
                wrong.push(format!("{} names {other}", path.display()));
            }
        }
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        for used in production.split("crate::").skip(1) {
            let used: String =
                used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_module = FLOOR_2.iter().any(|(name, _)| *name == used)
                || ["cli", "registry"].contains(&used.as_str());
            let is_fine = !is_module || used == module || allowed.contains(&used.as_str());
            if !is_fine {
                wrong.push(format!("{} uses crate::{used}", path.display()));
            }
        }
    }
    none(&wrong);
}

/// Invariant A1: these do no I/O. Tests at the end of a file may.
#[test]
fn pure_parts_do_no_io() {
    let pure = [
        "src/config/amounts.rs",
        "src/config/checks.rs",
        "src/config/connector.rs",
        "src/config/navigate.rs",
        "src/config/raw.rs",
        "src/config/schema.rs",
        "src/config/verdict.rs",
        "src/envelope/",
        "src/schema/",
        "src/pipeline/acks.rs",
        "src/pipeline/backoff.rs",
        "connectors/postgres/src/decode/",
        "connectors/postgres/src/pgoutput",
        "connectors/postgres/src/stream/assemble",
        "connectors/postgres/src/stream/spool/",
        "connectors/mysql/src/binlog/",
        "connectors/mysql/src/charset",
        "connectors/mysql/src/decode/",
        "connectors/mysql/src/gtid/",
        "connectors/spool/src/blocks.rs",
        "connectors/spool/src/config.rs",
        "connectors/mysql/src/statement/",
    ];
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let name = path.to_string_lossy().into_owned();
        if pure.iter().any(|part| name.starts_with(part)) && !name.contains("tests") {
            let production = text.split("#[cfg(test)]").next().unwrap_or_default();
            for io in ["std::fs", "std::net", "std::env", "tokio::fs", "tokio::net", "async fn"] {
                if production.contains(io) {
                    wrong.push(format!("{name} uses {io}"));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn files_begin_with_what_they_are_for() {
    let files = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(&files.map(|(path, _)| format!("{} has no header", path.display())).collect::<Vec<_>>());
}

#[test]
fn files_stay_small_enough_to_read() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files() {
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let (own, all) = (production.lines().count(), text.lines().count());
        if own > LINES_MAX || all > LINES_WITH_TESTS_MAX {
            wrong.push(format!("{} has {all} lines, {own} without tests", path.display()));
        }
    }
    none(&wrong);
}

#[test]
fn the_tree_holds_no_foreign_paths_and_no_unfinished_work() {
    // Put together here, so that this file does not hold them itself.
    let paths = [["/work", "/"].concat(), ["/home", "/"].concat()];
    let words = ["TO_DO", "FIX_ME", "X_XX", "H_ACK"].map(|word| word.replace('_', ""));
    let mut wrong = Vec::new();
    for path in files() {
        let Some(text) = text(&path) else { continue };
        let name = path.to_string_lossy().into_owned();
        for foreign in paths.iter().filter(|foreign| text.contains(foreign.as_str())) {
            wrong.push(format!("{name} names {foreign}"));
        }
        if name.ends_with(".rs") || name.ends_with(".sh") || name.ends_with(".md") {
            let mut found = text.split(|c: char| !c.is_ascii_alphanumeric());
            if let Some(word) = found.find(|word| words.iter().any(|banned| banned == word)) {
                wrong.push(format!("{name} holds {word}"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn the_top_level_holds_what_it_should() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "connectors",
        "schemas",
        "tests",
        "docker",
        "examples",
        "benches",
        "README.md",
        "Makefile",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "clippy.toml",
        "rustfmt.toml",
        "target",
        "quickstart-data",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name}");
    }
}

/// `BLESS=1 cargo test --test tidy` writes the file anew.
#[test]
fn the_committed_configuration_schema_is_the_generated_one() {
    let path = root().join("schemas/config.schema.json");
    let generated = rowtide::config::schema_text(&KINDS);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "run BLESS=1 cargo test --test tidy");
}

#[test]
fn the_configuration_schema_is_valid_and_says_what_each_field_is_for() {
    let schema = rowtide::config::schema_document(&KINDS);
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
    jsonschema::validator_for(&schema).unwrap();
    fn walk(schema: &serde_json::Value, place: &str) {
        // Else a text of another form could not be told which it must have.
        let says_its_form = schema.get("pattern").is_none()
            || schema.get("patternErrorMessage").is_some_and(|words| {
                words.as_str().is_some_and(|words| words.starts_with("must be "))
            });
        assert!(says_its_form, "{place} has a pattern and no patternErrorMessage");
        if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
            for (name, property) in properties {
                let is_described = property.get("description").is_some() || name == "type";
                assert!(is_described, "{place}.{name} has no description");
                walk(property, &format!("{place}.{name}"));
            }
        }
    }
    walk(&schema, "");
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        walk(definition, name);
    }
}
