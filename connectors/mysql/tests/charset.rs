//! Character sets against real servers: every byte, every code and many strings are converted by
//! MySQL and MariaDB and by us, and must come out the same or be refused by both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code: a broken assumption must fail the test, and a skip must be seen"
)]

#[path = "charset/probes.rs"]
mod probes;
#[path = "charset/server.rs"]
mod server;

use probes::{SETS_OF_BYTES, probes};
use rowtide_mysql::charset::Charset;
use rowtide_testkit::Flavor;
use server::Server;

#[test]
fn m58_mysql_converts_as_we_do() {
    converts_as_we_do(Flavor::Mysql);
}

#[test]
fn m58_mariadb_converts_as_we_do() {
    converts_as_we_do(Flavor::Mariadb);
}

fn converts_as_we_do(flavor: Flavor) {
    let Some(server) = Server::start(flavor) else { return };
    for sql in SETS_OF_BYTES {
        server.rows(&format!("set sql_log_bin = 0; create schema if not exists p; use p; {sql}"));
    }
    let sets = sets(&server);
    check_collations(&server);
    let mut wrong = Vec::new();
    for charset in sets {
        let mut figures = Figures::default();
        for probe in probes(charset) {
            compare(&server, charset, &probe, &mut figures, &mut wrong);
        }
        println!("{flavor:?} {}: {figures:?}", charset.name());
        assert!(figures.same > 0, "nothing of {charset:?} was compared");
    }
    let shown: Vec<&String> = wrong.iter().take(40).collect();
    assert!(wrong.is_empty(), "{} differ: {shown:#?}", wrong.len());
}

/// The server's character sets that are text; all of them are known, with their length.
fn sets(server: &Server) -> Vec<Charset> {
    let rows =
        server.rows("select character_set_name, maxlen from information_schema.character_sets");
    assert!(rows.len() >= 40, "{rows:?}");
    let known = rows.into_iter().map(|row| {
        let charset = Charset::of_name(&row[0]).unwrap_or_else(|| panic!("{row:?}"));
        assert_eq!(charset.name(), row[0]);
        assert_eq!(charset.max_len().to_string(), row[1], "{charset:?}");
        charset
    });
    known.filter(|charset| !charset.is_binary()).collect()
}

/// Every collation that has an id, MariaDB's that depend on the character set too.
fn check_collations(server: &Server) {
    let mut rows = server.rows("select id, character_set_name from information_schema.collations");
    if server.flavor == Flavor::Mariadb {
        rows.extend(server.rows(
            "select id, character_set_name \
             from information_schema.collation_character_set_applicability",
        ));
    }
    rows.retain(|row| row[0] != "NULL");
    assert!(rows.len() > 280, "{} collations", rows.len());
    for row in rows {
        let known = Charset::of_collation(row[0].parse().unwrap()).map(Charset::name);
        assert_eq!(known, Some(row[1].as_str()), "collation {}", row[0]);
    }
}

/// How many sequences the server and we treat the same.
#[derive(Debug, Default)]
struct Figures {
    same: usize,
    refused: usize,
    /// Where the server drops the first byte of a character that is cut off, and we refuse it. No
    /// column takes such a value.
    cut_off: usize,
    /// Where the server's only answer is U+FFFD, or is no UTF-8, and we refuse.
    lossy: usize,
}

/// `probe` is SQL that gives a column `b` of bytes.
fn compare(
    server: &Server,
    charset: Charset,
    probe: &str,
    figures: &mut Figures,
    wrong: &mut Vec<String>,
) {
    let name = charset.name();
    let rows = server.rows(&format!(
        "use p; select hex(b), hex(convert(convert(b using {name}) using utf8mb4)) from ({probe}) as t"
    ));
    assert!(!rows.is_empty(), "{probe}");
    for row in rows {
        let raw = bytes(&row[0]);
        let theirs = match row[1].as_str() {
            "NULL" => None,
            hex => Some(bytes(hex)),
        };
        let ours = charset.to_utf8(&raw);
        let figure = match (&ours, &theirs) {
            (Ok(ours), Some(theirs))
                if ours.as_bytes() == theirs && !lost(charset, &raw, theirs) =>
            {
                &mut figures.same
            }
            (Err(_), None) => &mut figures.refused,
            (Err(_), Some(theirs)) if lost(charset, &raw, theirs) => &mut figures.refused,
            (Err(_), Some(theirs)) if lossy(charset, theirs) => &mut figures.lossy,
            (Err(error), Some(theirs)) if server.drops_cut_off(charset) => {
                let before = charset.to_utf8(&raw[..error.at]);
                if error.at + 1 != raw.len() || before.unwrap().as_bytes() != theirs {
                    wrong.push(format!("{name} {}: {ours:?}, server {}", row[0], row[1]));
                }
                &mut figures.cut_off
            }
            _ => {
                wrong.push(format!("{name} {}: {ours:?}, server {}", row[0], row[1]));
                continue;
            }
        };
        *figure += 1;
    }
}

/// Whether the answer has a question mark for something else. No set has a character of several
/// bytes that is U+003F, or the byte 0x3F within another character, but for those of fixed length.
fn lost(charset: Charset, raw: &[u8], theirs: &[u8]) -> bool {
    let count = |bytes: &[u8], of: &[u8]| bytes.chunks(of.len()).filter(|unit| *unit == of).count();
    let true_ones = match charset {
        Charset::Ucs2 | Charset::Utf16 => count(raw, b"\0?"),
        Charset::Utf16le => count(raw, b"?\0"),
        Charset::Utf32 => count(raw, b"\0\0\0?"),
        _ => count(raw, b"?"),
    };
    count(theirs, b"?") > true_ones
}

/// Whether the answer is no UTF-8 (a surrogate), or has U+FFFD from a set that has no such
/// character.
fn lossy(charset: Charset, theirs: &[u8]) -> bool {
    match std::str::from_utf8(theirs) {
        Ok(text) => matches!(charset, Charset::Big5 | Charset::Tis620) && text.contains('\u{FFFD}'),
        Err(_) => true,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap();
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}
