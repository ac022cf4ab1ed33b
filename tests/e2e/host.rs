//! Runs `rowtide` as a child process and reads what it left.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rowtide_testkit::Postgres;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The topic of the schema changes.
const SCHEMA_CHANGES: &str = "shop.schema_changes";

/// A folder with a configuration in it.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
}

/// What differs from test to test.
pub(crate) struct Options<'a> {
    pub(crate) url: &'a str,
    /// More lines of the source, indented by six.
    pub(crate) source: &'a str,
    /// The sink as YAML flow text.
    pub(crate) sink: String,
    /// More lines of the connector, indented by four.
    pub(crate) connector: &'a str,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A configuration from the server's tables to files, with nothing else set.
    pub(crate) fn to_files(server: &Postgres) -> Self {
        let setup = Self::new();
        let sink = setup.jsonl();
        setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
        setup
    }

    /// A configuration from the server's tables to standard output, with nothing else set but these
    /// lines of the source and of the connector.
    pub(crate) fn to_lines(server: &Postgres, source: &str, connector: &str) -> Self {
        let setup = Self::new();
        let sink = "{ type: stdout }".to_owned();
        setup.write(&Options { url: server.url(), source, sink, connector });
        setup
    }

    /// Every whole line that was printed, by all runs.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("lines")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts for the first time, and waits until changes are captured.
    pub(crate) fn first_start(&self) -> Running {
        let mut host = self.start();
        host.until_logged("the first position is saved");
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The jsonl sink's setting, into `out` of the folder.
    pub(crate) fn jsonl(&self) -> String {
        format!("{{ type: jsonl, dir: {} }}", self.path("out").display())
    }

    pub(crate) fn write(&self, options: &Options<'_>) {
        let mut text = format!(
            "connectors:\n  shop:\n    source:\n      type: postgres\n      url: {}\n      slot: e2e\n      publication: e2e\n      tables: {{ include: [\"public.*\"] }}\n{}    snapshot: never\n{}    sink: {}\n",
            options.url, options.source, options.connector, options.sink
        );
        writeln!(text, "state: {}", self.path("state").display()).unwrap();
        fs::write(self.path("rowtide.yaml"), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowtide"));
        command.args(arguments).arg("--config").arg(self.path("rowtide.yaml"));
        command
    }

    pub(crate) fn start(&self) -> Running {
        let log = fs::File::create(self.path("log")).unwrap();
        let lines = fs::File::options().create(true).append(true).open(self.path("lines")).unwrap();
        let child =
            self.command(&["run"]).stdin(Stdio::null()).stdout(lines).stderr(log).spawn().unwrap();
        Running { child, log: self.path("log") }
    }

    /// Runs to its end, as a refused start does.
    pub(crate) fn run_to_end(&self) -> (Option<i32>, String) {
        let mut running = self.start();
        let status = running.wait();
        (status, running.log())
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The envelopes of all topics in the folder, by topic.
    pub(crate) fn events(&self) -> BTreeMap<String, Vec<Value>> {
        let mut topics = self.records();
        topics.remove(SCHEMA_CHANGES);
        topics
    }

    /// The schema changes in the folder.
    pub(crate) fn schema_changes(&self) -> Vec<Value> {
        self.records().remove(SCHEMA_CHANGES).unwrap_or_default()
    }

    fn records(&self) -> BTreeMap<String, Vec<Value>> {
        let mut topics = BTreeMap::new();
        let Ok(entries) = fs::read_dir(self.path("out")) else { return topics };
        for entry in entries {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                continue;
            }
            let mut segments: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            segments.sort();
            let text: String =
                segments.iter().map(|segment| fs::read_to_string(segment).unwrap()).collect();
            // The last line may still be under way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let events = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            topics.insert(path.file_name().unwrap().to_string_lossy().into_owned(), events);
        }
        topics
    }

    pub(crate) fn count(&self) -> usize {
        self.events().values().map(Vec::len).sum()
    }
}

/// A running host.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then waits for the end.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.wait()
    }

    /// SIGSTOP, until [`Running::thaw`]: what happens meanwhile arrives at once.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("rowtide does not end:\n{}", self.log());
    }

    /// Waits until the condition holds, or fails with the log.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let since = Instant::now();
        while !holds() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("rowtide ended with {status} before: {what}\n{}", self.log());
            }
            assert!(since.elapsed() < PATIENCE, "not in time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub(crate) fn until_logged(&mut self, text: &str) {
        let log = self.log.clone();
        self.until(text, move || fs::read_to_string(&log).unwrap().contains(text));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ends a host that a failed test left behind; it may be gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `rowtide explain CODE`.
pub(crate) fn explain(code: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rowtide")).args(["explain", code]).output().unwrap()
}

/// Runs SQL in the server's `postgres` database.
pub(crate) fn sql(server: &Postgres, statements: &str) {
    runtime().block_on(async {
        let client = server.client("postgres").await;
        client.batch_execute(statements).await.unwrap();
    });
}

/// Runs statements one by one, each a transaction of its own unless they say otherwise. None may hold
/// a semicolon.
pub(crate) fn sql_each(server: &Postgres, statements: &str) {
    runtime().block_on(async {
        let client = server.client("postgres").await;
        for statement in statements.split(';') {
            client.batch_execute(statement).await.unwrap();
        }
    });
}

/// The first column of a query's only row, as text.
pub(crate) fn value(server: &Postgres, query: &str) -> String {
    runtime().block_on(async {
        let client = server.client("postgres").await;
        let rows = client.simple_query(query).await.unwrap();
        rows.iter()
            .find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .unwrap_or_default()
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Makes the folder unusable for writing even for the superuser, who ignores permissions: a file
/// stands where the folder should be.
pub(crate) fn block(path: &Path) {
    fs::write(path, "not a folder").unwrap();
}
