//! What the README and the examples show works as it stands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::Path;

use rowtide::config::{self, Environment};
use rowtide::explain;
use rowtide::registry::KINDS;

const VARIABLES: [(&str, &str); 7] = [
    ("PG_PASSWORD", "x"),
    ("KAFKA_PASSWORD", "x"),
    ("QUICKSTART_PG_URL", "postgres://u@h/db"),
    ("QUICKSTART_MYSQL_URL", "mysql://u:p@h:3306/"),
    ("QUICKSTART_TABLES", "public.*"),
    ("QUICKSTART_DIR", "/data"),
    ("QUICKSTART_BROKERS", "b:1"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of YAML in a Markdown text.
fn yaml_blocks(markdown: &str) -> Vec<&str> {
    markdown.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn load(name: &str, text: &str) {
    let environment = Environment::from_iter(VARIABLES);
    let loaded = config::load_text(Path::new(name), text, &environment, &KINDS);
    loaded.unwrap_or_else(|problems| panic!("{name}: {problems}\n{text}"));
}

#[test]
fn the_readme_shows_valid_configurations() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = yaml_blocks(&readme);
    assert_eq!(blocks.len(), 2);
    blocks.into_iter().for_each(|block| load("README.yaml", block));
}

#[test]
fn pages_show_valid_configurations() {
    for page in explain::all() {
        let whole = yaml_blocks(page.text).into_iter();
        whole.filter(|text| text.starts_with("connectors:")).for_each(|text| {
            load(&format!("{}.yaml", page.code), text);
        });
    }
}

#[test]
fn the_quickstart_has_valid_configurations() {
    for name in ["postgres.yaml", "postgres-kafka.yaml", "mysql.yaml", "mysql-kafka.yaml"] {
        let text = fs::read_to_string(root().join("examples/quickstart").join(name)).unwrap();
        load(name, &text);
    }
}

/// Links within the repository lead somewhere.
#[test]
fn links_lead_to_files() {
    for name in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_local = !target.is_empty() && !target.contains("://");
            assert!(!is_local || root().join(target).exists(), "{name} links to {target}");
        }
    }
}

/// The exit codes of the README are those of the program.
#[test]
fn the_readme_and_the_help_state_the_same_exit_codes() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_rowtide")).arg("--help").output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<(&str, &str)> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(number, _)| number.parse::<u8>().is_ok())
        .collect();
    assert_eq!(rows.len(), 8);
    for (number, meaning) in rows {
        assert!(help.contains(&format!("{number:>5}  {meaning}")), "{number} {meaning}");
    }
}
