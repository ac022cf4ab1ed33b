//! A throwaway MySQL of `tests/servers/mysql.sh`, and its client.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static STARTED: AtomicU32 = AtomicU32::new(0);

/// Stopped and removed on drop, and by the script's own watcher where the test is killed.
pub(crate) struct Server {
    folder: PathBuf,
    env: String,
}

fn script() -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/mysql.sh");
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

impl Server {
    /// `None` after a loud line where the server cannot be had.
    ///
    /// # Panics
    /// Where it cannot be had and `CI=true`.
    pub(crate) fn start() -> Option<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let owner = std::process::id().to_string();
        let folder = std::env::temp_dir().join(format!("rowtide-json-{owner}-{number}"));
        fs::create_dir_all(&folder).expect("a folder for the server");
        let mut server = Self { folder, env: String::new() };
        let args = ["--owner", &owner, "character-set-server=utf8mb4", "max-allowed-packet=64M"];
        let output =
            script().arg("start").arg(&server.folder).args(args).output().expect("the script runs");
        if output.status.success() {
            server.env = String::from_utf8(output.stdout).expect("text");
            server.sql_in("", "create database json");
            return Some(server);
        }
        let why = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            panic!("a server for this test could not be started: {why}");
        }
        eprintln!("TEST SKIPPED, no server (mysql.sh): {why}");
        None
    }

    /// One value that the script printed.
    fn get(&self, name: &str) -> &str {
        let value = |line| str::strip_prefix(line, name).and_then(|rest| rest.strip_prefix('='));
        self.env.lines().find_map(value).expect("the script prints it")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.get("DATA").into()
    }

    /// Runs statements in the database `json`; what they answer, a line per row, tabs between
    /// columns, nothing escaped.
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.sql_in("json", statements)
    }

    fn sql_in(&self, database: &str, statements: &str) -> String {
        let path = self.folder.join("statements.sql");
        fs::write(&path, statements).expect("statements are written");
        let output = Command::new(self.get("CLIENT"))
            .args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", "--max-allowed-packet=64M"])
            .arg(format!("--socket={}", self.get("SOCKET")))
            .arg(format!("--database={database}"))
            .stdin(File::open(&path).expect("statements are read"))
            .output()
            .expect("the client runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = script().arg("stop").arg(&self.folder).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("the server in {} was not stopped", self.folder.display());
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}
