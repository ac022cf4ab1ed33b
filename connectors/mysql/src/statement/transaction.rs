//! Where transactions begin and end.

use super::Statement;
use super::cursor::Cursor;
use super::lexer::{Token, unescape};
use crate::binlog::group::Xid;

/// What is meant where `first` begins the statement.
pub(super) fn read(first: &str, cursor: &mut Cursor<'_>) -> Statement {
    let read = match first {
        "BEGIN" => begin(cursor),
        "START" => Some(start(cursor)),
        "COMMIT" => Some(Statement::Commit),
        "ROLLBACK" => rollback(cursor),
        "SAVEPOINT" => cursor.name().map(Statement::Savepoint),
        "RELEASE" if cursor.take("SAVEPOINT") => cursor.name().map(Statement::Release),
        "XA" => xa(cursor),
        _ => None,
    };
    read.unwrap_or_else(|| Statement::Unclear { tables: Vec::new() })
}

fn begin(cursor: &mut Cursor<'_>) -> Option<Statement> {
    cursor.take("WORK");
    // BEGIN NOT ATOMIC is a block of statements.
    cursor.peek().is_none().then_some(Statement::Begin)
}

/// START TRANSACTION, else a replica.
fn start(cursor: &mut Cursor<'_>) -> Statement {
    if cursor.take("TRANSACTION") { Statement::Begin } else { Statement::Other }
}

fn rollback(cursor: &mut Cursor<'_>) -> Option<Statement> {
    cursor.take("WORK");
    if !cursor.take("TO") {
        return Some(Statement::Rollback);
    }
    // A savepoint may be called so itself.
    let mut ahead = cursor.clone();
    if ahead.take("SAVEPOINT") && ahead.peek().is_some() {
        *cursor = ahead;
    }
    cursor.name().map(Statement::RollbackTo)
}

fn xa(cursor: &mut Cursor<'_>) -> Option<Statement> {
    let verb = cursor.keyword()?;
    if verb == "RECOVER" {
        return Some(Statement::Other);
    }
    let xid = xid(cursor)?;
    match verb.as_str() {
        "START" | "BEGIN" => Some(Statement::XaStart(xid)),
        "END" => Some(Statement::XaEnd(xid)),
        "PREPARE" => Some(Statement::XaPrepare(xid)),
        "COMMIT" => {
            Some(Statement::XaCommit { xid, is_one_phase: cursor.take_all(&["ONE", "PHASE"]) })
        }
        "ROLLBACK" => Some(Statement::XaRollback(xid)),
        _ => None,
    }
}

/// `gtrid [, bqual [, formatID]]`.
fn xid(cursor: &mut Cursor<'_>) -> Option<Xid> {
    let mut xid = Xid { format: 1, global: bytes(cursor)?, branch: Vec::new() };
    if cursor.take_symbol(b',') {
        xid.branch = bytes(cursor)?;
        if cursor.take_symbol(b',') {
            xid.format = format(cursor)?;
        }
    }
    (xid.global.len() <= 64 && xid.branch.len() <= 64).then_some(xid)
}

/// A string in one of its forms.
fn bytes(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    match cursor.next()? {
        Token::Text(text, quote) => Some(unescape(text, quote, cursor.session.sql_mode)),
        Token::Hex(digits) => numeral(digits, 16),
        Token::Bits(digits) => numeral(digits, 2),
        Token::Word([b'0', b'x', digits @ ..]) => numeral(digits, 16),
        Token::Word([b'0', b'b', digits @ ..]) => numeral(digits, 2),
        _ => None,
    }
}

/// The bytes that digits stand for, with as many zeroes before them as a whole byte wants.
fn numeral(digits: &[u8], radix: u32) -> Option<Vec<u8>> {
    let per_byte = if radix == 16 { 2 } else { 8 };
    let mut out: Vec<u8> = Vec::with_capacity(digits.len() / per_byte);
    for chunk in digits.rchunks(per_byte) {
        let byte = chunk
            .iter()
            .try_fold(0, |sum, digit| Some(sum * radix + char::from(*digit).to_digit(radix)?))?;
        out.push(u8::try_from(byte).ok()?);
    }
    out.reverse();
    Some(out)
}

/// `formatID`. MySQL takes 64 bits and writes 32 of them into its XA_PREPARE event.
fn format(cursor: &mut Cursor<'_>) -> Option<u32> {
    let number = match cursor.next()? {
        Token::Word([b'0', b'x', digits @ ..]) | Token::Hex(digits) => {
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
        }
        Token::Word(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    };
    u32::try_from(number & u64::from(u32::MAX)).ok()
}
