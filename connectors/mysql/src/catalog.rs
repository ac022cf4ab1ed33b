//! Tables as the host knows them: made of what the log says, with what only the server's catalog knows.
//!
//! With `binlog_row_metadata=FULL` the log says all but which BINARY columns of MariaDB are UUIDs or
//! addresses; the statement that made the table tells, else the catalog. Without, the catalog says the rest: names, keys, labels. It tells how a table is now, and a row must be
//! read as the table was when it was logged. So the log between the two is looked through for statements
//! that change the table (`ahead`): where there is none the catalog's word holds, else it does not, and
//! the connector stops. What was read is saved with the table's version, and is good after a restart
//! until such a statement comes.

mod ahead;
mod columns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use rowtide_sdk::{Error, KnownTable, Origin, Result, Table};
use tokio::time::{Instant, sleep};

use self::ahead::{Ahead, Asked};
use self::columns::{CatalogColumn, CatalogTable, may_be_address, without_named_hashes};
use crate::binlog::table_map::{NamedType, TableMap};
use crate::codes;
use crate::config::ConnectOptions;
use crate::error::from_sql;
use crate::stream::{Changed, Place, catalog_facts};
use crate::table::{RowImage, Unreadable, build_table};
use crate::wire::{SqlConn, sql_conn};

const DOING: &str = "reading a table's definition";
/// How long a table may be missing while it is altered.
const SETTLES: Duration = Duration::from_secs(2);

/// A schema and a name.
pub(crate) type Name = (String, String);

/// Makes tables.
#[derive(Debug)]
pub(crate) struct Catalog {
    options: ConnectOptions,
    image: RowImage,
    is_mariadb: bool,
    /// What was saved or read of tables, as long as no statement changed them.
    known: HashMap<Name, CatalogTable>,
    /// The columns that are UUIDs or addresses of tables that were made while the log was read.
    made: HashMap<Name, Vec<(String, NamedType)>>,
    ahead: Ahead,
    conn: Option<SqlConn>,
}

/// What the catalog is made for.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// How the server is reached, this very one.
    pub(crate) options: ConnectOptions,
    pub(crate) image: RowImage,
    pub(crate) is_mariadb: bool,
    /// The id among the server's replicas of who looks ahead.
    pub(crate) server_id: u32,
}

impl Catalog {
    /// Nothing was read yet; `known` is what was saved with the position.
    pub(crate) fn new(scene: Scene, known: &[KnownTable]) -> Self {
        let Scene { options, image, is_mariadb, server_id } = scene;
        let saved = |table: &KnownTable| {
            let facts = serde_json::from_value(catalog_facts(&table.facts)).ok()?;
            Some(((table.schema.clone(), table.name.clone()), facts))
        };
        Self {
            ahead: Ahead::new(options.clone(), is_mariadb, server_id),
            options,
            image,
            is_mariadb,
            known: known.iter().filter_map(saved).collect(),
            made: HashMap::new(),
            conn: None,
        }
    }

    /// Statements changed these tables.
    pub(crate) fn forget(&mut self, changed: Vec<Changed>) {
        for Changed { schema, name, addresses } in changed {
            let is_other =
                |known: &Name| known.0 != schema || !(name.is_empty() || known.1 == name);
            self.known.retain(|known, _| is_other(known));
            self.made.retain(|known, _| is_other(known));
            if let Some(addresses) = addresses.filter(|_| self.is_mariadb) {
                self.made.insert((schema, name), addresses);
            }
        }
    }

    /// Reads what is captured and not known yet, as long as it is as it was at `place`: the sooner, the
    /// less comes in between.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn preload(
        &mut self,
        is_captured: &(dyn Fn(&str, &str) -> bool + Send + Sync),
        place: &Place,
    ) -> Result<()> {
        let mut names = self.names(is_captured).await?;
        names.retain(|key| !self.known.contains_key(key));
        let mut read = Vec::new();
        for key in names {
            if let Some(table) = self.read(&key.0, &key.1).await? {
                read.push((key, table));
            }
        }
        let until = ahead::log_end(self.conn().await?).await?;
        for (key, table) in read {
            if self.ahead.change(&key, place, &until, Asked::All).await?.is_none() {
                self.known.insert(key, table);
            }
        }
        Ok(())
    }

    /// The table that a TABLE_MAP describes, which stands at `place` in the log.
    ///
    /// # Errors
    /// `RT2801`, fatal, where it cannot be read.
    ///
    /// It may have fewer columns than the TABLE_MAP: those at the end of it that are nobody's.
    pub(crate) async fn table(&mut self, map: &TableMap, place: &Place) -> Result<Arc<Table>> {
        let (map, hashes) = match self.is_mariadb {
            true => without_named_hashes(map.clone()),
            false => (map.clone(), Vec::new()),
        };
        let map = &map;
        if !hashes.is_empty() {
            self.check_hashes(map, &hashes).await?;
        }
        let is_named = map.columns.iter().all(|column| column.name.is_some());
        let may_be_address = self.is_mariadb && map.columns.iter().any(may_be_address);
        if is_named && self.is_mariadb {
            self.check_fractions(map, place).await?;
        }
        if is_named && !may_be_address {
            return build_table(map, self.image, String::new())
                .map(Arc::new)
                .map_err(|why| unreadable(map, &why));
        }
        let key = (map.schema.clone(), map.name.clone());
        // Of a table that the log named then, only what may be an address is known.
        let is_enough = |known: &&CatalogTable| is_named || known.is_as_long_as(map);
        let made = || CatalogTable::made(map, self.made.get(&key).filter(|_| is_named)?);
        let known = self.known.get(&key).filter(is_enough).cloned().or_else(made);
        let known = match known {
            Some(known) => known,
            None => {
                let addresses = map.columns.iter().filter(|column| columns::may_be_address(column));
                let names: Vec<&str> = addresses.filter_map(|it| it.name.as_deref()).collect();
                let asked = if is_named { Asked::Addresses(&names) } else { Asked::All };
                self.read_for(&key, place, asked).await?
            }
        };
        let whole = match is_named {
            true => known.addresses(map),
            false => known.complete(map).map(|whole| (known, whole)),
        };
        let (known, whole) = match whole {
            Ok(both) => both,
            Err(why) => return Err(self.differs(map, place, is_named, &why).await?),
        };
        let facts = serde_json::to_string(&known).unwrap_or_default();
        self.known.insert(key, known);
        build_table(&whole, self.image, facts).map(Arc::new).map_err(|why| unreadable(map, &why))
    }

    /// Refuses a table with moments of MariaDB's old form whose size the log does not tell.
    async fn check_fractions(&mut self, map: &TableMap, place: &Place) -> Result<()> {
        let old = map.columns.iter().filter(|column| columns::may_have_fractions(column));
        let names: Vec<&str> = old.filter_map(|column| column.name.as_deref()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let key = (map.schema.clone(), map.name.clone());
        let read = self.read_for(&key, place, Asked::Storage(&names)).await?;
        read.check_fractions(map).map_err(|why| differs(map, true, &why))
    }

    /// Reads a table's definition, and looks whether what is asked of it was the same at a place in the log.
    async fn read_for(
        &mut self,
        key: &Name,
        place: &Place,
        asked: Asked<'_>,
    ) -> Result<CatalogTable> {
        let (schema, name) = key;
        let read = self.read_settled(schema, name).await?;
        let conn = self.conn().await?;
        let until = ahead::log_end(conn).await?;
        if let Some(change) = self.ahead.change(key, place, &until, asked).await? {
            return Err(changed(key, place, change, asked));
        }
        match read {
            Some(read) => Ok(read),
            None => {
                let what = match asked {
                    Asked::All => "its columns",
                    Asked::Addresses(_) => "which of its BINARY columns are addresses",
                    Asked::Storage(_) => "which of its moments have fractions of a second",
                };
                let message = format!(
                    "the server's catalog does not have table {schema}.{name}, or shows nothing of it to this \
                     user, so that it cannot tell {what}"
                );
                Err(Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message)
                    .with_remedy("GRANT SELECT on the captured tables to the user in `url`"))
            }
        }
    }

    /// What the catalog says is not what the log says at a place: by which statement, where one is found.
    async fn differs(
        &mut self,
        map: &TableMap,
        place: &Place,
        is_named: bool,
        why: &columns::Differs,
    ) -> Result<Error> {
        if matches!(why, columns::Differs::Gone(_)) {
            let until = ahead::log_end(self.conn().await?).await?;
            let key = (map.schema.clone(), map.name.clone());
            if let Some(change) = self.ahead.change(&key, place, &until, Asked::All).await? {
                let asked = if is_named { Asked::Addresses(&[]) } else { Asked::All };
                return Ok(changed(&key, place, change, asked));
            }
        }
        Ok(differs(map, is_named, why))
    }

    /// Every table that is captured, as the catalog describes it now; without those whose types are not
    /// known.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn all(
        &mut self,
        is_captured: &(dyn Fn(&str, &str) -> bool + Send + Sync),
    ) -> Result<Vec<Arc<Table>>> {
        let mut all = Vec::new();
        for (schema, name) in self.names(is_captured).await? {
            all.extend(self.named(&schema, &name).await?);
        }
        Ok(all)
    }

    /// The captured tables.
    async fn names(
        &mut self,
        is_captured: &(dyn Fn(&str, &str) -> bool + Send + Sync),
    ) -> Result<Vec<Name>> {
        let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
            WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')";
        let conn = self.conn().await?;
        let names: std::result::Result<Vec<Name>, _> = conn.query(sql).await;
        let mut names = self.answered(names, DOING)?;
        names.retain(|(schema, name)| is_captured(schema, name));
        Ok(names)
    }

    /// A table as the catalog describes it now; `None` where there is none of this name.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn named(&mut self, schema: &str, name: &str) -> Result<Option<Arc<Table>>> {
        let read = self.read(schema, name).await?;
        Ok(self.made_of(read, schema, name))
    }

    fn made_of(&self, read: Option<CatalogTable>, schema: &str, name: &str) -> Option<Arc<Table>> {
        let map = read?.mapped(schema, name).ok()?;
        build_table(&map, self.image, String::new()).ok().map(Arc::new)
    }

    /// The same of a table that the log names, which is not gone only because it is not there at a moment.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn logged(&mut self, schema: &str, name: &str) -> Result<Option<Arc<Table>>> {
        let read = self.read_settled(schema, name).await?;
        Ok(self.made_of(read, schema, name))
    }

    /// Asks the catalog for a table, again and again for a moment where it has none: while a table without
    /// transactions is altered or renamed, MySQL's catalog lacks it.
    async fn read_settled(&mut self, schema: &str, name: &str) -> Result<Option<CatalogTable>> {
        let since = Instant::now();
        loop {
            let read = self.read(schema, name).await?;
            if read.is_some() || since.elapsed() >= SETTLES {
                return Ok(read);
            }
            sleep(SETTLES / 20).await;
        }
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
        let answer = self.answered(answer, "asking for a table's engine")?;
        match answer.flatten().as_deref() {
            Some("YES") => Ok(false),
            Some(_) => Ok(true),
            None => {
                let message = format!(
                    "a transaction that changed {schema}.{name} was rolled back, and whether its changes \
                     stay cannot be told: the table is gone"
                );
                Err(Error::fatal(Origin::Source, codes::TORN, message).with_remedy(
                    "set the position behind the transaction with `rowtide position set --connector NAME \
                     --at PLACE`",
                ))
            }
        }
    }

    /// Ends its connection.
    pub(crate) async fn close(self) {
        if let Some(conn) = self.conn {
            conn.close().await;
        }
    }

    async fn conn(&mut self) -> Result<&mut Conn> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => sql_conn(&self.options).await?,
        };
        Ok(self.conn.insert(conn))
    }

    /// A connection that failed is not used again.
    fn answered<T>(
        &mut self,
        answer: std::result::Result<T, mysql_async::Error>,
        doing: &str,
    ) -> Result<T> {
        answer.map_err(|error| {
            self.conn = None;
            from_sql(error, doing)
        })
    }

    /// Asks the catalog for a table.
    async fn read(&mut self, schema: &str, name: &str) -> Result<Option<CatalogTable>> {
        let columns = "SELECT COLUMN_NAME, LOWER(DATA_TYPE), COLUMN_TYPE, CHARACTER_OCTET_LENGTH,
                NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_SET_NAME,
                IS_NULLABLE = 'YES', EXTRA NOT LIKE '%INVISIBLE%'
            FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";
        let key = "SELECT COLUMN_NAME FROM information_schema.STATISTICS
            WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY'
            ORDER BY SEQ_IN_INDEX";
        let conn = self.conn().await?;
        let found: std::result::Result<Vec<Row>, _> = conn.exec(columns, (schema, name)).await;
        let found = self.answered(found, DOING)?;
        if found.is_empty() {
            return Ok(None);
        }
        let conn = self.conn().await?;
        let primary_key: std::result::Result<Vec<String>, _> = conn.exec(key, (schema, name)).await;
        let primary_key = self.answered(primary_key, DOING)?;
        let columns = found.iter().map(column).collect::<Option<Vec<_>>>();
        let columns = columns.ok_or_else(|| {
            let message = format!("the catalog's answer about {schema}.{name} is not understood");
            Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message)
                .with_remedy("report it with the server's version")
        })?;
        let mut table = CatalogTable { columns, primary_key, hashes: 0 };
        if self.is_mariadb {
            self.read_unlisted(schema, name, &mut table).await?;
        }
        Ok(Some(table))
    }

    /// Refuses columns that look in the log as MariaDB's own, and that its catalog lists: somebody made them.
    async fn check_hashes(&mut self, map: &TableMap, hashes: &[String]) -> Result<()> {
        let read = self.read(&map.schema, &map.name).await?.unwrap_or_default();
        match hashes.iter().find(|hash| read.columns.iter().any(|listed| listed.name == **hash)) {
            Some(column) => Err(taken_for_hash(&map.schema, &map.name, column)),
            None => Ok(()),
        }
    }

    /// Adds what MariaDB's tables have and its list of columns lacks.
    async fn read_unlisted(
        &mut self,
        schema: &str,
        name: &str,
        table: &mut CatalogTable,
    ) -> Result<()> {
        let sql = "SELECT t.TABLE_TYPE = 'SYSTEM VERSIONED' AND NOT EXISTS (
                SELECT 1 FROM information_schema.COLUMNS c WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA
                AND c.TABLE_NAME = t.TABLE_NAME AND c.GENERATION_EXPRESSION = 'ROW START'),
            (SELECT COUNT(DISTINCT s.INDEX_NAME) FROM information_schema.STATISTICS s
                WHERE s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME
                AND s.INDEX_TYPE = 'HASH' AND t.ENGINE <> 'MEMORY')
            FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?";
        let conn = self.conn().await?;
        let found: std::result::Result<Option<(Option<bool>, usize)>, _> =
            conn.exec_first(sql, (schema, name)).await;
        if let Some((has_period, hashes)) = self.answered(found, DOING)? {
            table.hashes = hashes;
            if has_period == Some(true) {
                table.add_period();
            }
        }
        Ok(())
    }
}

fn column(row: &Row) -> Option<CatalogColumn> {
    let number = |at: usize| row.get_opt::<Option<u64>, _>(at)?.ok();
    let text = |at: usize| row.get_opt::<Option<String>, _>(at)?.ok();
    let flag = |at: usize| Some(row.get_opt::<Option<i64>, _>(at)?.ok()?? != 0);
    Some(CatalogColumn {
        name: text(0)??,
        data_type: text(1)??,
        column_type: text(2)??,
        octets: number(3)?,
        numeric: number(4)?.map(|precision| (precision, number(5).flatten().unwrap_or_default())),
        fraction: number(6)?,
        charset: text(7)?,
        is_nullable: flag(8)?,
        is_visible: flag(9)?,
    })
}

/// A statement changed the table behind a place.
fn changed((schema, name): &Name, place: &Place, change: &ahead::Found, asked: Asked<'_>) -> Error {
    let (what, first) = match asked {
        Asked::Addresses(_) => {
            ("which of its BINARY columns are UUIDs or addresses, and MariaDB's log never does", "")
        }
        Asked::Storage(_) => (
            "which of its moments, which are in the form that MariaDB had before 10.1, have fractions of a second, \
             and MariaDB's log never does",
            "",
        ),
        Asked::All => (
            "how it was there, and the log does not either (binlog_row_metadata is not FULL)",
            "SET GLOBAL binlog_row_metadata = 'FULL', which counts for what is logged from then on; ",
        ),
    };
    let (at, end) = (&change.place, &change.end);
    let message = format!(
        "table {schema}.{name} was changed after {}:{}, at last by the statement at {}:{}, so that the catalog does \
         not say {what}",
        place.file, place.pos, at.file, at.pos
    );
    Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message).with_remedy(format!(
        "{first}bring the target in step with every captured table, and set the position behind the change with \
         `rowtide position set --connector NAME --at {}:{}`; or leave the table out (`tables.exclude`)",
        end.file, end.pos
    ))
}

fn differs(map: &TableMap, is_named: bool, why: &columns::Differs) -> Error {
    let message = format!(
        "table {}.{} in the log is not the one in the catalog: {why}",
        map.schema, map.name
    );
    let first = if is_named { "" } else { "SET GLOBAL binlog_row_metadata = 'FULL'; " };
    if let columns::Differs::Count { log, catalog } = why
        && catalog < log
    {
        let message = format!("{message}; the user in `url` may lack the right to see all of them");
        return Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message).with_remedy(format!(
            "GRANT SELECT on the table, not on some of its columns; where that is not it: {first}bring the \
             target in step with the table, and set the position behind these rows with `rowtide position \
             set --connector NAME --at PLACE`"
        ));
    }
    Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message).with_remedy(format!(
        "{first}bring the target in step with every captured table, and set the position behind these rows with \
         `rowtide position set --connector NAME --at PLACE`"
    ))
}

fn taken_for_hash(schema: &str, name: &str, column: &str) -> Error {
    let message = format!(
        "the last column of table {schema}.{name} is called {column}, as MariaDB calls the hashes of unique keys: \
         the log does not tell it from those, which are left out"
    );
    Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message)
        .with_remedy(
            "leave the table out (`tables.exclude`); or give the column another name, bring the target in step \
             with the table, and set the position behind these rows with `rowtide position set --connector NAME \
             --at PLACE`",
        )
}

fn unreadable(map: &TableMap, why: &Unreadable) -> Error {
    let message = format!("table {}.{} cannot be read from the log: {why}", map.schema, map.name);
    Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message)
        .with_remedy("leave the table out (`tables.exclude`), or report it")
}
