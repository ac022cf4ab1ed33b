//! Every error code of the source has a page, and every page a code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rowtide::explain;

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "tests" && name != "examples" {
            rust_files(&path, out);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            out.push(path);
        }
    }
}

/// The codes that the sources can give, with one file that does. Tests at the end of a file may use
/// codes that do not exist.
fn codes() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    rust_files(&root.join("connectors"), &mut files);
    let mut codes = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for part in production.split("Code(\"").skip(1) {
            let code = part.split('"').next().unwrap();
            codes.insert(code.to_owned(), file.clone());
        }
        for word in production.split(|c: char| !c.is_ascii_alphanumeric()) {
            let digits = word.strip_prefix("RT").unwrap_or_default();
            if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
                codes.entry(word.to_owned()).or_insert_with(|| file.clone());
            }
        }
    }
    codes
}

#[test]
fn every_code_has_a_page() {
    let pages: BTreeSet<&str> = explain::all().map(|page| page.code).collect();
    let missing: Vec<String> = codes()
        .into_iter()
        .filter(|(code, _)| !pages.contains(code.as_str()))
        .map(|(code, file)| format!("{code} of {}", file.display()))
        .collect();
    assert!(missing.is_empty(), "codes without a page in src/explain:\n{}", missing.join("\n"));
}

#[test]
fn every_page_has_a_code() {
    let codes = codes();
    let unused: Vec<_> =
        explain::all().map(|page| page.code).filter(|code| !codes.contains_key(*code)).collect();
    assert!(unused.is_empty(), "pages whose code nothing gives: {unused:?}");
}

#[test]
fn pages_are_well_formed() {
    for page in explain::all() {
        let code = page.code;
        let digits = code.strip_prefix("RT").unwrap_or_default();
        assert!(digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()), "{code}");
        let first = page.text.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("# {code}: ")), "{code}: the title is {first:?}");
        let title = page.title();
        assert!(!title.is_empty() && title.len() <= 70 && !title.ends_with('.'), "{code}: {title}");
        let sections: Vec<&str> =
            page.text.lines().filter(|line| line.starts_with("## ")).collect();
        let wanted = ["## What it means", "## How to see it", "## What to do"];
        assert_eq!(sections, wanted, "{code}");
        for section in page.text.split("\n## ").skip(1) {
            let body = section.split_once('\n').map(|(_, body)| body.trim()).unwrap_or_default();
            assert!(!body.is_empty(), "{code}: an empty section");
        }
        assert!(page.text.ends_with('\n'), "{code}: no line feed at the end");
    }
}
