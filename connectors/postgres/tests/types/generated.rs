//! Values that a real server generates, against what its own casts print.

use rowtide_postgres::relation::{RelationMessage, build_table, load_facts};
use serde_json::Value;
use tokio_postgres::Client;

use crate::server::{on_each_version, relation, texts};

/// Generated values of a type: the SQL of the value, of what it is compared with, and how.
struct Generated {
    type_name: &'static str,
    value: &'static str,
    /// SQL over `v`.
    expected: &'static str,
    compare: Compare,
}

/// What `expected` gives.
#[derive(Clone, Copy)]
enum Compare {
    /// JSON.
    Json,
    /// The text of our JSON string.
    Text,
    /// The bits of a number, in hex.
    Bits32,
    /// The same of a double.
    Bits64,
}

const fn as_json(
    type_name: &'static str,
    value: &'static str,
    expected: &'static str,
) -> Generated {
    Generated { type_name, value, expected, compare: Compare::Json }
}

const fn as_text(
    type_name: &'static str,
    value: &'static str,
    expected: &'static str,
) -> Generated {
    Generated { type_name, value, expected, compare: Compare::Text }
}

/// Random text of the characters that are special somewhere.
pub(crate) const TEXT: &str = "(SELECT coalesce(string_agg(substr(E'ab,{}()\"\\'\\\\ \\n\\té😀=>;:[]NUL', 1 + (random()*24)::int, 1), ''), '') FROM generate_series(1, (random()*12)::int) WHERE i >= 0)";

const GENERATED: &[Generated] = &[
    as_json("int2", "((random()-0.5)*65534)::int2", "to_jsonb(v)"),
    as_json("int4", "((random()-0.5)*4294967294)::int4", "to_jsonb(v)"),
    as_json("int8", "((random()-0.5)*1.8e19)::int8", "to_jsonb(v)"),
    as_json("oid", "(random()*4294967295)::int8::oid", "to_jsonb(v::int8)"),
    as_json("boolean", "random() < 0.5", "to_jsonb(v)"),
    as_json("text", "$text", "to_jsonb(v)"),
    as_json("name", "$text::name", "to_jsonb(v)"),
    as_json("varchar(5)", "left($text, 5)", "to_jsonb(v)"),
    as_json("char(8)", "left($text, 8)", "to_jsonb(rpad(v::text, 8))"),
    as_json("citext", "$text", "to_jsonb(v::text)"),
    Generated {
        type_name: "float4",
        value: "((random()-0.5)*10^(i%75-37))::float4",
        expected: "encode(float4send(v), 'hex')",
        compare: Compare::Bits32,
    },
    Generated {
        type_name: "float8",
        value: "(random()-0.5)*10^(i%600-300)",
        expected: "encode(float8send(v), 'hex')",
        compare: Compare::Bits64,
    },
    as_text("numeric", "round(((random()-0.5)*10^(i%40))::numeric, i%20)", "v::text"),
    as_text("money", "((random()-0.5)*10^(i%17))::numeric::money", "v::numeric::text"),
    as_text("uuid", "md5(random()::text)::uuid", "v::text"),
    as_text(
        "bytea",
        "decode(repeat(md5(random()::text), i%5) || left('0123456789', 2*(i%5)), 'hex')",
        "replace(encode(v, 'base64'), E'\\n', '')",
    ),
    as_text(
        "date",
        "'2000-01-01 BC'::date + (random()*5000000)::int",
        "to_char(v, CASE WHEN v > '9999-12-31' THEN 'FMYYYY' ELSE 'YYYY' END) || to_char(v, '-MM-DD') || CASE WHEN v < '0001-01-01' THEN ' BC' ELSE '' END",
    ),
    as_text(
        "timestamp",
        "'0001-01-01'::timestamp + random()*1e6 * '1 day'::interval",
        "to_char(v, 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
    ),
    as_text(
        "timestamptz",
        "'2000-01-01'::timestamptz + (random()-0.5)*1e6 * '1 day'::interval",
        "to_char(v, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    ),
    as_text("time", "'00:00'::time + random() * '1 day'::interval", "to_char(v, 'HH24:MI:SS.US')"),
    as_text("interval", "((random()-0.5)*1e4) * '1 month 3 days 7.7 seconds'::interval", "v::text"),
    as_text(
        "bit varying",
        "((random()*1e9)::int::bit(32) || (random()*1e9)::int::bit(32))",
        "v::text",
    ),
    as_json(
        "jsonb",
        "jsonb_build_object($text, i, 'n', random(), 'a', jsonb_build_array($text, null, $text))",
        "v",
    ),
    as_json(
        "json",
        "json_build_object('a' || $text, i, 'n', ARRAY[random()], 'z', $text)",
        "v::jsonb",
    ),
    as_json("int[]", "ARRAY[i, NULL, -i]", "to_jsonb(v)"),
    as_json("text[]", "ARRAY[ARRAY[$text, NULL], ARRAY['NULL', $text]]", "to_jsonb(v)"),
    as_json("text[]", "ARRAY[[[$text],[$text]],[[$text],[$text]]]", "to_jsonb(v)"),
    as_json(
        "jsonb[]",
        "ARRAY[to_jsonb($text), jsonb_build_object('k', $text), NULL]",
        "to_jsonb(v)",
    ),
    as_json(
        "hstore",
        "hstore(ARRAY[$text, $text || 'x', 'k'], ARRAY[$text, NULL, $text])",
        "v::jsonb",
    ),
    as_json("cdc_mood", "(enum_range(NULL::cdc_mood))[1 + i%3]", "to_jsonb(v)"),
    as_json("cdc_posint2", "1 + i%99", "to_jsonb(v)"),
    as_json("cdc_addr", "ROW($text, $text, nullif(i%3, 0))::cdc_addr", "to_jsonb(v)"),
    as_json(
        "cdc_addr[]",
        "ARRAY[ROW($text, NULL, i)::cdc_addr, NULL, ROW(NULL, $text, NULL)::cdc_addr]",
        "to_jsonb(v)",
    ),
    as_json(
        "\"Odd Name\"",
        "ROW(5, ARRAY[left($text, 3), NULL], '{sad,\"so so\"}', ARRAY[ROW($text, $text, i)::cdc_addr])::\"Odd Name\"",
        "to_jsonb(v)",
    ),
    as_text("inet", "('10.0.0.0'::inet + (random()*1e6)::int)", "host(v)"),
    as_text("int4range", "int4range(i, i + 10)", "v::text"),
];

#[test]
fn generated_values_are_what_the_servers_own_casts_print() {
    on_each_version(|version, client| async move {
        client.batch_execute("SELECT setseed(0.42)").await.unwrap();
        for generated in GENERATED {
            let value = generated.value.replace("$text", TEXT);
            let type_name = generated.type_name;
            client
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS g; CREATE TABLE g (v {type_name}); \
                     INSERT INTO g SELECT {value} FROM generate_series(1, 300) i"
                ))
                .await
                .unwrap_or_else(|error| panic!("{type_name}: {error:?}"));
            let relation = one_column_relation(&client).await;
            let facts = load_facts(&client, &relation).await.unwrap();
            let table = build_table("postgres", &relation, &facts);
            let sql = format!("SELECT v, {} FROM g", generated.expected);
            let rows = texts(&client, &sql).await;
            assert_eq!(rows.len(), 300);
            for row in rows {
                let [Some(raw), Some(expected)] = row.as_slice() else { panic!("{type_name}") };
                let mut out = rowtide_sdk::JsonWriter::default();
                table.columns[0].decode.write(raw.as_bytes(), &mut out).unwrap();
                let ours = std::str::from_utf8(out.as_bytes()).unwrap();
                let equal = match generated.compare {
                    Compare::Json => by_name(ours) == by_name(expected),
                    Compare::Text => serde_json::from_str::<String>(ours).unwrap() == *expected,
                    Compare::Bits32 => {
                        format!("{:08x}", ours.parse::<f32>().unwrap().to_bits()) == *expected
                    }
                    Compare::Bits64 => {
                        format!("{:016x}", ours.parse::<f64>().unwrap().to_bits()) == *expected
                    }
                };
                assert!(equal, "{version} {type_name}: {raw} gave {ours}, not {expected}");
            }
        }
    });
}

/// The value with the members of every object by name: the order of jsonb is its own.
fn by_name(json: &str) -> Value {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            Value::Object(members) => {
                let mut members: Vec<_> =
                    members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(members.into_iter().collect())
            }
            other => other,
        }
    }
    sorted(serde_json::from_str(json).unwrap())
}

async fn one_column_relation(client: &Client) -> RelationMessage {
    let row = texts(
        client,
        "SELECT atttypid, atttypmod FROM pg_attribute WHERE attrelid = 'g'::regclass AND attnum = 1",
    )
    .await;
    let number = |at: usize| row[0][at].as_ref().unwrap().parse::<i64>().unwrap();
    relation(&[(u32::try_from(number(0)).unwrap(), i32::try_from(number(1)).unwrap())])
}
