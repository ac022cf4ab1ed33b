//! A throwaway PostgreSQL.

use std::path::Path;

use tokio_postgres::NoTls;

use crate::script::Served;

/// A throwaway PostgreSQL with `wal_level=logical`, superuser `postgres`, database `postgres`.
#[derive(Debug)]
pub struct Postgres {
    served: Served,
}

/// The major versions that tests of several versions use: `ROWTIDE_TEST_POSTGRES` (separated by
/// white space), else 15 and 18.
pub fn postgres_versions() -> Vec<String> {
    let chosen = std::env::var("ROWTIDE_TEST_POSTGRES").unwrap_or_default();
    let versions: Vec<String> = chosen.split_whitespace().map(str::to_owned).collect();
    if versions.is_empty() { vec!["15".to_owned(), "18".to_owned()] } else { versions }
}

impl Postgres {
    /// Starts a server of a major version. `args` are settings (`wal_sender_timeout=2s`) and options
    /// of `tests/servers/postgres.sh start` (`--tls`, `--auth`, `scram-sha-256`, `--hba`, …).
    ///
    /// `None`, after a line on stderr, where it cannot be had: the test returns.
    ///
    /// # Panics
    /// Where it cannot be had and `CI=true`.
    pub fn start(version: &str, args: &[&str]) -> Option<Self> {
        let served = Served::start("postgres.sh", &[version], args)?;
        Some(Self { served })
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> &str {
        self.served.get("URL")
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.served.get("PORT").parse().unwrap_or_default()
    }

    /// The folder of the unix socket; connections over it are always trusted.
    pub fn socket(&self) -> &str {
        self.served.get("SOCKET")
    }

    /// The postmaster's process id. It changes with [`Postgres::resume`].
    pub fn pid(&self) -> u32 {
        self.served.get("PID").parse().unwrap_or_default()
    }

    /// With `--tls`: the authority that signed the server's certificate.
    pub fn ca(&self) -> &str {
        self.served.get("CA")
    }

    /// With `--tls`: an authority that signed nothing.
    pub fn other_ca(&self) -> &str {
        self.served.get("OTHER_CA")
    }

    /// With `--tls`: a certificate of the user `postgres`.
    pub fn client_cert(&self) -> &str {
        self.served.get("CLIENT_CERT")
    }

    /// With `--tls`: the key of [`Postgres::client_cert`].
    pub fn client_key(&self) -> &str {
        self.served.get("CLIENT_KEY")
    }

    /// The server's log file.
    pub fn log(&self) -> &Path {
        Path::new(self.served.get("LOG"))
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        Path::new(self.served.get("DATA"))
    }

    /// The folder given to the script; a test may put files of its own there.
    pub fn folder(&self) -> &Path {
        self.served.folder()
    }

    /// An SQL connection to `database` as the superuser, over the unix socket.
    ///
    /// # Panics
    /// Where the connection fails.
    pub async fn client(&self, database: &str) -> tokio_postgres::Client {
        let connected = tokio_postgres::Config::new()
            .host_path(self.socket())
            .port(self.port())
            .user("postgres")
            .dbname(database)
            .connect(NoTls)
            .await;
        match connected {
            Ok((client, connection)) => {
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        eprintln!("a test's SQL connection ended: {error}");
                    }
                });
                client
            }
            Err(error) => panic!("the test's own SQL connection failed: {error}"),
        }
    }

    /// Starts a standby that streams from this server, which is stopped and started again for it.
    /// `args` are settings (`sync_replication_slots=on`). It uses the physical slot `replica`: create it
    /// here before, or it takes a while.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn replica(&mut self, args: &[&str]) -> Self {
        let of = self.folder().to_string_lossy().into_owned();
        let Some(served) = Served::start_as("replica", "postgres.sh", &[&of], args) else {
            panic!("a replica cannot be started where its primary was")
        };
        self.served.again(&["env"]);
        Self { served }
    }

    /// Stops the server and keeps its data and port: a fast shutdown, or a crash.
    pub fn halt(&mut self, crash: bool) {
        self.served.again(if crash { &["halt", "--crash"] } else { &["halt"] });
    }

    /// Starts a halted server again.
    pub fn resume(&mut self) {
        self.served.again(&["resume"]);
    }
}
