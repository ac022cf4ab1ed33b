//! A throwaway MySQL with a database for documents.

use rowtide_testkit::{Flavor, Mysql};

pub(crate) struct Server(pub(crate) Mysql);

impl Server {
    /// `None` after a loud line where the server cannot be had.
    ///
    /// # Panics
    /// Where it cannot be had and `CI=true`.
    pub(crate) fn start() -> Option<Self> {
        let settings = ["character_set_server=utf8mb4", "max_allowed_packet=64M"];
        let server = Mysql::start(Flavor::Mysql, &settings)?;
        server.sql("create database json");
        Some(Self(server))
    }

    /// Runs statements in the database `json`; what they answer, a line per row, tabs between
    /// columns, nothing escaped.
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.0.sql(&format!("use json;\n{statements}"))
    }
}
