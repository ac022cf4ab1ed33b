//! A throwaway MySQL or MariaDB, and what is said of its conversions.

use rowtide_mysql::charset::Charset;
use rowtide_testkit::{Flavor, Mysql};

pub(crate) struct Server {
    pub(crate) flavor: Flavor,
    server: Mysql,
}

impl Server {
    /// Starts a server; `None` after one loud line where it cannot be had, a panic with `CI=true`.
    pub(crate) fn start(flavor: Flavor) -> Option<Self> {
        Some(Self { flavor, server: Mysql::start(flavor, &[])? })
    }

    /// What the last statement of `sql` gives, NULL as the client writes it.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let text = self.server.sql(sql);
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// MySQL takes the first byte of a character that is cut off for nothing, in eucjpms alone.
    pub(crate) fn drops_cut_off(&self, charset: Charset) -> bool {
        self.flavor == Flavor::Mysql && charset == Charset::Eucjpms
    }
}
