//! Certificates for a server and a client, made by openssl.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A folder with an authority, another one, and certificates of the first for a server (localhost and
/// 127.0.0.1) and a client.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder };
        for name in ["ca", "other"] {
            made.openssl(&format!(
                "req -x509 -nodes -newkey rsa:2048 -days 3 -subj /CN={name} -keyout {name}.key -out {name}.pem"
            ));
        }
        made.signed("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        made.signed("client", "extendedKeyUsage=clientAuth");
        made
    }

    fn signed(&self, name: &str, extension: &str) {
        std::fs::write(self.folder.path().join("extension"), extension).unwrap();
        self.openssl(&format!(
            "req -nodes -newkey rsa:2048 -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3 \
             -extfile extension -out {name}.pem"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The settings of a server that has them.
    pub(crate) fn settings(&self) -> [String; 3] {
        let set = |option: &str, name: &str| format!("{option}={}", self.path(name));
        [set("ssl-ca", "ca.pem"), set("ssl-cert", "server.pem"), set("ssl-key", "server.key")]
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
