//! A throwaway MySQL or MariaDB.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::script::Served;

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
}

impl Flavor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mysql, Self::Mariadb];

    /// `mysql` or `mariadb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }
}

/// A throwaway server with a binlog in row format, users `root` (unix socket) and `rowtide` (TCP).
#[derive(Debug)]
pub struct Mysql {
    served: Served,
}

impl Mysql {
    /// Starts a server, and says which on stdout. `args` are settings (`binlog_row_metadata=FULL`).
    ///
    /// `None`, after a line on stderr, where it cannot be had: the test returns.
    ///
    /// # Panics
    /// Where it cannot be had and `CI=true`.
    pub fn start(flavor: Flavor, args: &[&str]) -> Option<Self> {
        let script = match flavor {
            Flavor::Mysql => "mysql.sh",
            Flavor::Mariadb => "mariadb.sh",
        };
        let served = Served::start(script, &[], args)?;
        println!("{} started", flavor.name());
        Some(Self { served })
    }

    /// `mysql://rowtide:rowtide@127.0.0.1:PORT/`.
    pub fn url(&self) -> &str {
        self.served.get("URL")
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.served.get("PORT").parse().unwrap_or_default()
    }

    /// The file of the unix socket.
    pub fn socket(&self) -> &str {
        self.served.get("SOCKET")
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        Path::new(self.served.get("DATA"))
    }

    /// Stops the server, as its service manager does, or as a power failure does.
    pub fn halt(&mut self, crash: bool) {
        self.served.again(if crash { &["halt", "--crash"] } else { &["halt"] });
    }

    /// Starts a halted server again.
    pub fn resume(&mut self) {
        self.served.again(&["resume"]);
    }

    /// Runs statements by the server's own client as root, and gives what it prints: a line per row
    /// without names, columns apart by tabs, nothing escaped.
    ///
    /// # Panics
    /// Where the client or a statement fails.
    pub fn sql(&self, statements: &str) -> String {
        match self.run(statements) {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Ok(output) => {
                panic!("{statements:.300}: {}", String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => panic!("the client does not run: {error}"),
        }
    }

    fn run(&self, statements: &str) -> std::io::Result<Output> {
        // From a file: a pipe would fill up where the client answers before it has read all.
        let mut input = tempfile::tempfile()?;
        input.write_all(statements.as_bytes())?;
        input.rewind()?;
        Command::new(self.served.get("CLIENT"))
            .args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", "--max-allowed-packet=64M"])
            .arg(format!("--socket={}", self.socket()))
            .stdin(input)
            .output()
    }

    /// The binlog files, in order, of which the last is being written.
    pub fn binlogs(&self) -> Vec<PathBuf> {
        let shown = self.sql("SHOW BINARY LOGS");
        let names = shown.lines().filter_map(|line| line.split('\t').next());
        names.map(|name| self.data().join(name)).collect()
    }
}
