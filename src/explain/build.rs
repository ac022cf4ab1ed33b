//! Build script: embeds every page `src/explain/RTnnnn.md` into the binary.

#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/explain");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("src/explain");
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if stem.starts_with("RT") && path.extension().is_some_and(|extension| extension == "md") {
            pages.push(stem);
        }
    }
    pages.sort();
    let mut source = String::from("&[\n");
    for code in pages {
        // Not the folder's own path: a clone that has moved keeps what was built.
        let path = format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/src/explain/{code}.md\")");
        writeln!(source, "    ({code:?}, include_str!({path})),")?;
    }
    source.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("pages.rs"), source)?;
    Ok(())
}
