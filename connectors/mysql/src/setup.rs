//! `rowtide check --print-sql`: what an administrator gives a source, and no more.

use rowtide_sdk::Provider;

use crate::source::MysqlSource;

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A name as SQL has it.
pub(crate) fn ident(name: &str) -> String {
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
    let readable = readable(source);
    if readable.iter().any(|name| name.contains('\\')) {
        out.push_str(
            "-- Without the backslashes where partial_revokes is ON: _ and % stand for themselves there.\n",
        );
    }
    for name in readable {
        out.push_str(&format!("GRANT SELECT ON {name} TO {user};\n"));
    }
    out
}

/// What the source reads, as GRANT names it: tables and databases that are named outright, or everything. In
/// the name of a database that is granted as a whole, `_` and `%` stand for other characters.
fn readable(source: &MysqlSource) -> Vec<String> {
    let is_name = |glob: &str| !glob.contains(['*', '?', '[', '{', '\\']);
    let mut found = Vec::new();
    for pattern in source.filter.includes() {
        let (database, table) = pattern.globs();
        if !is_name(database) {
            return vec!["*.*".to_owned()];
        }
        found.push(match is_name(table) {
            true => format!("{}.{}", ident(database), ident(table)),
            false => {
                let escaped = database.replace('_', "\\_").replace('%', "\\%");
                format!("{}.*", ident(&escaped))
            }
        });
    }
    found.sort();
    found.dedup();
    found
}
