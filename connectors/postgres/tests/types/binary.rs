//! Values in binary become the text that the same server prints.

use rowtide_postgres::decode::Decoding;
use rowtide_postgres::relation::{decodings, load_facts};
use tokio_postgres::Client;

use crate::golden::rows;
use crate::server::{is_known, on_each_version, relation, texts};

/// A type and the SQL of values, over `i` from 1 on; `$text` is random text.
const VALUES: &[(&str, &str)] = &[
    ("boolean", "i % 2 = 0"),
    ("int2", "((random() - 0.5) * 65534)::int2"),
    ("int4", "((random() - 0.5) * 4294967294)::int4"),
    ("int8", "((random() - 0.5) * 1.8e19)::int8"),
    ("oid", "(random() * 4294967295)::int8::oid"),
    ("xid8", "(random() * 1e15)::int8::text::xid8"),
    ("float4", "((random() - 0.5) * 10 ^ (i % 75 - 37))::float4"),
    ("float4", "(random() * 4e9)::int8::float4"),
    ("float4", "2.0::float8 ^ (i % 250 - 124)"),
    ("float4", "3 * 2.0::float8 ^ (i % 250 - 124)"),
    ("float4", "(i - 150) / 8.0::float4"),
    ("float8", "(random() - 0.5) * 10 ^ (i % 600 - 300)"),
    ("float8", "(random() * 1e17)::int8"),
    ("float8", "('1e' || i - 20)::float8"),
    ("float8", "('9e' || i % 40)::float8"),
    ("float8", "('5e' || i % 40)::float8"),
    ("float8", "2.0::float8 ^ (i * 7 % 2040 - 1020)"),
    ("float8", "3 * 2.0::float8 ^ (i * 7 % 2040 - 1022)"),
    ("float8", "(i - 150) / 1024.0::float8"),
    (
        "float8",
        "('{0,-0,NaN,Infinity,-Infinity,5e-324,1.7976931348623157e308,1e15,999999999999999,2.2250738585072014e-308,9007199254740993,4.35,1e-4,0.00001,123456789012345680}'::float8[])[1 + i % 15]",
    ),
    ("numeric", "round(((random() - 0.5) * 10 ^ (i % 40))::numeric, i % 20)"),
    ("numeric", "(random() * 1e9)::int8::numeric / 10000 ^ (i % 30)"),
    (
        "numeric",
        "('{0,0.00,-0.0001,10000,100000000,0.00000001,NaN,12345678901234567890.5,1e130}'::numeric[])[1 + i % 9]",
    ),
    ("money", "((random() - 0.5) * 10 ^ (i % 17))::numeric::money"),
    ("text", "$text"),
    ("char(8)", "left($text, 8)"),
    ("bytea", "decode(repeat(md5(random()::text), i % 5), 'hex')"),
    ("\"char\"", "chr(i % 127 + 1)::\"char\""),
    ("uuid", "md5(random()::text)::uuid"),
    (
        "varbit",
        "left(((random() * 1e9)::int::bit(32) || (random() * 1e9)::int::bit(32))::text, i % 65)::varbit",
    ),
    ("date", "'4713-01-01 BC'::date + (random() * 9000000)::int"),
    ("date", "'0003-01-01 BC'::date + i * 9"),
    ("timestamp", "'2000-01-01'::timestamp + (random() - 0.5) * 1.4e6 * '1 day'::interval"),
    ("timestamp(0)", "'1999-12-31 23:59:00'::timestamp + i * '1 second'::interval"),
    ("timestamptz", "'2000-01-01'::timestamptz + (random() - 0.5) * 1.4e6 * '1 day'::interval"),
    ("timestamptz(1)", "'1970-01-01'::timestamptz + i * '0.1 second'::interval"),
    ("time", "'00:00'::time + random() * '1 day'::interval"),
    ("time", "('{00:00,24:00,23:59:59.999999,00:00:00.1}'::time[])[1 + i % 4]"),
    (
        "timetz",
        "(('00:00'::time + random() * '1 day'::interval)::text || CASE WHEN i % 2 = 0 THEN '+' ELSE '-' END || i % 15 || ':' || i % 60 || ':' || i % 7 * 8)::timetz",
    ),
    ("interval", "make_interval(i % 5 - 2, i % 7 - 3, 0, i % 3 - 1, 0, 0, (i % 11 - 5) * 1000.5)"),
    ("interval", "((random() - 0.5) * 1e4) * '1 month 3 days 7.7 seconds'::interval"),
    (
        "interval",
        "('{0,1 year,-1 year,1 mon -1 day,-1 mon +1 day -00:00:01,300:00:00,-00:00:00.000001}'::interval[])[1 + i % 7]",
    ),
    ("json", "json_build_object('a' || $text, i, 'n', random())"),
    ("jsonb", "jsonb_build_object($text, i, 'n', random())"),
    ("jsonpath", "'$.a[*] ? (@ > 1)'"),
    ("inet", "('10.0.0.0'::inet + (random() * 1e6)::int)"),
    ("inet", "set_masklen('192.168.1.5'::inet, i % 33)"),
    (
        "inet",
        "('{::,::1,1::,2001:db8::1,::ffff:1.2.3.4,::1.2.3.4,1:0:0:2:0:0:0:3,1:0:2:0:3:0:4:0,fe80::1/64,::2:3:4,0:0:0:0:0:1:0:0,1:2:3:4:5:6:7::,::5:6:7:8}'::inet[])[1 + i % 13]",
    ),
    ("cidr", "network(set_masklen('192.168.1.5'::inet, i % 33))"),
    ("cidr", "('{::/0,2001:db8::/32,10.0.0.0/8,1.2.3.4}'::cidr[])[1 + i % 4]"),
    ("macaddr", "left(regexp_replace(md5(i::text), '(..)', '\\1:', 'g'), 17)::macaddr"),
    ("macaddr8", "left(md5(i::text), 16)::macaddr8"),
    ("point", "point(random() * 1e5, i / 8.0)"),
    ("lseg", "lseg(point(i, 1.5), point(-i, 1e20))"),
    ("box", "box(point(i, 1.5), point(-i, 3))"),
    ("path", "('{\"((1,2),(3,4.5))\",\"[(1,2)]\",\"((0,0),(1,1),(2,-2))\"}'::path[])[1 + i % 3]"),
    ("polygon", "polygon(i % 9 + 3, circle(point(i, 2), 3.5))"),
    ("line", "line(point(i, 1), point(2 * i, 7))"),
    ("circle", "circle(point(i, 0.1), 2.5)"),
    ("pg_lsn", "'0/0'::pg_lsn + (random() * 1e15)::int8::numeric"),
    ("tid", "('(' || i * 1000 || ',' || i || ')')::tid"),
    ("int2vector", "(i || ' -2 3')::int2vector"),
    ("oidvector", "CASE WHEN i % 3 = 0 THEN '' ELSE i || ' 4000000000' END::oidvector"),
    ("pg_snapshot", "('{10:20:10\\,14\\,15,5:5:}'::text[])[1 + i % 2]::pg_snapshot"),
    (
        "tsvector",
        "setweight(to_tsvector('simple', $text || ' the cat ' || i), (ARRAY['A','B','C','D']::\"char\"[])[1 + i % 4]) || $$'it''s \\\\ x'$$::tsvector",
    ),
    ("int4range", "(ARRAY[int4range(i, i + 10), 'empty', int4range(NULL, i), '(,)'])[1 + i % 4]"),
    ("numrange", "numrange(i / 10.0, i / 9.0, '[]')"),
    ("tsrange", "tsrange('2020-01-01'::timestamp + i * '1 hour'::interval, NULL)"),
    ("tstzrange", "tstzrange(NULL, '2020-01-01'::timestamptz + i * '1 hour'::interval, '(]')"),
    ("daterange", "daterange('2020-01-01'::date, '2020-01-01'::date + i)"),
    ("int8range", "int8range(-i, i * 10000000000)"),
    ("cdc_frange", "cdc_frange(i / 7.0, NULL)"),
    (
        "int4multirange",
        "(ARRAY[int4multirange(int4range(1, 5), int4range(7, i + 8)), '{}'])[1 + i % 2]",
    ),
    (
        "tsmultirange",
        "tsmultirange(tsrange('2020-01-01', '2021-01-01'), tsrange('2022-01-01', NULL))",
    ),
    ("int[]", "ARRAY[i, NULL, -i]"),
    (
        "int[]",
        "('{\"{}\",\"{{1,2},{3,NULL}}\",\"[0:1]={1,2}\",\"[2:2][-1:1]={{1,2,3}}\",\"{{{1},{2}},{{3},{4}}}\"}'::text[])[1 + i % 5]::int[]",
    ),
    ("text[]", "ARRAY[ARRAY[$text, NULL], ARRAY['NULL', $text]]"),
    ("text[]", "ARRAY[' a', 'a ', '', 'null', E'\\t', '{', 'a,b', 'x\"y\\z', 'é']"),
    ("bytea[]", "ARRAY['\\x00ff'::bytea]"),
    ("box[]", "ARRAY[box(point(i, 1), point(2, 3)), NULL]"),
    ("timestamptz[]", "ARRAY[now(), NULL, 'infinity']"),
    ("hstore", "hstore(ARRAY[$text, $text || 'x', 'k'], ARRAY[$text, NULL, $text])"),
    ("ltree", "('Top.a' || i)::ltree"),
    ("citext", "$text"),
    ("cdc_mood", "(enum_range(NULL::cdc_mood))[1 + i % 3]"),
    ("cdc_mood[]", "enum_range(NULL::cdc_mood)"),
    ("cdc_posint2", "1 + i % 99"),
    ("cdc_intarr", "ARRAY[i]"),
    (
        "cdc_addr",
        "ROW($text, CASE WHEN i % 3 = 0 THEN '' ELSE $text END, nullif(i % 3, 0))::cdc_addr",
    ),
    ("cdc_addr[]", "ARRAY[ROW($text, NULL, i)::cdc_addr, NULL, ROW(NULL, $text, NULL)::cdc_addr]"),
    (
        "\"Odd Name\"",
        "ROW(5, ARRAY[left($text, 3), NULL], '{sad,\"so so\"}', ARRAY[ROW($text, $text, i)::cdc_addr])::\"Odd Name\"",
    ),
];

/// The text and the binary form of every value of a table's only column, and its decoding.
async fn values(client: &Client, table: &str) -> (Decoding, Vec<(String, Option<Vec<u8>>)>) {
    let column = texts(
        client,
        &format!(
            "SELECT atttypid, atttypmod, typsend::oid, typsend FROM pg_attribute \
             JOIN pg_type t ON t.oid = atttypid WHERE attrelid = '{table}'::regclass AND attname = 'v'"
        ),
    )
    .await;
    let number = |at: usize| column[0][at].as_ref().unwrap().parse::<i64>().unwrap();
    let relation =
        relation(&[(u32::try_from(number(0)).unwrap(), i32::try_from(number(1)).unwrap())]);
    let facts = load_facts(client, &relation).await.unwrap();
    let decoding = decodings(&relation, &facts).pop().unwrap();
    let send = match number(2) {
        0 => "NULL".to_owned(),
        // Of a type beside text that shares its function.
        2415 => "encode(textsend(v::text), 'hex')".to_owned(),
        _ => format!("encode({}(v), 'hex')", column[0][3].as_ref().unwrap()),
    };
    let rows =
        texts(client, &format!("SELECT v, {send} FROM {table} WHERE v IS DISTINCT FROM NULL"))
            .await;
    let unhex = |hex: &String| {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    };
    let pair = |row: &Vec<Option<String>>| (row[0].clone().unwrap(), row[1].as_ref().map(unhex));
    let rows = rows.iter().map(pair).collect();
    (decoding, rows)
}

#[test]
fn h45_generated_values_in_binary_become_the_servers_text() {
    on_each_version(|version, client| async move {
        client.batch_execute("SELECT setseed(0.7)").await.unwrap();
        for (type_name, value) in VALUES {
            let value = value.replace("$text", crate::generated::TEXT);
            client
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS b; CREATE TABLE b (v {type_name}); \
                     INSERT INTO b SELECT {value} FROM generate_series(1, 300) i"
                ))
                .await
                .unwrap_or_else(|error| panic!("{type_name} {value}: {error:?}"));
            let (decoding, rows) = values(&client, "b").await;
            assert_eq!(rows.len(), 300, "{type_name} {value}");
            for (text, binary) in rows {
                let binary = binary.unwrap_or_else(|| panic!("{type_name} has no binary form"));
                let ours = decoding.text_of(&binary).map(|text| String::from_utf8(text).unwrap());
                assert_eq!(ours.as_deref(), Some(text.as_str()), "{version}: {type_name}");
                // A value that is cut or longer is refused, or is another value.
                for end in 0..binary.len() {
                    let _refused = decoding.text_of(&binary[..end]);
                }
                let _refused = decoding.text_of(&[&binary[..], b"x"].concat());
            }
        }
    });
}

#[test]
fn h45_every_row_of_the_type_data_in_binary_becomes_the_servers_text() {
    on_each_version(|version, client| async move {
        let has_xml = client.batch_execute("SELECT '<a/>'::xml").await.is_ok();
        let (mut converted, mut without) = (0, Vec::new());
        for (row, _) in rows() {
            if !is_known(&row, version) || (row.type_name == "xml" && !has_xml) {
                continue;
            }
            let (type_name, literal) = (&row.type_name, &row.literal);
            client
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS b; CREATE TABLE b (v {type_name}); \
                     INSERT INTO b VALUES ({literal})"
                ))
                .await
                .unwrap();
            let (decoding, rows) = values(&client, "b").await;
            let Some((text, Some(binary))) = rows.first() else {
                without.push(type_name.clone());
                continue;
            };
            if !decoding.has_binary() {
                without.push(type_name.clone());
                continue;
            }
            let ours = decoding.text_of(binary).unwrap();
            // Servers from 16 on escape a "char" above 127 in text; JSON has that form of both.
            if type_name == "\"char\"" {
                assert_eq!(
                    crate::decode(&decoding, &ours).unwrap().0,
                    crate::json(&decoding, text)
                );
            } else {
                let ours = String::from_utf8(ours).unwrap();
                assert_eq!(&ours, text, "{version}: {type_name} {literal}");
            }
            converted += 1;
        }
        assert!(converted > 100, "{converted}, without: {without:?}");
        println!("{version}: {converted} values; not in binary: {without:?}");
    });
}
