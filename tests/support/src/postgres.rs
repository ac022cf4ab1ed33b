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

/// The version to start where a test asks for `wanted`.
fn version_for(wanted: &str, chosen: &[String]) -> String {
    let is_chosen = |version: &&String| version.as_str() == wanted;
    chosen
        .iter()
        .find(is_chosen)
        .or_else(|| chosen.first())
        .map_or(wanted, String::as_str)
        .to_owned()
}

/// Says that a test of a hazard does not apply to a version, and why; the proof's table shows it.
/// The test returns then.
pub fn not_applicable(why: &str) {
    println!("not applicable: {why}");
}

impl Postgres {
    /// Starts a server of a major version, and says which on stdout. Where `ROWTIDE_TEST_POSTGRES`
    /// names versions and not this one, the first of those is started, so that tests of one version
    /// follow too. `args` are settings (`wal_sender_timeout=2s`) and options of
    /// `tests/servers/postgres.sh start` (`--tls`, `--auth`, `scram-sha-256`, `--hba`, …).
    ///
    /// `None`, after a line on stderr, where it cannot be had: the test returns.
    ///
    /// # Panics
    /// Where it cannot be had and `CI=true`.
    pub fn start(version: &str, args: &[&str]) -> Option<Self> {
        let version = match std::env::var_os("ROWTIDE_TEST_POSTGRES") {
            Some(_) => version_for(version, &postgres_versions()),
            None => version.to_owned(),
        };
        let served = Served::start("postgres.sh", &[&version], args)?;
        println!("PostgreSQL {version} started");
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

#[cfg(test)]
mod tests {
    use super::version_for;

    #[test]
    fn tests_of_one_version_follow_the_chosen_ones() {
        let chosen = ["16".to_owned(), "17".to_owned()];
        assert_eq!(version_for("17", &chosen), "17");
        assert_eq!(version_for("15", &chosen), "16");
    }
}
