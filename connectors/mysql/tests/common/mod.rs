//! Reads the binlog files of a server.
#![allow(dead_code, reason = "each test reads what it is about")]

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_mysql::binlog::compressed::{Inner, Payload, Unpacked, plain_kind, unpack};
use rowtide_mysql::binlog::event::{Format, Header, kind};
use rowtide_mysql::binlog::rows::{Rows, RowsKind, Value};
use rowtide_mysql::binlog::table_map::TableMap;
use rowtide_testkit::Mysql;

/// A [`Value`] of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owned {
    Absent,
    Null,
    Bytes(Vec<u8>),
    JsonDiff(Vec<u8>),
}

impl From<Value<'_>> for Owned {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Absent => Self::Absent,
            Value::Null => Self::Null,
            Value::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Value::JsonDiff(bytes) => Self::JsonDiff(bytes.to_vec()),
        }
    }
}

/// The events of a binlog file, each with its header and verified body.
pub(crate) fn events(file: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut rest = file.strip_prefix(b"\xfebin").expect("no binlog file");
    let mut format = Format::initial(false);
    let mut events = Vec::new();
    while !rest.is_empty() {
        let header = Header::parse(rest).unwrap();
        let (event, behind) = rest.split_at(header.size as usize);
        if header.kind == kind::FORMAT_DESCRIPTION {
            format = Format::parse(event).unwrap();
        } else {
            events.push((header, format.body(&header, event).unwrap().to_vec()));
        }
        rest = behind;
    }
    events
}

/// Puts packed events into their plain form.
fn unpacked(events: Vec<(Header, Vec<u8>)>) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    for (header, body) in events {
        if header.kind == kind::TRANSACTION_PAYLOAD {
            let (mut payload, head) = Payload::parse(&body, body.len() as u64).unwrap();
            let mut packed = &body[head..];
            while let Inner::Event(header, event) =
                payload.next_event(&mut packed, 1 << 20).unwrap()
            {
                let body = Format::initial(false).body(&header, event).unwrap();
                all.push((header.kind, body.to_vec()));
            }
        } else if let Some(plain) = plain_kind(header.kind) {
            let mut out = Vec::new();
            let unpacked = unpack(header.kind, &body, 1 << 20, &mut out).unwrap();
            assert_eq!(unpacked, Unpacked::Whole);
            all.push((plain, out));
        } else {
            all.push((header.kind, body));
        }
    }
    all
}

/// The bodies of the events of some types in a server's binlogs, in order, packed ones unpacked.
pub(crate) fn bodies(server: &Mysql, kinds: &[u8]) -> Vec<Vec<u8>> {
    let files = server.binlogs().into_iter().map(|file| std::fs::read(file).unwrap());
    let all = files.flat_map(|file| unpacked(events(&file)));
    all.filter(|(kind, _)| kinds.contains(kind)).map(|(_, body)| body).collect()
}

/// Every image of a row in a server's binlogs, in order: what the event does, and the table.
pub(crate) fn written(server: &Mysql) -> Vec<(RowsKind, Arc<TableMap>, Vec<Owned>)> {
    let mut all = Vec::new();
    let is_mariadb = server.sql("SELECT VERSION()").contains("MariaDB");
    for file in server.binlogs() {
        let mut tables = HashMap::new();
        for (event, body) in unpacked(events(&std::fs::read(file).unwrap())) {
            match event {
                kind::TABLE_MAP => {
                    let table = Arc::new(TableMap::parse(&body, is_mariadb).unwrap());
                    tables.insert(table.table_id, table);
                }
                kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1
                | kind::WRITE_ROWS..=kind::DELETE_ROWS
                | kind::PARTIAL_UPDATE_ROWS => {
                    let rows = Rows::parse(event, &body).unwrap();
                    let table = Arc::clone(&tables[&rows.table_id]);
                    let mut images = rows.images();
                    while images.has_more() {
                        let mut values = Vec::new();
                        images.next_image(&table, |value, _| values.push(value.into())).unwrap();
                        all.push((rows.kind, Arc::clone(&table), values));
                    }
                }
                _ => {}
            }
        }
    }
    all
}
