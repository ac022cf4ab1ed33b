//! Values of every type, from any bytes.

use std::collections::BTreeMap;

use rowtide_mysql::binlog::table_map::{MappedColumn, NamedType, Stored};
use rowtide_mysql::charset::Charset;
use rowtide_mysql::decode::{Decoding, decoding};
use rowtide_sdk::{Form, JsonWriter, StringKind, Written};

use super::recorded_rows;
use crate::checker;
use crate::frame::{Check, Target};

/// Each way to decode once: types that share form and decoder count as one.
pub(crate) fn target() -> Target {
    let each: BTreeMap<String, (Decoding, Stored)> = columns()
        .iter()
        .map(|column| (decoding(column).unwrap(), column.stored))
        .map(|(decoding, stored)| (format!("{decoding:?}"), (decoding, stored)))
        .collect();
    let check = |(decoding, stored)| -> Check {
        Box::new(move |raw| match stored {
            // The row says how long it is.
            Stored::Integer(width) => {
                raw.get(..width.into()).into_iter().for_each(|raw| decodes(&decoding, raw));
            }
            _ => decodes(&decoding, raw),
        })
    };
    Target { checks: each.into_values().map(check).collect(), seeds: values() }
}

/// Whatever the bytes: one JSON value of the form on one line, or refused. Text is text as well.
pub(crate) fn decodes(decoding: &Decoding, raw: &[u8]) {
    let _text = decoding.decode.text(raw);
    let mut out = JsonWriter::new(b"before".to_vec());
    let Ok(written) = decoding.decode.write(raw, &mut out) else { return };
    let text = String::from_utf8(out.into_inner()).unwrap();
    let json = text.strip_prefix("before").unwrap();
    assert!(json.bytes().all(|byte| byte >= b' '), "{decoding:?} wrote {json:?}");
    if written == Written::RawJson {
        assert_eq!(decoding.form, Form::Json);
        let own = serde_json::from_str::<String>(json).unwrap();
        assert_eq!(own.as_bytes(), &*decoding.decode.text(raw));
    } else {
        assert!(checker::is_of_form(&decoding.form, json), "{decoding:?} wrote {json}");
        let kind = if let Form::String(kind) = decoding.form { Some(kind) } else { None };
        if matches!(kind, Some(StringKind::Date | StringKind::Timestamp | StringKind::TimestampTz))
        {
            // Zero and partial dates are the server's; others no server has.
            let part = |at| json[at..at + 2].parse::<u8>().unwrap();
            assert!(json.as_bytes()[5] == b'-' && part(6) <= 12 && part(9) <= 31, "{json}");
        }
    }
    if decoding.form == Form::Json {
        let mut out = JsonWriter::default();
        decoding.decode.write_text(raw, &mut out).unwrap();
        let own = serde_json::from_slice::<String>(out.as_bytes()).unwrap();
        assert_eq!(own.as_bytes(), &*decoding.decode.text(raw));
    }
}

/// A column of a type, with what its decoder needs.
fn column(stored: Stored) -> MappedColumn {
    MappedColumn {
        stored,
        is_nullable: true,
        is_unsigned: Some(false),
        // utf8mb4.
        collation: Some(255),
        name: Some("v".to_owned()),
        labels: Some([&b"a"[..], b"b c", b"\xc3\xa9", b""].map(<[u8]>::to_vec).to_vec()),
        geometry: None,
        dimensions: None,
        is_visible: None,
        named: None,
    }
}

fn columns() -> Vec<MappedColumn> {
    let mut all = vec![column(Stored::Integer(8))];
    all[0].is_unsigned = Some(true);
    all.extend([1, 2, 3, 4, 8].map(|width| column(Stored::Integer(width))));
    all.extend(
        [(1, 0), (5, 2), (9, 9), (10, 1), (19, 9), (38, 38), (65, 0), (65, 30)]
            .map(|(precision, scale)| column(Stored::Decimal { precision, scale })),
    );
    all.extend([1, 8, 10, 64].map(|bits| column(Stored::Bit(bits))));
    for digits in [0, 1, 3, 6] {
        let with = [Stored::Time(digits), Stored::DateTime(digits), Stored::Timestamp(digits)];
        all.extend(with.map(column));
    }
    all.extend(
        [
            Stored::Float,
            Stored::Year,
            Stored::Date,
            Stored::OldTime,
            Stored::OldDateTime,
            Stored::OldTimestamp,
            Stored::Json(4),
            Stored::Geometry(4),
            Stored::Vector(4),
            Stored::Enum(1),
            Stored::Set(1),
        ]
        .map(column),
    );
    let char = |collation| MappedColumn {
        collation: Some(collation),
        ..column(Stored::Char { max_bytes: 16 })
    };
    let charsets: BTreeMap<&str, u32> = (0..2048)
        .filter_map(|id| Charset::of_collation(id).map(|charset| (charset.name(), id)))
        .collect();
    assert!(charsets.len() > 30);
    all.extend(charsets.into_values().map(char));
    all.push(column(Stored::Blob(2)));
    let named = [NamedType::Uuid, NamedType::Inet4, NamedType::Inet6];
    all.extend(named.map(|named| MappedColumn {
        named: Some(named),
        ..column(Stored::Char { max_bytes: 16 })
    }));
    all
}

/// The values of the recorded rows, and a few of other widths.
fn values() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..17).map(|width| vec![1; width]).collect();
    all.extend(
        [&b"\xb9\xfa\xc4\xdc"[..], "größe é 😀".as_bytes(), b"\xff\xff"].map(<[u8]>::to_vec),
    );
    all.extend(recorded_rows().into_iter().flatten().filter_map(|(_, raw, _)| raw));
    all.sort();
    all.dedup();
    all
}
