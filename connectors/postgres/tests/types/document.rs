//! The committed table of forms, `TYPES.md`, written from the decoders.

use std::fmt::Write as _;

use rowtide_postgres::catalog::{TypeCatalog, TypeKind};
use rowtide_postgres::decode::{self, Decoding};
use rowtide_sdk::{StringKind, Written};
use rowtide_testkit::forms::{json_form, schema};

use crate::{decode, user_types};

/// A value of every built-in type, as the server prints it.
pub(crate) const EXAMPLES: &[(u32, &str)] = &[
    (16, "t"),
    (17, r#"\xdeadbeef"#),
    (18, "a"),
    (19, "pg_class"),
    (20, "9007199254740993"),
    (21, "-32768"),
    (22, "1 2 3"),
    (23, "42"),
    (24, "now"),
    (25, r#"a "b""#),
    (26, "4294967295"),
    (27, "(0,1)"),
    (28, "731"),
    (29, "0"),
    (30, "23 25"),
    (114, r#"{"b": 1,  "a": [1.0, 1e400]}"#),
    (142, "<a>1</a>"),
    (194, "({VAR})"),
    (600, "(1.5,-2)"),
    (601, "[(0,0),(1,1)]"),
    (602, "((0,0),(1,1))"),
    (603, "(1,1),(0,0)"),
    (604, "((0,0),(1,0),(0,1))"),
    (628, "{1,-1,0}"),
    (650, "10.1.0.0/16"),
    (700, "1.6777216e+07"),
    (701, "0.1"),
    (718, "<(1,2),3>"),
    (774, "08:00:2b:ff:fe:01:02:03"),
    (790, "-$1,234.56"),
    (829, "08:00:2b:01:02:03"),
    (869, "192.168.0.1"),
    (1033, "postgres=r/postgres"),
    (1042, "ab   "),
    (1043, "ab"),
    (1082, "2024-02-29"),
    (1083, "23:59:59.5"),
    (1114, "2026-11-20 16:57:13.123"),
    (1184, "2026-11-20 16:57:13+00"),
    (1186, "1 year 2 mons -3 days +04:05:06.789"),
    (1266, "10:00:00+05:30"),
    (1560, "1"),
    (1562, "1010"),
    (1700, "1.000"),
    (1790, "c1"),
    (2202, "now()"),
    (2203, "!~"),
    (2204, "+(integer,integer)"),
    (2205, "public.orders"),
    (2206, "integer"),
    (2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    (2970, "10:20:10"),
    (3220, "0/16B3748"),
    (3361, r#"{"1, 2": 3}"#),
    (3402, r#"{"1 => 2": 1.000000}"#),
    (3614, "'cat':5 'fat':2B,4C"),
    (3615, "'fat' & 'rat'"),
    (3642, "1 true bits, 5 false bits"),
    (3734, "english"),
    (3769, "simple"),
    (3802, r#"{"a": 3, "b": null}"#),
    (3904, "[1,5)"),
    (3906, "(1.5,)"),
    (3908, r#"["2020-01-01 00:00:00",infinity)"#),
    (3910, r#"["2020-01-01 00:00:00+00",)"#),
    (3912, "[2020-01-01,2020-02-01)"),
    (3926, "empty"),
    (4072, r#"$."a"[*]"#),
    (4089, "public"),
    (4096, "postgres"),
    (4191, r#""C""#),
    (4451, "{[1,3),[5,7)}"),
    (4532, "{[1.5,2.5)}"),
    (4533, r#"{["2020-01-01 00:00:00",)}"#),
    (4534, r#"{["2020-01-01 00:00:00+00",)}"#),
    (4535, "{[2020-01-01,2020-02-01)}"),
    (4536, "{}"),
    (4600, "{mode: hashed}"),
    (4601, "{nranges: 1}"),
    (5017, r#"\x00"#),
    (5038, "10:20:10,14"),
    (5069, "18446744073709551615"),
];

const TABLE_HEAD: &str = concat!(
    "| PostgreSQL type | JSON form | Schema | Server's text | JSON |\n",
    "|---|---|---|---|---|\n"
);

fn built_in(out: &mut String) {
    out.push_str(TABLE_HEAD);
    for (oid, text) in EXAMPLES {
        let name = decode::builtin_name(*oid, -1).unwrap();
        row(out, &format!("`{name}`"), &decode::builtin(*oid, -1).unwrap(), text);
    }
}

fn row(out: &mut String, name: &str, decoding: &Decoding, text: &str) {
    let (json, written) = decode(decoding, text.as_bytes()).unwrap();
    assert_eq!(written, Written::Form, "{name}");
    let Decoding { form, .. } = decoding;
    let (kind, schema) = (json_form(form), schema(form));
    // A bar would end the table's cell.
    let (text, json) = (text.replace('|', "\\|"), json.replace('|', "\\|"));
    let _ = writeln!(out, "| {name} | {kind} | {schema} | `{text}` | `{json}` |");
}

const SMALL_ADDR: &str = "composite `addr (street text, n integer)`";

fn made(out: &mut String) {
    let catalog = user_types::catalog();
    out.push_str(TABLE_HEAD);
    let built_in: &[(u32, i32, &str)] = &[
        (1043, 7, "abc"),
        (1042, 9, "ab   "),
        (1700, 655_366, "45.60"),
        (1560, 8, "10101010"),
        (1184, 3, "2024-03-10 07:30:00.5+00"),
        (1007, -1, "{{1,NULL},{3,4}}"),
        (1009, -1, r#"{"NULL",NULL,"a\"b"}"#),
        (1001, -1, r#"{"\\x00ff",NULL}"#),
        (1020, -1, "{(1,1),(0,0);(2,2),(1,1)}"),
        (3905, -1, r#"{"[1,3)",empty}"#),
        (3807, -1, r#"{"{\"a\": 1}",NULL}"#),
    ];
    for (oid, typmod, text) in built_in {
        let name = decode::builtin_name(*oid, *typmod).unwrap();
        row(out, &format!("`{name}`"), &catalog.resolve(*oid, *typmod), text);
    }
    let made: &[(&str, u32, &str)] = &[
        ("enum `mood`", user_types::MOOD, "so so"),
        ("domain `posint` over `integer`", user_types::POSINT, "7"),
        ("domain over the domain `posint`", user_types::POSINT2, "7"),
        ("domain over `integer[]`", user_types::INT_ARRAY_DOMAIN, "{1,NULL}"),
        ("array of a domain over `integer[]`", user_types::ARRAY_OF_DOMAIN, r#"{"{1,2}","{}"}"#),
        (SMALL_ADDR, user_types::SMALL_ADDR, r#"("1 ""Main"" St",)"#),
        ("`addr[]`", user_types::SMALL_ADDR_ARRAY, r#"{"(\"a,b\",1)"}"#),
        ("range `floatrange`", user_types::FLOAT_RANGE, "[1.5,2.5)"),
    ];
    for (name, oid, text) in made {
        row(out, name, &catalog.resolve(*oid, -1), text);
    }
    let oid = 90_000;
    let multirange = TypeKind::Multirange { subtype: 701 };
    let fact = user_types::fact(oid, "floatmultirange", true, multirange);
    let decoding = TypeCatalog::new([fact], []).resolve(oid, -1);
    row(out, "multirange `floatmultirange`", &decoding, "{[1.5,2.5),[3,4)}");
}

/// Types of extensions: the extension, the type, a value.
const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("hstore", "hstore", r#""a"=>"1", "b"=>NULL"#),
    ("citext", "citext", "a@b.c"),
    ("ltree", "ltree", "Top.Science"),
    ("ltree", "lquery", "*.b|c.*"),
    ("ltree", "ltxtquery", "a & b*"),
    ("cube", "cube", "(1, 2),(3, 4)"),
    ("isn", "ean13", "978-0-393-04002-9"),
    ("isn", "isbn", "0-393-04002-X"),
    ("isn", "isbn13", "978-0-393-04002-9"),
    ("isn", "ismn", "M-060-11561-5"),
    ("isn", "ismn13", "979-0-060-11561-5"),
    ("isn", "issn", "1436-4522"),
    ("isn", "issn13", "977-1436-452-00-8"),
    ("isn", "upc", "220356483481"),
    ("intarray", "query_int", "1 & ( 2 | !3 )"),
    ("seg", "seg", "1.50 .. 2.0"),
    ("vector", "vector", "[1,2.5,-3]"),
    ("vector", "halfvec", "[1,2.5,-3]"),
    ("vector", "sparsevec", "{1:1.5,3:2}/5"),
    ("postgis", "geometry", "0101000020E6100000000000000000F03F0000000000000040"),
    ("postgis", "geography", "0101000020E6100000000000000000F03F0000000000000040"),
    ("postgis", "box2d", "BOX(1 2,3 4)"),
    ("postgis", "box3d", "BOX3D(1 2 3,4 5 6)"),
];

fn extensions(out: &mut String) {
    out.push_str(TABLE_HEAD.replacen("PostgreSQL type", "Extension: type", 1).as_str());
    let oid = 90_000;
    let decoding = |kind: TypeKind| {
        let cube = user_types::catalog();
        let fact = user_types::fact(oid, "t", true, kind);
        match &fact.kind {
            TypeKind::Domain { base, .. } => cube.resolve(*base, -1),
            _ => TypeCatalog::new([fact], []).resolve(oid, -1),
        }
    };
    for (extension, type_name, text) in EXTENSIONS {
        let base = TypeKind::Base {
            type_name: (*type_name).to_owned(),
            extension: Some((*extension).to_owned()),
        };
        row(out, &format!("{extension}: `{type_name}`"), &decoding(base), text);
    }
    let domains: &[(&str, u32, &str)] = &[
        ("earthdistance: `earth`, a domain over `cube`", user_types::CUBE, "(6378168, 0, 0)"),
        ("lo: `lo`, a domain over `oid`", 26, "12345"),
    ];
    for (name, base, text) in domains {
        row(out, name, &decoding(TypeKind::Domain { base: *base, typmod: -1 }), text);
    }
}

fn special(out: &mut String) {
    let catalog = user_types::catalog();
    out.push_str(concat!(
        "| PostgreSQL type | Server's text | JSON | Why |\n",
        "|---|---|---|---|\n"
    ));
    let rows: &[(u32, &str, &str)] = &[
        (1700, "NaN", "not a JSON number"),
        (1700, "-Infinity", "not a JSON number"),
        (701, "Infinity", "not a JSON number"),
        (1082, "infinity", "no calendar day"),
        (1082, "0044-03-15 BC", "before year 1"),
        (1082, "5874897-12-31", "more than four year digits"),
        (1184, "0001-01-01 00:00:00+00 BC", "before year 1"),
        (1114, "-infinity", "no point in time"),
        (1083, "24:00:00", "the end of the day"),
        (1266, "24:00:00-15:59:59", "offsets may hold seconds"),
        (1186, "00:00:00", "months, days and time stay apart"),
        (18, r"\200", "a byte above 127; servers before 16 send the byte itself"),
        (1007, "[0:1]={1,2}", "bounds that do not start at 1: the server's text"),
        (
            114,
            r#"{"a": 1, "a": 2}"#,
            "a repeated key: the text, and the column is listed in `raw_json`",
        ),
        (114, r#""\ud800""#, "half a surrogate pair: the text, listed in `raw_json`"),
        (
            199,
            r#"{1,"\"\\ud800\""}"#,
            "the same inside an array: the array's text, listed in `raw_json`",
        ),
        (user_types::SMALL_ADDR, "(a,1,2)", "a field more than the type has: the server's text"),
        (user_types::SMALL_ADDR, "(1,a)", "fields that are not of the type: the same"),
    ];
    for (oid, text, why) in rows {
        let name = match decode::builtin_name(*oid, -1) {
            Some(name) => format!("`{name}`"),
            None => SMALL_ADDR.to_owned(),
        };
        let (json, written) = decode(&catalog.resolve(*oid, -1), text.as_bytes()).unwrap();
        assert_eq!(written == Written::RawJson, why.contains("raw_json"), "{text}");
        let _ = writeln!(out, "| {name} | `{text}` | `{json}` | {why} |");
    }
}

fn kinds(out: &mut String) {
    out.push_str("| Kind | Pattern |\n|---|---|\n");
    let kinds = [
        StringKind::Text { max_chars: None },
        StringKind::Bytes,
        StringKind::Decimal,
        StringKind::Date,
        StringKind::Time,
        StringKind::TimeTz,
        StringKind::Timestamp,
        StringKind::TimestampTz,
        StringKind::Interval,
        StringKind::Uuid,
        StringKind::Bits,
        StringKind::Opaque,
    ];
    for kind in kinds {
        // A bar would end the table's cell.
        let pattern = kind.pattern().map_or_else(
            || "any text".to_owned(),
            |pattern| format!("`{}`", pattern.replace('|', "\\|")),
        );
        let _ = writeln!(out, "| {} | {pattern} |", kind.name());
    }
}

const HEAD: &str = "\
# PostgreSQL types in JSON

How the value of each PostgreSQL type looks in an event: its form in JSON, what the row schema says of
it, and one example. \"or string\" is the server's own text, where a value has no place in the form (see
the special values). SQL NULL is `null` everywhere. Generated from the decoders by `tests/types.rs`,
which fails when the two disagree (`BLESS=1` rewrites this file).

The values are decoded from the server's text under fixed settings: `DateStyle` ISO,
`IntervalStyle` postgres, `TimeZone` UTC, `extra_float_digits` 3, `bytea_output` hex, `lc_monetary`
C, `quote_all_identifiers` off, UTF-8. A value that is not of its column's type stops the event; nothing is ever guessed.

## Built-in types

";

const MADE: &str = "
## Modifiers, arrays, user-defined types

Types without a fixed number in the server are looked up in the catalog, over any nesting: domains over
arrays and domains, arrays of composites, composites of anything. One that cannot be found there any
more passes as text (kind opaque); nothing is dropped. The row type of a table is a composite.

A composite is described as the catalog has it when the table is first seen. A later `ALTER TYPE … ADD`
or `DROP ATTRIBUTE` leaves no sign in the log: values whose fields do not fit the description come as
the server's text, until the log describes the table anew, as it does after an `ALTER TABLE` of it while
it is captured. Attributes renamed, or exchanged for others of the same types, keep their old names
until then.

";

const EXTENSION_HEAD: &str = "
## Extensions

Those of PostgreSQL's own contrib packages that have types, pgvector, and PostGIS. hstore and citext
have forms of their own; of all other extensions the server's text is taken as it is (kind opaque):
PostGIS prints hexadecimal EWKB.

";

const SPECIAL: &str = "
## Special values

";

const KINDS: &str = "
Also listed in `raw_json`, as text: JSON nested so deep that the event would pass the 128 levels at
which parsers stop (124 levels in a plain column), and text that is no strict JSON at all.

## String kinds

The pattern that the row schema states for each kind, where there is one.

";

#[test]
fn the_committed_table_of_forms_is_what_the_decoders_do() {
    let mut text = HEAD.to_owned();
    built_in(&mut text);
    text.push_str(MADE);
    made(&mut text);
    text.push_str(EXTENSION_HEAD);
    extensions(&mut text);
    text.push_str(SPECIAL);
    special(&mut text);
    text.push_str(KINDS);
    kinds(&mut text);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/TYPES.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    for (wrote, committed) in text.lines().zip(committed.lines()) {
        assert_eq!(wrote, committed, "BLESS=1 rewrites TYPES.md");
    }
    assert_eq!(text, committed);
}

#[test]
fn every_built_in_type_is_in_the_table() {
    let listed: Vec<u32> = EXAMPLES.iter().map(|(oid, _)| *oid).collect();
    assert_eq!(listed, decode::builtin_scalars().collect::<Vec<_>>());
}
