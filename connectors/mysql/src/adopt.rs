//! Positions made by hand, for `rowtide position show|adopt|set`.

use rowtide_sdk::{Class, Error, Finding, Origin, Position, Result};

use crate::codes;
use crate::config::MysqlConfig;
use crate::gtid::mariadb::GtidPosition;
use crate::gtid::mysql::GtidSet;
use crate::position::{Altered, History, MyPosition};
use crate::preflight::{connect, prepared, resumes};
use crate::server::{LogEnd, Server};
use crate::source::{MysqlSource, begun, gtids, resumed};
use crate::stream::Passed;
use crate::trial::{made, tried};

/// A position in words, for people.
///
/// # Errors
/// `RT2701` where it is not a position of this source.
pub fn describe(position: &Position) -> Result<String> {
    let MyPosition { file, pos, gtids, in_tx, pending, history, .. } = MyPosition::parse(position)?;
    let server = history.server;
    let mut words = match gtids.filter(|gtids| !gtids.is_empty()) {
        Some(gtids) if file.is_empty() => {
            format!("every transaction of {gtids} (of server {server})")
        }
        Some(gtids) => format!("every transaction of {gtids} (at {file}:{pos} of server {server})"),
        None => format!("every transaction before {file}:{pos} (of server {server})"),
    };
    if let Some(in_tx) = in_tx {
        let (count, id) = (in_tx.next_index, in_tx.id);
        words.push_str(&format!(", and the first {count} changes of transaction {id}"));
    }
    if !pending.is_empty() {
        words.push_str(&format!(", but not {} prepared XA transactions", pending.len()));
    }
    Ok(words)
}

/// How many XA transactions are prepared, which commit behind a position at the end of the log while
/// their changes are before it; `None` where the user may not see them (XA_RECOVER_ADMIN).
///
/// # Errors
/// Where the server cannot be asked.
pub async fn prepared_now(source: &MysqlSource) -> Result<Option<usize>> {
    let (mut conn, ..) = connect(source).await?;
    let prepared = prepared(&mut conn).await;
    conn.close().await;
    Ok(prepared)
}

/// Why no run could go on from a saved position, where the server's log is another than the position's:
/// `RT2702`, `RT2703`. Its transactions may then be named like others that were delivered, and their events
/// get the same ids; not where GTIDs name another server. Reads only.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn another_log(source: &MysqlSource, saved: &Position) -> Result<Option<Finding>> {
    let (mut conn, server, source) = connect(source).await?;
    let saved_of = MyPosition::parse(saved).ok();
    // MySQL's GTIDs name the server.
    let is_another =
        saved_of.is_some_and(|it| it.history.server != server.identity() && it.gtids.is_some());
    if is_another && !server.is_mariadb() {
        conn.close().await;
        return Ok(None);
    }
    let mut findings = Box::pin(resumes(&mut conn, &server, &source, saved)).await;
    conn.close().await;
    findings.retain(|it| [codes::FOREIGN_HISTORY, codes::SERVER_BEHIND].contains(&it.code));
    Ok(findings.pop())
}

/// The position at which the server's log ends now: what `rowtide position adopt` saves. Reads only.
///
/// # Errors
/// Where the server cannot be asked or writes no log; what a run from there would end with.
pub async fn position_at_end(source: &MysqlSource) -> Result<Position> {
    let (mut conn, server, source) = connect(source).await?;
    let end = server.log_end(&mut conn).await?;
    let files = server.files(&mut conn).await?;
    conn.close().await;
    let (mut position, passed) = begun(end, &server, source.shape());
    position.history.created =
        Box::pin(tried(&source, &server, &files, &position, &passed, false)).await?.created;
    position.to_position()
}

/// The position at a place given by hand, `file:offset` or GTIDs: what `rowtide position set --connector NAME --at PLACE` saves.
/// Reads only. Everything before it will not be captured.
///
/// # Errors
/// `RT2717` where the text is no place in this server's log; those of a resume from there.
pub async fn position_at(source: &MysqlSource, text: &str) -> Result<Position> {
    let (mut conn, server, source) = connect(source).await?;
    let text = text.trim();
    let files = server.files(&mut conn).await?;
    // A server's answer is about something else, and so is what cannot be read because no event begins there.
    let unlike = |error: Error| match error.class() {
        Class::Transient => error,
        _ => no_place(text),
    };
    let mut position = match file_and_pos(text) {
        Some((file, pos)) => {
            let size = files.iter().find_map(|(name, size)| (name == file).then_some(*size));
            if !size.is_some_and(|size| (4..=size).contains(&pos)) {
                return Err(no_place(text));
            }
            let passed = match server.is_mariadb() {
                true => server.gtids_at(&mut conn, file, pos).await.map_err(unlike)?,
                false => Passed::Files,
            };
            begun(LogEnd { file: file.to_owned(), pos, passed }, &server, source.shape()).0
        }
        None => {
            let passed = passed(text, &server).ok_or_else(|| no_place(text))?;
            if !may_be_behind(&passed, &server)? {
                return Err(no_place(text));
            }
            // Where in the log they end only a reader of it learns.
            MyPosition {
                file: String::new(),
                pos: 0,
                gtids: gtids(&passed),
                in_tx: None,
                pending: Vec::new(),
                by_gtids: server.is_mariadb(),
                altered: Altered::unread(),
                history: History::of(server.identity()),
                shape: source.shape(),
            }
        }
    };
    conn.close().await;
    let (_, passed) = resumed(position.clone(), &server, &source.shape())?;
    let is_place = !position.file.is_empty();
    let tried = Box::pin(tried(&source, &server, &files, &position, &passed, is_place)).await;
    let tried = tried.map_err(unlike)?;
    if tried.is_within && is_place {
        return Err(no_place(text));
    }
    position.history.created = tried.created;
    if position.file.is_empty()
        && let Some((file, _)) = files.last()
    {
        let made = made(&source, MysqlConfig::passing_id(), file).await?;
        position.history.seen = Some((file.clone(), made)).filter(|_| made != 0);
    }
    position.to_position()
}

fn file_and_pos(text: &str) -> Option<(&str, u64)> {
    let (file, pos) = text.rsplit_once(':')?;
    // A file's number follows a dot; no GTID has one.
    let is_file = file.rsplit_once('.').is_some_and(|(_, number)| number.parse::<u64>().is_ok());
    pos.parse().ok().filter(|_| is_file).map(|pos| (file, pos))
}

fn passed(text: &str, server: &Server) -> Option<Passed> {
    if server.is_mariadb() {
        return text.parse::<GtidPosition>().ok().map(Passed::Mariadb);
    }
    let set = text.parse::<GtidSet>().ok().filter(|_| server.has_gtids())?;
    Some(Passed::Mysql(set))
}

fn no_place(text: &str) -> Error {
    let message = format!("{text:?} is no place in this server's log");
    Error::fatal(Origin::Config, codes::NO_PLACE, message).with_remedy(
        "write a file and an offset where a transaction begins, or a file ends (binlog.000003:1234, as in `SHOW BINARY LOGS` and \
         `mysqlbinlog`), or all GTIDs before it, as in `SELECT @@gtid_executed` (MySQL with gtid_mode=ON) or \
         `SELECT @@gtid_binlog_pos` (MariaDB)",
    )
}

/// Whether GTIDs are some, and the server has been where each of them says.
fn may_be_behind(passed: &Passed, server: &Server) -> Result<bool> {
    Ok(match passed {
        Passed::Mysql(set) => !set.is_empty() && server.executed()?.holds_all(set),
        Passed::Mariadb(position) => {
            let state = server.state()?;
            !position.is_empty() && position.iter().all(|gtid| state.holds(gtid))
        }
        Passed::Files => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_with_a_number_and_an_offset() {
        assert_eq!(file_and_pos("binlog.000003:1234"), Some(("binlog.000003", 1234)));
        assert_eq!(file_and_pos("a.b.000003:4"), Some(("a.b.000003", 4)));
        for text in ["3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5", "0-1-100", "binlog.000003", "x:1"]
        {
            assert_eq!(file_and_pos(text), None, "{text}");
        }
    }
}
