//! A throwaway single-node Kafka.

use std::path::Path;

use crate::script::Served;

/// A throwaway single-node Kafka (KRaft). Topics are not created on first use.
#[derive(Debug)]
pub struct Kafka {
    served: Served,
}

impl Kafka {
    /// Starts a broker. `args` are broker properties (`message.max.bytes=…`) and options of
    /// `tests/servers/kafka.sh start` (`--secure`).
    ///
    /// `None`, after a line on stderr, where it cannot be had: the test returns.
    ///
    /// # Panics
    /// Where it cannot be had and `CI=true`.
    pub fn start(args: &[&str]) -> Option<Self> {
        let served = Served::start("kafka.sh", &[], args)?;
        Some(Self { served })
    }

    /// `127.0.0.1:PORT` of the plain listener.
    pub fn brokers(&self) -> &str {
        self.served.get("BROKERS")
    }

    /// Any value the script prints: `PORT`, `PID`, `LOG`, and with `--secure` `SASL_PORT`,
    /// `SSL_PORT`, `SASL_SSL_PORT`, `CA`, `OTHER_CA`, `USERNAME`, `PASSWORD`.
    ///
    /// # Panics
    /// Where it printed no such value.
    pub fn get(&self, name: &str) -> &str {
        self.served.get(name)
    }

    /// The broker's log file.
    pub fn log(&self) -> &Path {
        Path::new(self.served.get("LOG"))
    }

    /// The folder given to the script; a test may put files of its own there.
    pub fn folder(&self) -> &Path {
        self.served.folder()
    }

    /// Stops the broker and keeps its data and ports: a clean stop, or a crash.
    pub fn halt(&mut self, crash: bool) {
        self.served.again(if crash { &["halt", "--crash"] } else { &["halt"] });
    }

    /// Starts a halted broker again.
    pub fn resume(&mut self) {
        self.served.again(&["resume"]);
    }
}
