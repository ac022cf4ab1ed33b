//! Running one of the server scripts and reading what it prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A server started by a script in a folder of its own.
#[derive(Debug)]
pub(crate) struct Served {
    script: PathBuf,
    folder: TempDir,
    env: BTreeMap<String, String>,
}

/// The path of a script in `tests/servers`.
fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../servers").join(name)
}

/// Runs a script; its stdout on success, else its stderr.
fn run(script: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(script)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }
}

fn parse_env(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl Served {
    /// `SCRIPT start BEFORE… FOLDER --owner PID ARGS…`; `None` after a loud line where that fails,
    /// a panic with `CI=true`.
    pub(crate) fn start(script: &str, before: &[&str], args: &[&str]) -> Option<Self> {
        Self::start_as("start", script, before, args)
    }

    /// As [`Served::start`] with another command than `start`.
    pub(crate) fn start_as(
        command: &str,
        script: &str,
        before: &[&str],
        args: &[&str],
    ) -> Option<Self> {
        match Self::try_start(command, script, before, args) {
            Ok(served) => Some(served),
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                panic!("a server for this test could not be started: {why}")
            }
            Err(why) => {
                eprintln!("TEST SKIPPED, no server ({script} {}): {why}", before.join(" "));
                None
            }
        }
    }

    fn try_start(
        command: &str,
        script: &str,
        before: &[&str],
        args: &[&str],
    ) -> Result<Self, String> {
        let script = script_path(script);
        let folder = tempfile::Builder::new()
            .prefix("rowtide-test-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let owner = std::process::id().to_string();
        let path = folder.path().to_string_lossy().into_owned();
        let mut all = vec![command];
        all.extend(before);
        all.extend([path.as_str(), "--owner", owner.as_str()]);
        all.extend(args);
        let env = parse_env(&run(&script, &all)?);
        Ok(Self { script, folder, env })
    }

    /// One value that the script printed.
    pub(crate) fn get(&self, name: &str) -> &str {
        match self.env.get(name) {
            Some(value) => value,
            None => panic!("the server's script printed no {name}; it printed {:?}", self.env),
        }
    }

    /// The folder of the server: `log` is in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `SCRIPT ARGS… FOLDER` for this server and takes over what it prints.
    pub(crate) fn again(&mut self, args: &[&str]) {
        let path = self.folder.path().to_string_lossy().into_owned();
        let mut all = args.to_vec();
        all.push(&path);
        match run(&self.script, &all) {
            Ok(text) => self.env.extend(parse_env(&text)),
            Err(why) => panic!("{} {}: {why}", self.script.display(), args.join(" ")),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let path = self.folder.path().to_string_lossy().into_owned();
        if let Err(why) = run(&self.script, &["stop", &path]) {
            eprintln!("stopping {path}: {why}");
        }
    }
}
