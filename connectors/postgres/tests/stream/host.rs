//! How the PostgreSQL source is run by a stand-in for the host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rowtide_postgres::{ConnectOptions, PgPosition, PostgresConfig, PostgresSource};
use rowtide_sdk::{
    Error, Finding, Hidden, Hiding, KeyLookup, KnownTable, Limits, Note, Position, Preflight,
    Reporter, Reselection, Sightings,
};
use rowtide_testkit::Postgres;
use rowtide_testkit::host::{ClaimsOf, Run};
pub(crate) use rowtide_testkit::host::{Event, Host, PATIENCE};
use serde_json::json;

/// What begins every name that the source claims.
const CLAIMS: &str = "postgres/";

/// A column that the settings leave out of events.
pub(crate) const HIDDEN: &str = "hidden";

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
    /// The tables whose values are read back.
    pub(crate) reselects: Vec<String>,
    /// The table, by its exact name, whose settings hide the column `ssn`.
    pub(crate) hides: Option<&'static str>,
    /// Under which names tables were seen.
    pub(crate) sightings: Sightings,
    /// What runs note for the next.
    pub(crate) note: Note,
    /// What runs of one process share.
    process: Option<PostgresSource>,
}

impl Setup {
    /// A source of `database` with slot and publication named after it.
    pub(crate) fn new(server: &Postgres, database: &str) -> Self {
        let config = json!({
            "url": format!("postgres://postgres@127.0.0.1:{}/{database}", server.port()),
            "slot": database,
            "publication": database,
            "tables": { "include": ["*.*"], "exclude": ["*.unwanted*"] },
            "connect_timeout_seconds": 3,
        });
        let limits = Limits { max_event: 16 << 20, ..Limits::default() };
        let report = Reporter::default();
        let scratch = server.folder().join("spool").join(database);
        Self {
            config,
            resume: None,
            known_tables: Vec::new(),
            limits,
            report,
            scratch,
            reselects: Vec::new(),
            hides: None,
            sightings: Sightings::default(),
            note: Note::default(),
            process: None,
        }
    }

    /// All runs from here on are of one process.
    pub(crate) fn in_one_process(self) -> Self {
        Self { process: Some(self.source()), ..self }
    }

    /// Has values of a table read back.
    pub(crate) fn reselect(mut self, table: &str) -> Self {
        self.reselects.push(table.to_owned());
        self
    }

    fn reselection(&self) -> Reselection {
        let names = self.reselects.clone();
        Arc::new(move |table| {
            let columns = table.columns.iter().enumerate();
            let wanted = columns.filter(|(_, column)| column.may_be_unchanged);
            let is_named = names.contains(&table.name);
            wanted.map(|(index, _)| index).filter(|_| is_named).collect()
        })
    }

    fn hiding(&self) -> Option<Hiding> {
        let hides = self.hides?;
        Some(Hiding::new(["ssn".to_owned()], move |_, table| match table == hides {
            true => Hidden { columns: vec!["ssn".to_owned()], is_named: true },
            false => Hidden::default(),
        }))
    }

    pub(crate) fn set(mut self, field: &str, value: serde_json::Value) -> Self {
        self.config[field] = value;
        self
    }

    pub(crate) fn rows(mut self, batch_rows: usize) -> Self {
        self.limits.batch_rows = batch_rows;
        self
    }

    pub(crate) fn from(mut self, resume: Option<Position>) -> Self {
        self.resume = resume;
        self
    }

    pub(crate) fn source_config(&self) -> PostgresConfig {
        serde_json::from_value(self.config.clone()).unwrap()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        self.source_config().connect_options(Path::new("/")).unwrap()
    }

    pub(crate) fn source(&self) -> PostgresSource {
        if let Some(source) = &self.process {
            return source.clone();
        }
        let source = PostgresSource::new(self.source_config(), Path::new("/")).unwrap();
        source.reconcile_every(Duration::from_millis(500))
    }

    /// How the source connects.
    pub(crate) fn source_options(&self) -> ConnectOptions {
        let config: PostgresConfig = serde_json::from_value(self.config.clone()).unwrap();
        config.connect_options(Path::new("/")).unwrap()
    }

    pub(crate) async fn check(&self) -> Vec<Finding> {
        self.check_keys(&|_, _| None).await
    }

    pub(crate) async fn check_keys(&self, keys: KeyLookup<'_>) -> Vec<Finding> {
        let reselects = |_: &str, table: &str| self.reselects.iter().any(|name| name == table);
        let resume = self.resume.as_ref();
        let hiding = self.hiding();
        let known = Preflight {
            keys,
            sets_aside: &|_, _| false,
            reselects: &reselects,
            excludes: &|_, _, column| column == HIDDEN,
            hiding: hiding.as_ref(),
            sightings: &self.sightings,
            resume,
            is_first_start: resume.is_none(),
            claims: &ClaimsOf(CLAIMS),
            name: "test",
            scratch: Some(&self.scratch),
        };
        rowtide_postgres::check(&self.source(), known).await
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
            reselection: self.reselection(),
            hiding: self.hiding(),
            sightings: self.sightings.clone(),
            note: self.note.clone(),
            claims: CLAIMS,
            busy: Some("RT2118"),
        })
    }

    /// The error with which a run ends at once.
    pub(crate) async fn refusal(&self) -> Error {
        self.run().refusal().await
    }
}

/// Where a host's position stands in PostgreSQL's log.
pub(crate) trait Place {
    fn place(&self) -> PgPosition;
}

impl Place for Host {
    fn place(&self) -> PgPosition {
        PgPosition::parse(self.position.as_ref().unwrap()).unwrap()
    }
}
