//! How the source is run by a stand-in for the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rowtide_mysql::{MyPosition, MysqlConfig, MysqlSource};
use rowtide_sdk::{Error, KnownTable, Limits, Note, Position, Reporter, Sightings};
pub(crate) use rowtide_testkit::host::Host;
use rowtide_testkit::host::Run;
use rowtide_testkit::{Flavor, Mysql};
use serde_json::json;

/// A server with tables that the log describes whole; `None` where it cannot be had.
pub(crate) fn server(flavor: Flavor, settings: &[&str]) -> Option<Mysql> {
    let mut all = vec!["binlog_row_metadata=FULL"];
    all.extend(settings);
    Mysql::start(flavor, &all)
}

/// The same without GTIDs on MySQL, which then lets a transaction change tables of all engines.
pub(crate) fn server_without_gtids(flavor: Flavor) -> Option<Mysql> {
    match flavor {
        Flavor::Mysql => server(flavor, &["gtid_mode=OFF", "enforce_gtid_consistency=OFF"]),
        Flavor::Mariadb => server(flavor, &[]),
    }
}

/// How a source is run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: serde_json::Value,
    pub(crate) resume: Option<Position>,
    pub(crate) known_tables: Vec<KnownTable>,
    pub(crate) limits: Limits,
    pub(crate) report: Reporter,
    /// The folder for what is set aside.
    pub(crate) scratch: PathBuf,
}

impl Setup {
    /// A source of every table but those whose names begin with `unwanted`.
    pub(crate) fn new(server: &Mysql) -> Self {
        let config = json!({
            "url": server.url(),
            "tables": { "exclude": ["*.unwanted*"] },
            "connect_timeout_seconds": 5,
            "heartbeat_seconds": 1,
        });
        let limits = Limits { spool_memory: 1 << 20, ..Limits::default() };
        let scratch = server.data().with_file_name("spool");
        Self {
            config,
            resume: None,
            known_tables: Vec::new(),
            limits,
            report: Reporter::default(),
            scratch,
        }
    }

    /// With another setting.
    pub(crate) fn set(mut self, name: &str, value: serde_json::Value) -> Self {
        self.config[name] = value;
        self
    }

    /// With batches of so many entries.
    pub(crate) fn rows(mut self, rows: usize) -> Self {
        self.limits.batch_rows = rows;
        self
    }

    pub(crate) fn from(self, position: Option<Position>) -> Self {
        Self { resume: position, ..self }
    }

    pub(crate) fn source(&self) -> MysqlSource {
        let config: MysqlConfig = serde_json::from_value(self.config.clone()).unwrap();
        MysqlSource::new(config, Path::new("/")).unwrap()
    }

    pub(crate) fn run(&self) -> Host {
        let setup = self.clone();
        Host::start(Run {
            source: Arc::new(move || Box::new(setup.source())),
            resume: self.resume.clone(),
            known_tables: self.known_tables.clone(),
            limits: self.limits,
            report: self.report.clone(),
            scratch: self.scratch.clone(),
            reselection: Arc::new(|_| Vec::new()),
            hiding: None,
            sightings: Sightings::default(),
            note: Note::default(),
            claims: "mysql/",
            // A source that was killed lets go of its folder a moment later.
            busy: Some("RT2305"),
        })
    }

    /// A host whose source streams.
    pub(crate) async fn ready(&self) -> Host {
        let mut host = self.run();
        host.ready().await;
        let since = std::time::Instant::now();
        while !self.report.is_streaming() {
            assert!(since.elapsed() < Duration::from_secs(20), "the source does not stream");
            host.during(Duration::from_millis(10)).await;
        }
        host
    }

    /// The error with which a run ends at once.
    pub(crate) async fn refusal(&self) -> Error {
        self.run().refusal().await
    }
}

/// Where a host's position stands in the log.
pub(crate) trait Place {
    fn place(&self) -> MyPosition;
}

impl Place for Host {
    fn place(&self) -> MyPosition {
        MyPosition::parse(self.position.as_ref().unwrap()).unwrap()
    }
}

/// The files of a session, and the bytes in them.
pub(crate) fn spooled(scratch: &Path) -> (usize, u64) {
    let files: Vec<u64> = match std::fs::read_dir(scratch) {
        Ok(entries) => entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect(),
        Err(_) => Vec::new(),
    };
    (files.len(), files.iter().sum())
}
