//! `rowtide check --print-sql`: what an administrator gives a source, and no more.

use rowtide_sdk::Provider;

use crate::source::MysqlSource;

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The SQL that makes a server ready for this source; without secrets, and without asking it.
pub fn setup_sql(source: &MysqlSource, connector: &str, provider: Provider) -> String {
    let user = format!("{}@'%'", literal(&source.options.user));
    let mut out = format!(
        "-- What connector {connector} needs on its MySQL or MariaDB server; run it as an administrator.\n"
    );
    out.push_str(match provider {
        Provider::SelfRun => {
            "-- In the server's configuration too, so that a restart keeps it. log_bin and server_id need one.\n\
             SET GLOBAL binlog_format = 'ROW';\n\
             SET GLOBAL binlog_row_image = 'FULL';\n\
             SET GLOBAL binlog_row_metadata = 'FULL';\n"
        }
        Provider::Rds => {
            "-- In the parameter group: binlog_format = ROW, binlog_row_image = FULL, binlog_row_metadata = FULL;\n\
             -- automated backups must be on. Then:\n\
             CALL mysql.rds_set_configuration('binlog retention hours', 168);\n"
        }
        Provider::CloudSql => {
            "-- Turn point-in-time recovery (binary logging) on, and set the flags binlog_row_image = full and\n\
             -- binlog_row_metadata = full.\n"
        }
        Provider::Azure => {
            "-- In the server parameters: binlog_row_image = FULL, binlog_row_metadata = FULL,\n\
             -- binlog_expire_logs_seconds = 604800.\n"
        }
    });
    out.push_str(&format!(
        "\n-- Give it a password of your own.\nCREATE USER IF NOT EXISTS {user} IDENTIFIED BY '…';\n\
         GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user};\n\
         -- The catalog shows a user only what it may read.\n"
    ));
    if provider == Provider::Rds {
        out.push_str(&format!("GRANT SELECT ON mysql.rds_configuration TO {user};\n"));
    }
    for database in databases(source) {
        match database {
            Some(database) => {
                out.push_str(&format!("GRANT SELECT ON {}.* TO {user};\n", ident(&database)));
            }
            None => out.push_str(&format!("GRANT SELECT ON *.* TO {user};\n")),
        }
    }
    out
}

/// The databases that are named outright; `None` where a pattern is wider than one.
fn databases(source: &MysqlSource) -> Vec<Option<String>> {
    let mut found: Vec<Option<String>> = Vec::new();
    for pattern in source.filter.includes() {
        let (database, _) = pattern.globs();
        let is_name = !database.contains(['*', '?', '[', '{', '\\']);
        found.push(is_name.then(|| database.to_owned()));
    }
    if found.iter().any(Option::is_none) {
        return vec![None];
    }
    found.sort();
    found.dedup();
    found
}
