//! A throwaway MySQL or MariaDB.

use std::path::{Path, PathBuf};
use std::process::Command;

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

    /// Runs statements by the server's own client as root, and gives what it prints: rows without
    /// names, their columns apart by tabs, and `\` before what would be mistaken.
    ///
    /// # Panics
    /// Where the client or a statement fails.
    pub fn sql(&self, statements: &str) -> String {
        let output = Command::new(self.served.get("CLIENT"))
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", &format!("--socket={}", self.socket())])
            .args(["--execute", statements])
            .output();
        match output {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            Ok(output) => panic!("{statements}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("the client does not start: {error}"),
        }
    }

    /// The binlog files, in order, of which the last is being written.
    pub fn binlogs(&self) -> Vec<PathBuf> {
        let shown = self.sql("SHOW BINARY LOGS");
        let names = shown.lines().filter_map(|line| line.split('\t').next());
        names.map(|name| self.data().join(name)).collect()
    }
}
