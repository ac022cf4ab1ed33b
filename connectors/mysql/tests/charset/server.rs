//! A throwaway MySQL or MariaDB, and its own client to talk to it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rowtide_mysql::charset::Charset;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    MySql,
    MariaDb,
}

pub(crate) struct Server {
    pub(crate) flavor: Flavor,
    folder: PathBuf,
    env: BTreeMap<String, String>,
}

impl Flavor {
    fn script(self) -> PathBuf {
        let name = match self {
            Self::MySql => "mysql.sh",
            Self::MariaDb => "mariadb.sh",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers").join(name)
    }
}

impl Server {
    /// Starts a server; `None` after one loud line where it cannot be had, a panic with `CI=true`.
    pub(crate) fn start(flavor: Flavor) -> Option<Self> {
        let owner = std::process::id().to_string();
        let folder = std::env::temp_dir().join(format!("rowtide-test-charset-{flavor:?}-{owner}"));
        std::fs::create_dir_all(&folder).unwrap();
        let output = Command::new(flavor.script())
            .args(["start".as_ref(), folder.as_os_str(), "--owner".as_ref(), owner.as_ref()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let env = text.lines().filter_map(|line| line.split_once('='));
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // Dropped, it stops whatever was started and removes the folder.
        let server = Self { flavor, folder, env };
        if output.status.success() {
            let version = server.rows("select version()").remove(0).remove(0);
            println!("{flavor:?} {version} started");
            return Some(server);
        }
        let why = String::from_utf8_lossy(&output.stderr);
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "a server for this test could not be started: {why}");
        eprintln!("TEST SKIPPED, no server ({flavor:?}): {}", why.trim_end().replace('\n', " | "));
        None
    }

    /// What the last statement of `sql` gives, NULL as the client writes it.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let mut client = Command::new(&self.env["CLIENT"])
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", &format!("--socket={}", self.env["SOCKET"])])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The client answers when it has all of a statement, so nothing waits for the other.
        client.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{sql:.300}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// MySQL takes the first byte of a character that is cut off for nothing, in eucjpms alone.
    pub(crate) fn drops_cut_off(&self, charset: Charset) -> bool {
        self.flavor == Flavor::MySql && charset == Charset::Eucjpms
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let status = Command::new(self.flavor.script())
            .args(["stop".as_ref(), self.folder.as_os_str()])
            .stdin(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} was not stopped", self.folder.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}
