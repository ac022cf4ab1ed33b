//! Properties of the decoders over any bytes and over values that are rendered as the server would.

use base64::Engine as _;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rowtide_postgres::decode::{self, Decoding};
use rowtide_sdk::Written;

use crate::checker::{is_json, is_of_form};
use crate::document::EXAMPLES;
use crate::{decode, json, user_types};

/// Every decoder: built-in scalars and arrays, and the made ones.
fn decodings() -> Vec<Decoding> {
    let catalog = user_types::catalog();
    let made = [
        user_types::ADDR,
        user_types::ADDR_ARRAY,
        user_types::ARRAY_OF_DOMAIN,
        user_types::HSTORE,
        user_types::POSINT2,
        user_types::WITH_JSON,
    ];
    let mut all: Vec<Decoding> = decode::builtin_scalars()
        .chain(decode::builtin_arrays())
        .map(|oid| decode::builtin(oid, -1).unwrap())
        .chain(made.map(|oid| catalog.resolve(oid, -1)))
        .collect();
    all.push(decode::builtin(1043, 7).unwrap());
    all.push(decode::builtin(1014, 9).unwrap());
    all
}

/// Whatever the bytes: no panic, and what is written is one JSON value of the form.
fn holds_for(decoding: &Decoding, raw: &[u8]) -> Result<(), TestCaseError> {
    match decode(decoding, raw) {
        Ok((json, Written::Form)) => {
            prop_assert!(is_json(&json), "{decoding:?} wrote {json} for {raw:?}");
            prop_assert!(is_of_form(&decoding.form, &json), "{decoding:?}: {json} for {raw:?}");
        }
        Ok((json, Written::RawJson)) => {
            let text: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(text.as_bytes(), raw);
        }
        Err(_) => {}
    }
    Ok(())
}

/// Text of the characters that mean something in some type.
fn telling_text() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "0",
        "1",
        "9",
        "-",
        "+",
        ".",
        ",",
        ";",
        ":",
        " ",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\"",
        "\\",
        "=>",
        "NULL",
        "t",
        "f",
        "e",
        "null",
        "true",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud800",
        "é",
        "\n",
        "\u{1}",
        "2024-01-01",
        "10:00:00",
        "+00",
        " BC",
        "infinity",
        "NaN",
        "$1",
        ",000",
        ".00",
        "\\x",
        "ff",
        "a",
        "=",
        "\"a\":",
    ];
    vec(select(pieces.to_vec()), 0..24).prop_map(|pieces| pieces.concat().into_bytes())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_one_value_of_the_form_or_refused(raw in vec(any::<u8>(), 0..48)) {
        for decoding in decodings() {
            holds_for(&decoding, &raw)?;
        }
    }

    #[test]
    fn any_telling_text_is_one_value_of_the_form_or_refused(raw in telling_text()) {
        for decoding in decodings() {
            holds_for(&decoding, &raw)?;
        }
    }

    #[test]
    fn a_damaged_value_is_one_value_of_the_form_or_refused(
        index in 0..EXAMPLES.len(),
        at in any::<prop::sample::Index>(),
        change in 0..4,
        byte in any::<u8>(),
    ) {
        let (oid, text) = EXAMPLES[index];
        let mut raw = text.as_bytes().to_vec();
        let at = at.index(raw.len().max(1));
        match change {
            0 => raw.insert(at.min(raw.len()), byte),
            1 if !raw.is_empty() => { raw.remove(at); }
            2 if !raw.is_empty() => raw[at] = byte,
            _ => raw.truncate(at),
        }
        holds_for(&decode::builtin(oid, -1).unwrap(), &raw)?;
    }

    #[test]
    fn text_reads_back_equal(text in ".{0,200}") {
        let written: String = serde_json::from_str(&json(&builtin(25), &text)).unwrap();
        prop_assert_eq!(written, text);
    }

    #[test]
    fn bytes_read_back_equal(bytes in vec(any::<u8>(), 0..200)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let written: String = serde_json::from_str(&json(&builtin(17), &format!("\\x{hex}"))).unwrap();
        prop_assert_eq!(&written, &base64::engine::general_purpose::STANDARD.encode(&bytes));
    }

    #[test]
    fn integers_pass_exactly_in_range(value in any::<i128>(), shift in 0u32..128) {
        let value = value >> shift;
        let ranges = [
            (21, -0x8000, 0x7fff),
            (23, i128::from(i32::MIN), i128::from(i32::MAX)),
            (20, i128::from(i64::MIN), i128::from(i64::MAX)),
            (26, 0, i128::from(u32::MAX)),
            (5069, 0, i128::from(u64::MAX)),
        ];
        for (oid, min, max) in ranges {
            let text = value.to_string();
            let written = decode(&builtin(oid), text.as_bytes());
            prop_assert_eq!(written.is_ok(), (min..=max).contains(&value));
            if let Ok((json, _)) = written {
                prop_assert_eq!(json, text);
            }
        }
    }

    #[test]
    fn numerics_keep_every_digit(text in "-?[0-9]{1,60}(\\.[0-9]{1,60})?") {
        prop_assert_eq!(json(&builtin(1700), &text), format!("\"{text}\""));
    }

    #[test]
    fn floats_keep_their_value(value in any::<f64>()) {
        let text = match value {
            value if value.is_nan() => "NaN".to_owned(),
            value if value.is_infinite() && value > 0.0 => "Infinity".to_owned(),
            value if value.is_infinite() => "-Infinity".to_owned(),
            value => format!("{value:e}").replace("e-", "E-").replace('e', "e+").replace('E', "e"),
        };
        let written = json(&builtin(701), &text);
        if value.is_finite() {
            prop_assert_eq!(written.parse::<f64>().unwrap(), value);
        } else {
            prop_assert_eq!(written, format!("\"{text}\""));
        }
    }

    #[test]
    fn times_always_have_six_digits(
        (year, month, day) in (1u32..300_000, 1u32..13, 1u32..32),
        (hour, minute, second, micros) in (0u32..24, 0u32..60, 0u32..60, 0u32..1_000_000),
        bc in any::<bool>(),
    ) {
        let fraction = match micros {
            0 => String::new(),
            micros => format!(".{micros:06}").trim_end_matches('0').to_owned(),
        };
        let era = if bc { " BC" } else { "" };
        let date = format!("{year:04}-{month:02}-{day:02}");
        let time = format!("{hour:02}:{minute:02}:{second:02}");
        let full = format!("{time}.{micros:06}");
        prop_assert_eq!(json(&builtin(1082), &format!("{date}{era}")), format!("\"{date}{era}\""));
        prop_assert_eq!(json(&builtin(1083), &format!("{time}{fraction}")), format!("\"{full}\""));
        prop_assert_eq!(
            json(&builtin(1114), &format!("{date} {time}{fraction}{era}")),
            format!("\"{date}T{full}{era}\"")
        );
        prop_assert_eq!(
            json(&builtin(1184), &format!("{date} {time}{fraction}+00{era}")),
            format!("\"{date}T{full}Z{era}\"")
        );
    }

    #[test]
    fn text_arrays_read_back_equal(rows in vec(vec(option::of(".{0,8}"), 3..=3), 1..4)) {
        let inner: Vec<String> = rows.iter().map(|row| array_text(row)).collect();
        let text = format!("{{{}}}", inner.join(","));
        let written: Vec<Vec<Option<String>>> =
            serde_json::from_str(&json(&builtin(1009), &text)).unwrap();
        prop_assert_eq!(written, rows);
    }

    #[test]
    fn composites_read_back_equal(
        street in option::of(".{0,8}"),
        city in option::of(".{0,8}"),
        n in option::of(any::<i32>()),
    ) {
        let number = n.map(|n| n.to_string());
        let text = composite_text(&[street.as_deref(), city.as_deref(), number.as_deref()]);
        let expected = serde_json::json!({ "street": street, "city": city, "n": n });
        let decoding = user_types::catalog().resolve(user_types::ADDR, -1);
        let written: serde_json::Value = serde_json::from_str(&json(&decoding, &text)).unwrap();
        prop_assert_eq!(&written, &expected);
        // And inside an array, with both quotings.
        let decoding = user_types::catalog().resolve(user_types::ADDR_ARRAY, -1);
        let text = array_text(&[Some(text), None]);
        let written: serde_json::Value = serde_json::from_str(&json(&decoding, &text)).unwrap();
        prop_assert_eq!(written, serde_json::json!([expected, null]));
    }

    #[test]
    fn hstores_read_back_equal(
        pairs in prop::collection::btree_map(".{0,8}", option::of(".{0,8}"), 0..5),
    ) {
        let quoted = |text: &str| {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        };
        let text: Vec<String> = pairs
            .iter()
            .map(|(key, value)| {
                let value = value.as_deref().map_or_else(|| "NULL".to_owned(), quoted);
                format!("{}=>{value}", quoted(key))
            })
            .collect();
        let decoding = user_types::catalog().resolve(user_types::HSTORE, -1);
        let written: std::collections::BTreeMap<String, Option<String>> =
            serde_json::from_str(&json(&decoding, &text.join(", "))).unwrap();
        prop_assert_eq!(written, pairs);
    }
}

fn builtin(oid: u32) -> Decoding {
    decode::builtin(oid, -1).unwrap()
}

/// An array of one dimension as `array_out` prints it.
fn array_text<T: AsRef<str>>(items: &[Option<T>]) -> String {
    let item = |item: &Option<T>| match item.as_ref().map(AsRef::as_ref) {
        None => "NULL".to_owned(),
        Some(text) => {
            let special =
                |c: char| c.is_ascii_whitespace() || c == '\u{b}' || "{},\"\\".contains(c);
            if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            } else {
                text.to_owned()
            }
        }
    };
    let items: Vec<String> = items.iter().map(item).collect();
    format!("{{{}}}", items.join(","))
}

/// A composite as `record_out` prints it.
fn composite_text(fields: &[Option<&str>]) -> String {
    let field = |field: &Option<&str>| match field {
        None => String::new(),
        Some(text) => {
            let special =
                |c: char| c.is_ascii_whitespace() || c == '\u{b}' || "(),\"\\".contains(c);
            if text.is_empty() || text.contains(special) {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
            } else {
                (*text).to_owned()
            }
        }
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!("({})", fields.join(","))
}

/// Pieces of a JSON text with whitespace between them, and without.
#[derive(Debug, Clone)]
struct Spaced {
    spaced: String,
    compact: String,
}

fn spaced_json() -> impl Strategy<Value = Spaced> {
    let token = |text: String| Spaced { spaced: text.clone(), compact: text };
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1e400",
            "1.00",
            "-12.5E+3",
            "123456789012345678901234567890"
        ])
        .prop_map(|text| text.to_owned()),
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        select(vec![r#""\u00e9""#, r#""\/""#, r#""\ud83d\ude00""#, r#"" a  b ""#, r#""\u0000""#])
            .prop_map(|text| text.to_owned()),
    ]
    .prop_map(token);
    let space = || select(vec!["", "", " ", "\n  ", "\t\r"]);
    (
        space(),
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                (vec((inner.clone(), space(), space()), 0..5), space()).prop_map(
                    |(items, space)| {
                        let spaced: Vec<String> = items
                            .iter()
                            .map(|(item, before, after)| format!("{before}{}{after}", item.spaced))
                            .collect();
                        let compact: Vec<&str> =
                            items.iter().map(|(item, ..)| item.compact.as_str()).collect();
                        let spaced =
                            if items.is_empty() { space.to_owned() } else { spaced.join(",") };
                        Spaced {
                            spaced: format!("[{spaced}]"),
                            compact: format!("[{}]", compact.join(",")),
                        }
                    }
                ),
                vec((inner, space(), space()), 0..5).prop_map(|items| {
                    let member =
                        |(index, (item, before, after)): (usize, &(Spaced, &str, &str))| {
                            let spaced = format!(
                                "{before}\"k {index}\"{after}:{before}{}{after}",
                                item.spaced
                            );
                            (spaced, format!("\"k {index}\":{}", item.compact))
                        };
                    let (spaced, compact): (Vec<_>, Vec<_>) =
                        items.iter().enumerate().map(member).unzip();
                    Spaced {
                        spaced: format!("{{{}}}", spaced.join(",")),
                        compact: format!("{{{}}}", compact.join(",")),
                    }
                }),
            ]
        }),
    )
        .prop_map(|(space, json)| Spaced {
            spaced: format!("{space}{}{space}", json.spaced),
            ..json
        })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn json_loses_whitespace_and_nothing_else(json in spaced_json()) {
        for oid in [114, 3802] {
            let (written, how) = decode(&builtin(oid), json.spaced.as_bytes()).unwrap();
            prop_assert_eq!(how, Written::Form);
            prop_assert_eq!(&written, &json.compact);
        }
    }

    #[test]
    fn json_with_a_repeated_key_is_text(
        keys in vec((select(vec!["a", "b", "é", "\u{1f600}", "ab", "", "a\"", "c"]), any::<bool>()), 0..6),
        nested in any::<bool>(),
    ) {
        let escaped = |key: &str| -> String {
            key.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect()
        };
        let members: Vec<String> = keys
            .iter()
            .map(|(key, escape)| match escape {
                true => format!("\"{}\": 1", escaped(key)),
                false => format!("{}: 1", serde_json::to_string(key).unwrap()),
            })
            .collect();
        let mut text = format!("{{{}}}", members.join(","));
        if nested {
            text = format!("[{{\"x\":{text},\"y\":{{\"x\":1}}}}]");
        }
        let mut names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        names.sort_unstable();
        let repeated = names.windows(2).any(|pair| pair[0] == pair[1]);
        let (_, how) = decode(&builtin(114), text.as_bytes()).unwrap();
        prop_assert_eq!(how == Written::RawJson, repeated, "{}", text);
    }
}

#[test]
fn json_nested_too_deep_is_text() {
    let nested = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    for (oid, levels) in [(114, 124), (3802, 124)] {
        let (written, how) = decode(&builtin(oid), nested(levels).as_bytes()).unwrap();
        assert_eq!((written, how), (nested(levels), Written::Form));
        let (written, how) = decode(&builtin(oid), nested(levels + 1).as_bytes()).unwrap();
        assert_eq!((written, how), (format!("\"{}\"", nested(levels + 1)), Written::RawJson));
    }
    // Around it an event has three levels more, which a parser with the usual limit still takes.
    let event = format!("{{\"event\":{{\"after\":{{\"a\":{}}}}}}}", nested(124));
    assert!(serde_json::from_str::<serde_json::Value>(&event).is_ok());
    // In an array, of up to six dimensions, there is less room.
    let array = |levels| format!("{{\"{}\"}}", nested(levels));
    assert_eq!(decode(&builtin(199), array(118).as_bytes()).unwrap().1, Written::Form);
    assert_eq!(decode(&builtin(199), array(119).as_bytes()).unwrap().1, Written::RawJson);
}

#[test]
fn broken_json_and_half_surrogates_are_text() {
    let texts = [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\ud800x""#,
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "nul",
        "\"\t\"",
        "\"",
        "[1}",
        "{]",
        "",
        " ",
        "1 2",
        "\"\\x\"",
        "\"\\u12\"",
        "tru e",
        "[1 2]",
        "NaN",
    ];
    for text in texts {
        let (written, how) = decode(&builtin(114), text.as_bytes()).unwrap();
        assert_eq!(how, Written::RawJson, "{text}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }
    assert!(decode(&builtin(114), b"\"\xff\"").is_err());
}

#[test]
fn malformed_values_are_refused() {
    let refused: &[(u32, &[&str])] = &[
        (16, &["", "true", "T", "1"]),
        (23, &["", "-", "+1", "01", "-0", "1.0", "1e3", " 1", "2147483648", "-2147483649"]),
        (20, &["9223372036854775808", "-9223372036854775809", "99999999999999999999"]),
        (5069, &["18446744073709551616", "-1", "184467440737095516150"]),
        (701, &["", "1.", ".5", "01", "1e", "nan", "inf", "1e999", "0x1", "--1", "1,5"]),
        (1700, &["", ".", "1.", ".5", "1e5", "nan", "+1", "1.2.3"]),
        (790, &["1.00", "$1", "$1,00.00", "$1,0000.00", "($1.00)", "$,1.00", "$1.0", "$.00"]),
        (17, &["", "00", "\\x0", "\\x0g", "\\000", "\\x00g0"]),
        (1082, &["", "2024-1-01", "24-01-01", "2024-01-01 AD", "01/02/2024", "Infinity"]),
        (1083, &["", "10:00", "10:00:00.", "10:00:00.1234567", "10:00:00+00"]),
        (1266, &["10:00:00", "10:00:00Z", "10:00:00+1", "10:00:00+00:00:00:00", "10:00:00+"]),
        (1114, &["2024-01-01", "2024-01-01T10:00:00", "2024-01-01 10:00:00+00"]),
        (1184, &["2024-01-01 10:00:00", "2024-01-01 10:00:00+02", "2024-01-01 10:00:00+00:00"]),
        (1186, &["", "P1Y", "1 year\""]),
        (1560, &["2", "1 0"]),
        (2950, &["", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"]),
        (
            1007,
            &[
                "",
                "1",
                "{",
                "}",
                "{1",
                "{1}}",
                "{1,}",
                "{,1}",
                "{1,{2}}",
                "{{1},2}",
                "{{}}",
                "{{1},{}}",
                "{1}x",
                "{a}",
                "{\"1}",
                "{1;2}",
                "{{{{{{{1}}}}}}}",
                "{\"1\"2}",
                "{null}",
            ],
        ),
    ];
    for (oid, texts) in refused {
        for text in *texts {
            assert!(decode(&builtin(*oid), text.as_bytes()).is_err(), "{oid}: {text}");
        }
    }
    let catalog = user_types::catalog();
    // Fields that do not fit the type are text, everything else refused.
    for (text, is_text) in [
        ("()", true),
        ("(a,b,x)", true),
        ("(a\"b\",c,1)", true),
        ("", false),
        ("(a,b,1", false),
        ("a,b,1)", false),
        ("(\"a,b,1)", false),
        ("(a,(b,1)", false),
        ("(a,b,1\\)", false),
    ] {
        let written = decode(&catalog.resolve(user_types::ADDR, -1), text.as_bytes());
        assert_eq!(written.is_ok(), is_text, "{text}");
    }
    for text in ["a", "\"a\"", "\"a\"=>", "\"a\"=>1", "\"a\"=>\"b\",\"c\"=>\"d\"", "\"a\"=>\"b\", "]
    {
        assert!(
            decode(&catalog.resolve(user_types::HSTORE, -1), text.as_bytes()).is_err(),
            "{text}"
        );
    }
}

#[test]
fn invalid_utf8_is_refused() {
    for oid in [19, 25, 1043, 114, 3802, 869, 142] {
        assert_eq!(
            decode(&builtin(oid), b"a\xff").unwrap_err(),
            rowtide_sdk::ValueError::Utf8,
            "{oid}"
        );
    }
    // One byte of "char" is all there is: it is told apart.
    assert_eq!(decode(&builtin(18), b"\xff").unwrap().0, "\"\\\\377\"");
}
