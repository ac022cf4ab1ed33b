//! Whatever pages, remedies and documents quote as a command is one.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Cli;

/// The files below `folder` that end with `extension`, without tests.
fn files(folder: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "tests", "node_modules"].contains(&name.as_str()) {
            files(&path, extension, out);
        } else if name.ends_with(extension) && name != "tests.rs" {
            out.push(path);
        }
    }
}

/// A source file's texts in one line each, without comments and the tests at its end.
fn texts(source: &str) -> String {
    let production = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let mut text = String::new();
    for line in production.lines().filter(is_code) {
        match line.strip_suffix('\\') {
            Some(part) => text.push_str(part.trim_start()),
            None => {
                text.push_str(line.trim_start());
                text.push('\n');
            }
        }
    }
    text
}

/// The commands between backticks, and those at the start of a line of an example.
fn commands(text: &str, is_markdown: bool) -> Vec<String> {
    let quoted = text.split("`rowtide ").skip(1).filter_map(|rest| rest.split('`').next());
    let lines = text.lines().filter(|_| is_markdown);
    let shown = lines.filter_map(|line| line.strip_prefix("rowtide "));
    let shown = shown.filter_map(|line| line.split('#').next());
    quoted.chain(shown).map(str::to_owned).collect()
}

/// What a command may be written for: with what stands in brackets, and without; placeholders filled
/// in. What follows a pipe is another program.
fn forms(command: &str) -> Vec<Vec<String>> {
    let command = command.split('|').next().unwrap_or_default();
    let fill = |word: &str| match word.trim_matches(['[', ']']) {
        "PROVIDER" => "self".to_owned(),
        "ADDRESS" => "127.0.0.1:9187".to_owned(),
        word => word.to_owned(),
    };
    let words = |keeps: &dyn Fn(&&str) -> bool| {
        let words = command.split_whitespace().filter(keeps).map(fill);
        std::iter::once("rowtide".to_owned()).chain(words).collect()
    };
    vec![words(&|_| true), words(&|word| !word.starts_with('['))]
}

fn is_command(words: &[String]) -> bool {
    match Cli::try_parse_from(words) {
        Ok(_) => true,
        Err(error) => {
            matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
        }
    }
}

/// A command's bare name, for speaking of it, is written without `rowtide` before it.
#[test]
fn every_command_that_is_quoted_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "connectors"] {
        files(&root.join(folder), ".rs", &mut paths);
    }
    for folder in ["src", "connectors", "schemas", "examples", "benches"] {
        files(&root.join(folder), ".md", &mut paths);
    }
    paths.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root.join(name)));
    let (mut count, mut wrong) = (0, Vec::new());
    for path in paths.iter().filter(|path| !path.ends_with("cli/quoted.rs")) {
        let text = fs::read_to_string(path).unwrap();
        let is_markdown = path.extension().is_some_and(|extension| extension == "md");
        let text = if is_markdown { text } else { texts(&text) };
        for command in commands(&text, is_markdown) {
            count += 1;
            if !forms(&command).iter().all(|words| is_command(words)) {
                wrong.push(format!("{}: rowtide {command}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(count > 80, "only {count} were found");
}

#[test]
fn what_is_no_command_is_found() {
    let text =
        texts("// `rowtide nothing`\n\"run `rowtide position \\\n   adopt` and `rowtide check`\"");
    assert_eq!(commands(&text, false), ["position adopt", "check"]);
    let verdict = |command: &str| forms(command).iter().all(|words| is_command(words));
    assert!(!verdict("position adopt") && !verdict("position adopt NAME") && !verdict("slot"));
    assert!(verdict("position adopt --connector NAME") && verdict("explain [CODE]"));
    assert!(verdict("check --print-sql [PROVIDER]") && verdict("run | head"));
}
