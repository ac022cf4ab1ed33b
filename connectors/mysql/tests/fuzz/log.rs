//! Events: their frames, and what is in the bodies of those that are not packed.

use std::collections::HashMap;

use rowtide_mysql::binlog::ParseError;
use rowtide_mysql::binlog::event::{CHECKSUM, Format, HEADER, Header, kind};
use rowtide_mysql::binlog::group::{
    GtidEvent, MariadbGtidEvent, Query, Rotate, XaPrepare, incident, xid,
};
use rowtide_mysql::binlog::rows::{Rows, Value};
use rowtide_mysql::binlog::table_map::{MappedColumn, TableMap};
use rowtide_mysql::decode::json::updated;
use rowtide_mysql::decode::{Decoding, decoding};
use rowtide_mysql::gtid::mariadb::GtidPosition;
use rowtide_mysql::gtid::mysql::GtidSet;
use rowtide_mysql::table::{RowImage, build_table};

use super::values::decodes;
use super::{Described, bodies, checks, described, halves, joined, recorded};
use crate::frame::Target;

pub(crate) fn events() -> Target {
    Target { checks: checks(&[framed, with_checksum, body]), seeds: recorded() }
}

pub(crate) fn tables() -> Target {
    let maps = bodies().filter(|(event, _)| *event == kind::TABLE_MAP);
    Target::new(table, maps.map(|(_, body)| body).collect())
}

pub(crate) fn rows() -> Target {
    let seed = |Described { is_mariadb, map, event, body }| {
        [&[u8::from(is_mariadb)], joined(&map, &[&[event], body.as_slice()].concat()).as_slice()]
            .concat()
    };
    Target::new(images, described().into_iter().map(seed).collect())
}

/// A body is what stands between header and checksum, and nothing of another length than is stated is
/// taken.
fn framed(event: &[u8]) {
    let Ok(header) = Header::parse(event) else { return };
    assert!(event.len() >= HEADER && header.size as usize >= HEADER);
    let format = Format::parse(event);
    for has_checksum in [false, true] {
        let Ok(body) = Format::initial(has_checksum).body(&header, event) else { continue };
        let behind = if has_checksum { CHECKSUM } else { 0 };
        assert_eq!(header.size as usize, event.len());
        assert_eq!(body, &event[HEADER..event.len() - behind]);
    }
    let Ok(format) = format else { return };
    let stated = |at: u8| format.post_header(at).is_some();
    assert!(!stated(0) && (1..=u8::MAX).filter(|at| stated(*at)).count() <= event.len());
}

/// The event with another length and a checksum behind it.
fn sealed(event: &[u8]) -> Vec<u8> {
    let mut whole = event.to_vec();
    let size = u32::try_from(event.len() + CHECKSUM).unwrap();
    whole[9..13].copy_from_slice(&size.to_le_bytes());
    let mut checked = whole.clone();
    if whole[4] == kind::FORMAT_DESCRIPTION {
        checked[17] &= !1;
    }
    whole.extend(crc32fast::hash(&checked).to_le_bytes());
    whole
}

/// With the right length and checksum it is taken, and with one bit changed it is not.
fn with_checksum(event: &[u8]) {
    if event.len() < HEADER {
        return;
    }
    let mut whole = sealed(event);
    let header = Header::parse(&whole).unwrap();
    let format = Format::initial(true);
    assert_eq!(format.body(&header, &whole), Ok(&event[HEADER..]));
    let _format = Format::parse(&whole);
    let sum = event.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    let at = sum % whole.len();
    whole[at] ^= 0x10;
    let header = Header { kind: whole[4], ..header };
    let is_in_use_flag = at == 17;
    if header.kind != kind::FORMAT_DESCRIPTION || !is_in_use_flag {
        assert_eq!(format.body(&header, &whole), Err(ParseError::Checksum(header.kind)));
    }
}

/// Bodies of all events that are not of rows.
fn body(event: &[u8]) {
    let Ok(header) = Header::parse(event) else { return };
    let body = &event[HEADER..];
    if let Ok(rotate) = Rotate::parse(body) {
        assert!(!rotate.file.is_empty() && rotate.file.len() + 8 == body.len());
    }
    if let Ok(query) = Query::parse(body) {
        assert!(body.ends_with(query.statement));
        assert!(query.statement.len() + query.schema.len() + 14 <= body.len());
    }
    let plain = GtidEvent::parse(body, false);
    for event in [plain, GtidEvent::parse_tagged(body)].into_iter().flatten() {
        let gtid = event.gtid.expect("it is not anonymous");
        let mut set = GtidSet::default();
        set.insert(&gtid);
        assert!(set.holds(&gtid));
        assert_eq!(gtid.to_string(), set.to_string());
        assert_eq!(gtid.to_string().parse().as_ref(), Ok(&set));
    }
    if let Ok(event) = GtidEvent::parse(body, true) {
        assert_eq!(event.gtid, None);
    }
    if let Ok(event) = MariadbGtidEvent::parse(body, header.server_id) {
        let position: GtidPosition = event.gtid.to_string().parse().unwrap();
        assert_eq!(position.last(event.gtid.domain), Some(event.gtid));
    }
    if let Ok(prepare) = XaPrepare::parse(body) {
        assert_eq!(prepare.xid.global.len() + prepare.xid.branch.len() + 13, body.len());
        let _text = prepare.xid.to_string();
    }
    if let Ok((_, message)) = incident(body) {
        assert!(message.len() + 3 <= body.len());
    }
    let _xid = xid(body);
    let _set = GtidSet::from_bytes(body);
}

/// Whatever a table map says lies in its columns, takes no more memory than it is long, and a table can be
/// made of it or is refused.
fn table(body: &[u8]) {
    for is_mariadb in [false, true] {
        if let Ok(map) = TableMap::parse(body, is_mariadb) {
            is_in_order(body, &map);
        }
    }
}

fn is_in_order(body: &[u8], map: &TableMap) {
    assert_eq!(TableMap::id(body).unwrap(), map.table_id);
    assert_eq!(TableMap::name(body).unwrap(), (map.schema.clone(), map.name.clone()));
    assert!(map.columns.len() <= body.len());
    for at in map.primary_key.iter().flatten() {
        assert!(*at < map.columns.len());
    }
    let said = |column: &MappedColumn| {
        let labels = column.labels.iter().flatten().map(|label| label.len() + 1).sum::<usize>();
        labels + column.name.as_ref().map_or(0, String::len)
    };
    assert!(map.columns.iter().map(said).sum::<usize>() <= body.len());
    for image in [RowImage::Full, RowImage::Partial] {
        let Ok(table) = build_table(map, image, String::new()) else { continue };
        assert_eq!(table.columns.len(), map.columns.len());
        for (column, mapped) in table.columns.iter().zip(&map.columns) {
            assert_eq!(Some(&column.name), mapped.name.as_ref());
            assert!(!column.type_name.is_empty());
        }
    }
}

/// How a column is decoded, with what a server of few words leaves out.
fn completed(column: &MappedColumn) -> Option<Decoding> {
    let column = MappedColumn {
        is_unsigned: column.is_unsigned.or(Some(false)),
        collation: column.collation.or(Some(255)),
        labels: column.labels.clone().or_else(|| Some(vec![b"a".to_vec(), b"b".to_vec()])),
        ..column.clone()
    };
    decoding(&column).ok()
}

/// Images lie one behind the other in the event, none of them is of nothing, and each value is written as
/// its column says, or refused.
fn images(input: &[u8]) {
    let Some((&server, input)) = input.split_first() else { return };
    let (map, rest) = halves(input);
    let Some((&event, body)) = rest.split_first() else { return };
    let map = TableMap::parse(map, server & 1 == 1);
    let (Ok(map), Ok(rows)) = (map, Rows::parse(event, body)) else { return };
    let decodings: Vec<_> = map.columns.iter().map(completed).collect();
    let mut images = rows.images();
    let head = images.head_len(body);
    let (mut count, mut behind) = (0, 0);
    let mut before: HashMap<usize, Vec<u8>> = HashMap::new();
    while images.has_more() {
        let mut values = Vec::new();
        if images.next_image(&map, |value, end| values.push((value, end))).is_err() {
            break;
        }
        // A pair takes a byte at least.
        count += 1;
        assert!(count <= 2 * body.len(), "images of nothing");
        assert_eq!(values.len(), map.columns.len());
        for (at, (value, end)) in values.into_iter().enumerate() {
            let raw = match value {
                Value::Absent | Value::Null => continue,
                Value::Bytes(raw) => raw.to_vec(),
                Value::JsonDiff(diff) => {
                    assert!(rows.kind.has_pairs());
                    let mut out = Vec::new();
                    let old = before.get(&at).map_or(&[][..], Vec::as_slice);
                    if updated(old, diff, &mut out).is_err() {
                        assert!(out.is_empty());
                        continue;
                    }
                    out
                }
            };
            if let Value::Bytes(raw) = value {
                assert!(end >= behind + raw.len() && head + end <= body.len());
                assert_eq!(&body[head + end - raw.len()..head + end], raw);
                behind = end;
            }
            if let Some(decoding) = &decodings[at] {
                decodes(decoding, &raw);
            }
            before.insert(at, raw);
        }
    }
}
