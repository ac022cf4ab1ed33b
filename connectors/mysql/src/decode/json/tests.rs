//! What the decoder and the diffs do, without a server.

use proptest::prelude::*;

use super::*;

/// A value as its type and bytes.
type Encoded = (u8, Vec<u8>);

const NULL: u8 = 0;
const TRUE: u8 = 1;

fn literal(code: u8) -> Encoded {
    (0x04, vec![code])
}

fn int16(value: i16) -> Encoded {
    (0x05, value.to_le_bytes().to_vec())
}

fn int64(value: i64) -> Encoded {
    (0x09, value.to_le_bytes().to_vec())
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut len = bytes.len();
    while len > 0x7f {
        all.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
        len >>= 7;
    }
    all.push(u8::try_from(len).unwrap());
    all.extend(bytes);
    all
}

fn string(text: &str) -> Encoded {
    (0x0c, counted(text.as_bytes()))
}

fn opaque(field_type: u8, data: &[u8]) -> Encoded {
    (0x0f, [vec![field_type], counted(data)].concat())
}

/// An array (no keys) or object in the small or the large form, elements in the order given.
fn container(keys: Option<&[&str]>, values: &[Encoded], large: bool) -> Encoded {
    let width = if large { 4 } else { 2 };
    let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes()[..width].to_vec();
    let key_entries = keys.map_or(0, |keys| keys.len() * (width + 2));
    let mut at = 2 * width + key_entries + values.len() * (width + 1);
    let (mut header, mut body) = (Vec::new(), Vec::new());
    for key in keys.unwrap_or_default() {
        header.extend(number(at));
        header.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        body.extend(key.as_bytes());
        at += key.len();
    }
    for (kind, bytes) in values {
        header.push(*kind);
        if matches!(kind, 4..=6) || (large && matches!(kind, 7 | 8)) {
            let mut inlined = bytes.clone();
            inlined.resize(width, 0);
            header.extend(inlined);
        } else {
            header.extend(number(at));
            body.extend(bytes);
            at += bytes.len();
        }
    }
    let kind = u8::from(keys.is_none()) * 2 + u8::from(large);
    (kind, [number(values.len()), number(at), header, body].concat())
}

fn array(values: &[Encoded]) -> Encoded {
    container(None, values, false)
}

fn document((kind, bytes): &Encoded) -> Vec<u8> {
    [&[*kind], bytes.as_slice()].concat()
}

fn text(value: &Encoded) -> Option<String> {
    text_of(&document(value))
}

/// `depth` arrays, each in the next.
fn nested(depth: usize) -> Encoded {
    (0..depth).fold(literal(NULL), |inner, _| container(None, &[inner], true))
}

#[test]
fn an_empty_value_is_the_json_null() {
    assert_eq!(text_of(b"").as_deref(), Some("null"));
}

#[test]
fn scalars_print_as_the_server_does() {
    let double = |value: f64| text(&(0x0b, value.to_le_bytes().to_vec()));
    for (value, expected) in [
        (1.0, "1.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (-12.5, "-12.5"),
        (1e14, "100000000000000.0"),
        (123_456_789_012_345.0, "123456789012345.0"),
        (1e15, "1e15"),
        (1.5e15, "1.5e15"),
        (-3_452_871_500_603_789.5, "-3452871500603789.5"),
        (1e22, "1e22"),
        (1e300, "1e300"),
        (2.5e-10, "0.00000000025"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (-1.25e-16, "-1.25e-16"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e308"),
    ] {
        assert_eq!(double(value).as_deref(), Some(expected));
    }
    for value in [f64::NAN, f64::INFINITY] {
        assert_eq!(double(value), None, "JSON has no {value}");
    }
    assert_eq!(text(&int64(i64::MIN)).as_deref(), Some("-9223372036854775808"));
    assert_eq!(text(&(0x0a, vec![0xff; 8])).as_deref(), Some("18446744073709551615"));
    assert_eq!(text(&literal(TRUE)).as_deref(), Some("true"));
    assert_eq!(text(&literal(3)), None);
    assert_eq!(text(&string("a\"\u{1}\u{7f}é")).as_deref(), Some("\"a\\\"\\u0001\u{7f}é\""));
}

#[test]
fn arrays_and_objects_print_in_both_forms() {
    let inner = array(&[int16(-1), literal(NULL)]);
    for large in [false, true] {
        let values = [(0x07, vec![1, 0, 1, 0]), string("x"), inner.clone()];
        let value = container(Some(&["b", "a\n", "zzz"]), &values, large);
        assert_eq!(text(&value).as_deref(), Some(r#"{"b":65537,"a\n":"x","zzz":[-1,null]}"#));
    }
    assert_eq!(text(&array(&[])).as_deref(), Some("[]"));
    assert_eq!(text(&container(Some(&[]), &[], true)).as_deref(), Some("{}"));
}

#[test]
fn keys_out_of_the_servers_order_are_refused() {
    let values = [int16(1), int16(2)];
    for keys in [["a", "a"], ["b", "a"], ["aa", "b"]] {
        let value = container(Some(&keys), &values, false);
        assert_eq!(text(&value), None, "{keys:?}");
        let replace = [diff(0, "$.b", Some(&int16(3)))].concat();
        assert_eq!(applied(&value, &replace), Err(DiffError::Document), "{keys:?}");
    }
}

#[test]
fn opaque_values_print_as_the_server_does() {
    let decimal = |data: &[u8]| text(&opaque(246, data));
    assert_eq!(decimal(&[3, 2, 0x81, 50]).as_deref(), Some("1.50"));
    assert_eq!(decimal(&[3, 2, 0x7e, 0xff ^ 50]).as_deref(), Some("-1.50"));
    assert_eq!(decimal(&[2, 2, 0x85]).as_deref(), Some("0.05"));
    assert_eq!(decimal(&[10, 0, 0x80, 0, 0, 0, 7]).as_deref(), Some("7"));
    for refused in [&[][..], &[3], &[3, 2], &[3, 2, 0x81], &[3, 2, 0x81, 100], &[3, 2, 0x81, 1, 1]]
    {
        assert_eq!(decimal(refused), None, "{refused:?}");
    }
    assert_eq!(decimal(&[2, 3, 0x81, 50]), None, "a scale above the precision");

    let temporal = |field_type, packed: i64| text(&opaque(field_type, &packed.to_le_bytes()));
    let day: i64 = ((2020 * 13 + 2) << 5 | 29) << 41;
    let clock: i64 = (23 << 12 | 59 << 6 | 58) << 24 | 123_456;
    assert_eq!(temporal(10, day).as_deref(), Some("\"2020-02-29\""));
    assert_eq!(temporal(12, day | clock).as_deref(), Some("\"2020-02-29 23:59:58.123456\""));
    assert_eq!(temporal(7, day | clock), temporal(12, day | clock));
    assert_eq!(temporal(11, clock).as_deref(), Some("\"23:59:58.123456\""));
    assert_eq!(temporal(11, -1).as_deref(), Some("\"-00:00:00.000001\""));
    assert_eq!(temporal(11, (838 << 12) << 24).as_deref(), Some("\"838:00:00.000000\""));
    assert_eq!(temporal(11, 1_000_000), None, "a second of microseconds");
    assert_eq!(temporal(12, -1), None);
    assert_eq!(temporal(10, i64::MIN), None);
    assert_eq!(text(&opaque(10, &[0; 7])), None);

    assert_eq!(text(&opaque(15, &[0, 0xff])).as_deref(), Some("\"base64:type15:AP8=\""));
    let line = "AAAA".repeat(19);
    let lines = |len| text(&opaque(252, &vec![0; len])).unwrap();
    assert_eq!(lines(57), format!("\"base64:type252:{line}\""));
    assert_eq!(lines(58), format!("\"base64:type252:{line}\\nAA==\""));
}

#[test]
fn values_that_share_bytes_or_contain_themselves_are_refused() {
    // Each level holds the next twice: 2^40 values in a few hundred bytes.
    let mut level = array(&[int16(1), int16(2)]);
    for _ in 0..40 {
        let mut value = vec![2, 0, 0, 0, level.0, 10, 0, level.0, 10, 0];
        value.extend(&level.1);
        let len = u16::try_from(value.len()).unwrap();
        value[2..4].copy_from_slice(&len.to_le_bytes());
        level = (0x02, value);
    }
    assert_eq!(text(&level), None);
    let itself = (0x02, vec![1, 0, 7, 0, 0x02, 0, 0]);
    assert_eq!(text(&itself), None);
}

#[test]
fn nesting_that_parsers_refuse_stands_as_a_string() {
    let written = |depth| {
        let mut out = JsonWriter::new(b"before".to_vec());
        let written = Json.write(&document(&nested(depth)), &mut out);
        (written, String::from_utf8(out.into_inner()).unwrap())
    };
    let brackets = |depth: usize| format!("{}null{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(written(124), (Ok(Written::Form), format!("before{}", brackets(124))));
    assert_eq!(written(125), (Ok(Written::RawJson), format!("before\"{}\"", brackets(125))));
    assert_eq!(written(256).0, Ok(Written::RawJson));
    assert_eq!(written(257).0, Err(ValueError::Malformed(TYPE)));
}

#[test]
fn the_text_of_a_value_is_its_json() {
    let raw = document(&array(&[string("a\"b")]));
    assert_eq!(Json.text(&raw).as_ref(), br#"["a\"b"]"#);
    let mut out = JsonWriter::default();
    Json.write_text(&raw, &mut out).unwrap();
    assert_eq!(out.as_bytes(), br#""[\"a\\\"b\"]""#);
    assert_eq!(Json.write_text(&[0xff], &mut out), Err(ValueError::Malformed(TYPE)));
}

fn diff(operation: u8, path: &str, value: Option<&Encoded>) -> Vec<u8> {
    let mut bytes = vec![operation, u8::try_from(path.len()).unwrap()];
    bytes.extend(path.as_bytes());
    if let Some(value) = value {
        let value = document(value);
        bytes.push(252);
        bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

fn applied(before: &Encoded, diffs: &[u8]) -> Result<String, DiffError> {
    let mut out = JsonWriter::default();
    apply_diffs(&document(before), diffs, &mut out)?;
    Ok(String::from_utf8(out.into_inner()).unwrap())
}

fn sample() -> Encoded {
    let list = array(&[int16(1), int16(2), int16(3)]);
    container(Some(&["a", "b", "bb"]), &[list, literal(NULL), array(&[])], false)
}

#[test]
fn diffs_are_applied_one_after_the_other() {
    let diffs = [
        diff(0, "$.a[last]", Some(&container(Some(&["x"]), &[int16(7)], true))),
        diff(1, "$.a[2].yy", Some(&string("new"))),
        diff(1, "$.a[0]", Some(&int16(0))),
        diff(1, "$.a[9]", Some(&int16(9))),
        diff(2, "$.b", None),
        diff(1, r#"$."""#, Some(&literal(TRUE))),
        diff(1, "$.zz", Some(&literal(TRUE))),
        diff(1, "$.c", Some(&literal(TRUE))),
    ]
    .concat();
    let expected = r#"{"":true,"a":[0,1,2,{"x":7,"yy":"new"},9],"c":true,"bb":[],"zz":true}"#;
    assert_eq!(applied(&sample(), &diffs).as_deref(), Ok(expected));
    assert_eq!(applied(&sample(), b"").as_deref(), Ok(r#"{"a":[1,2,3],"b":null,"bb":[]}"#));
}

#[test]
fn diffs_of_another_document_are_rejected() {
    let one = int16(1);
    for rejected in [
        diff(0, "$", Some(&one)),
        diff(0, "$.c", Some(&one)),
        diff(0, "$.a[3]", Some(&one)),
        diff(0, "$.a.b", Some(&one)),
        diff(0, "$[0]", Some(&one)),
        diff(1, "$.a", Some(&one)),
        diff(1, "$.c.d", Some(&one)),
        diff(1, "$.b[0]", Some(&one)),
        diff(1, "$.a.b", Some(&one)),
        diff(1, "$[0]", Some(&one)),
        diff(2, "$", None),
        diff(2, "$.c", None),
        diff(2, "$.bb[0]", None),
        diff(2, "$.bb[last]", None),
        diff(2, "$.b.c", None),
    ] {
        assert_eq!(applied(&sample(), &rejected), Err(DiffError::Rejected), "{rejected:?}");
    }
}

#[test]
fn malformed_diffs_are_refused() {
    let whole = diff(0, "$.b", Some(&int16(1)));
    for len in 1..whole.len() {
        assert_eq!(applied(&sample(), &whole[..len]), Err(DiffError::Diffs), "{len} bytes");
    }
    assert_eq!(applied(&sample(), &diff(3, "$.b", None)), Err(DiffError::Diffs));
    assert_eq!(applied(&sample(), &diff(2, "$.*", None)), Err(DiffError::Diffs));
    assert_eq!(applied(&sample(), &[2, 251]), Err(DiffError::Diffs));
    let value = diff(0, "$.b", Some(&(0x0e, vec![])));
    assert_eq!(applied(&sample(), &value), Err(DiffError::Document));
    assert_eq!(applied(&(0x0e, vec![]), b""), Err(DiffError::Document));
}

/// Documents with the text they must have.
fn any_document() -> impl Strategy<Value = (Encoded, String)> {
    let scalar = prop_oneof![
        any::<i64>().prop_map(|value| (int64(value), value.to_string())),
        any::<i16>().prop_map(|value| (int16(value), value.to_string())),
        any::<String>().prop_map(|text| (string(&text), serde_json::to_string(&text).unwrap())),
        Just((literal(NULL), "null".to_owned())),
        any::<Vec<u8>>().prop_map(|data| {
            let value = opaque(252, &data);
            let text = text(&value).unwrap();
            (value, text)
        }),
    ];
    scalar.prop_recursive(5, 40, 6, |inner| {
        let elements = prop::collection::vec((any::<String>(), inner), 0..6);
        (elements, any::<bool>(), any::<bool>()).prop_map(|(mut elements, is_object, large)| {
            elements.sort_by(|(a, _), (b, _)| binary::key_order(a, b));
            elements.dedup_by(|(a, _), (b, _)| a == b);
            let values: Vec<_> = elements.iter().map(|(_, (value, _))| value.clone()).collect();
            let keys: Vec<_> = elements.iter().map(|(key, _)| key.as_str()).collect();
            let texts = elements.iter().map(|(key, (_, text))| {
                if is_object {
                    format!("{}:{text}", serde_json::to_string(key).unwrap())
                } else {
                    text.clone()
                }
            });
            let text = texts.collect::<Vec<_>>().join(",");
            if is_object {
                (container(Some(&keys), &values, large), format!("{{{text}}}"))
            } else {
                (container(None, &values, large), format!("[{text}]"))
            }
        })
    })
}

/// Asserts that what was written is one value of strict JSON.
fn assert_strict(out: JsonWriter) {
    let text = String::from_utf8(out.into_inner()).unwrap();
    let parsed = serde_json::from_str::<serde_json::Value>(&text);
    assert!(parsed.is_ok(), "{text}: {parsed:?}");
}

fn decode_any(raw: &[u8]) {
    let mut out = JsonWriter::default();
    if Json.write(raw, &mut out).is_ok() {
        assert_strict(out);
    }
}

fn apply_any(before: &[u8], diffs: &[u8]) {
    let mut out = JsonWriter::default();
    if apply_diffs(before, diffs, &mut out).is_ok() {
        assert_strict(out);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_one_strict_value(
        kind in 0u8..0x11,
        raw in prop::collection::vec(prop_oneof![0u8..20, any::<u8>()], 0..200),
    ) {
        decode_any(&raw);
        decode_any(&document(&(kind, raw)));
    }

    #[test]
    fn any_double_reads_back_equal(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let text = text(&(0x0b, value.to_le_bytes().to_vec())).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
        prop_assert!(text.contains(['.', 'e']), "{}", text);
    }

    #[test]
    fn any_document_prints_as_its_text((value, expected) in any_document()) {
        prop_assert_eq!(text(&value), Some(expected.clone()));
        prop_assert_eq!(applied(&value, b""), Ok(expected));
    }

    #[test]
    fn damaged_documents_are_refused_or_one_strict_value(
        (value, _) in any_document(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut raw = document(&value);
        for (at, byte) in damage {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        decode_any(&raw);
        apply_any(&raw, &diff(0, "$.a", Some(&int16(1))));
        apply_any(&raw, &diff(1, "$[1]", Some(&int16(1))));
    }

    #[test]
    fn any_diffs_are_refused_or_make_one_strict_value(
        raw in prop::collection::vec(any::<u8>(), 0..60),
        steps in prop::collection::vec(
            (0u8..3, "(\\$|\\$(\\.a|\\.bb|\\.\"c\"|\\[[0-4]\\]|\\[last\\]){0,3})", any_document()),
            0..6,
        ),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let before = document(&sample());
        apply_any(&before, &raw);
        let mut all = Vec::new();
        for (operation, path, (value, _)) in steps {
            all.extend(diff(operation, &path, (operation < 2).then_some(&value)));
            apply_any(&before, &all);
        }
        if let Some((at, byte)) = damage && !all.is_empty() {
            let at = at.index(all.len());
            all[at] = byte;
            apply_any(&before, &all);
        }
    }
}
