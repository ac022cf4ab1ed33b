//! Small SQL questions, asked over the replication connection or an ordinary one.

use rowtide_sdk::{Error, Origin, Result};
use serde::de::DeserializeOwned;

use crate::error::{codes, from_sql};
use crate::wire::ReplicationConnection;

/// A connection that answers SQL in text.
pub(crate) trait Sql: Send {
    /// The rows of one statement; no value may hold a zero byte. `doing` says what is being asked.
    fn rows(
        &mut self,
        statement: &str,
        doing: &str,
    ) -> impl Future<Output = Result<Vec<Vec<Option<String>>>>> + Send;
}

impl Sql for ReplicationConnection {
    async fn rows(&mut self, statement: &str, _doing: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.simple_query(statement).await
    }
}

impl Sql for &tokio_postgres::Client {
    async fn rows(&mut self, statement: &str, doing: &str) -> Result<Vec<Vec<Option<String>>>> {
        use tokio_postgres::SimpleQueryMessage;
        let answer = self.simple_query(statement).await.map_err(|error| from_sql(error, doing))?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(answer.iter().filter_map(row).collect())
    }
}

/// A name as an SQL identifier.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name as SQL.
pub(crate) fn table_name(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text as an SQL literal, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("E'{escaped}'")
}

/// An answer that is not what was asked for.
pub(crate) fn unexpected(doing: &str) -> Error {
    Error::fatal(
        Origin::Source,
        codes::REFUSED,
        format!("{doing}: the server's answer is not of the form expected"),
    )
}

/// The rows of `SELECT jsonb …`, each read as a `T`.
pub(crate) async fn json_rows<T: DeserializeOwned>(
    sql: &mut impl Sql,
    statement: &str,
    doing: &str,
) -> Result<Vec<T>> {
    let read = |row: Vec<Option<String>>| {
        let json = row.into_iter().next().flatten().ok_or_else(|| unexpected(doing))?;
        serde_json::from_str(&json).map_err(|error| unexpected(doing).with_source(error))
    };
    sql.rows(statement, doing).await?.into_iter().map(read).collect()
}

/// The only row of `SELECT jsonb …`.
pub(crate) async fn json_row<T: DeserializeOwned>(
    sql: &mut impl Sql,
    statement: &str,
    doing: &str,
) -> Result<T> {
    json_rows(sql, statement, doing).await?.pop().ok_or_else(|| unexpected(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(table_name("a\"b", "c.d"), "\"a\"\"b\".\"c.d\"");
        assert_eq!(literal("it's a \\"), r"E'it\'s a \\'");
    }
}
