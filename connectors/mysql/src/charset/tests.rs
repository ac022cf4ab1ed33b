//! What holds without a server; `tests/charset.rs` compares every table with one.

use proptest::prelude::*;

use super::{ALL, Charset};

fn text(charset: Charset, raw: &[u8]) -> Result<String, usize> {
    charset.to_utf8(raw).map(|text| text.into_owned()).map_err(|error| error.at)
}

#[test]
fn utf8_and_ascii_are_borrowed() {
    for charset in [Charset::Utf8mb3, Charset::Utf8mb4] {
        assert!(matches!(charset.to_utf8("Grüße".as_bytes()), Ok(std::borrow::Cow::Borrowed(_))));
    }
    for charset in [Charset::Ascii, Charset::Latin1, Charset::Gb18030, Charset::Sjis] {
        assert!(matches!(charset.to_utf8(b"plain"), Ok(std::borrow::Cow::Borrowed("plain"))));
    }
}

#[test]
fn latin1_is_code_page_1252_without_holes() {
    assert_eq!(text(Charset::Latin1, b"\x80\x9F\xFC"), Ok("€Ÿü".to_owned()));
    let holes = "\u{81}\u{8D}\u{8F}\u{90}\u{9D}".to_owned();
    assert_eq!(text(Charset::Latin1, b"\x81\x8D\x8F\x90\x9D"), Ok(holes));
}

#[test]
fn the_corners_are_the_servers() {
    assert_eq!(text(Charset::Cp932, b"\x81\x60"), Ok("\u{FF5E}".to_owned()));
    assert_eq!(text(Charset::Sjis, b"\x81\x60"), Ok("\u{301C}".to_owned()));
    assert_eq!(text(Charset::Sjis, b"\\~\xB1"), Ok("\\~\u{FF71}".to_owned()));
    assert_eq!(text(Charset::Ujis, b"\xA1\xC1\x8F\xB0\xA1\x8E\xB1"), Ok("〜丂ｱ".to_owned()));
    assert_eq!(text(Charset::Big5, b"\xA1\x45\xA4\xA4"), Ok("\u{2022}中".to_owned()));
    assert_eq!(text(Charset::Gbk, b"a\x81\x40b"), Ok("a丂b".to_owned()));
    assert_eq!(text(Charset::Gb18030, b"\x84\x31\xA4\x37"), Ok("\u{FFFD}".to_owned()));
    assert_eq!(text(Charset::Gb18030, b"\x90\x30\x81\x30"), Ok("\u{10000}".to_owned()));
    assert_eq!(text(Charset::Gb18030, b"\xE3\x32\x9A\x35"), Ok("\u{10FFFF}".to_owned()));
    assert_eq!(text(Charset::Swe7, b"@[\\]^`{|}~?"), Ok("ÉÄÖÅÜéäöåü?".to_owned()));
}

#[test]
fn what_the_server_cannot_convert_is_refused_where_it_begins() {
    let refused: [(Charset, &[u8], usize); 26] = [
        (Charset::Ascii, b"ab\x80", 2),
        (Charset::Cp1250, b"ab\x81", 2),
        (Charset::Swe7, b"ab\x7F", 2),
        (Charset::Tis620, b"\xDB", 0),
        (Charset::Big5, b"a\xA1\x5A", 1),
        (Charset::Gbk, b"\x81\x40\x81", 2),
        (Charset::Gbk, b"a\xFF\xFF", 1),
        (Charset::Gb2312, b"\x81\x40", 0),
        (Charset::Gb18030, b"\x84\x31\xA5\x30", 0),
        (Charset::Gb18030, b"\xE3\x32\x9A\x36", 0),
        (Charset::Gb18030, b"\x81\x30\xFF\x30", 0),
        (Charset::Gb18030, b"\xFF\x30\x81\x30", 0),
        (Charset::Gb18030, b"\x81\x30\x81", 0),
        (Charset::Eucjpms, b"a\x8E", 1),
        (Charset::Ujis, b"\x8F\xB0", 0),
        (Charset::Ujis, b"\x8F\x30\xA1", 0),
        (Charset::Ucs2, b"\x00a\xD8\x00", 2),
        (Charset::Ucs2, b"\x00a\x00", 2),
        (Charset::Utf16, b"\x00a\xD8\x00", 2),
        (Charset::Utf16, b"\xD8\x00\xDC\x00\xDC\x00", 4),
        (Charset::Utf16le, b"a\x00\x00", 2),
        (Charset::Utf32, b"\x00\x00\x00a\x00\x11\x00\x00", 4),
        (Charset::Utf8mb3, b"a\xED\xA0\x80", 1),
        (Charset::Utf8mb3, b"a\xF0\x90\x80\x80", 1),
        (Charset::Utf8mb4, b"a\xF4\x90\x80\x80", 1),
        (Charset::Binary, b"", 0),
    ];
    for (charset, raw, at) in refused {
        assert_eq!(text(charset, raw), Err(at), "{charset:?} {raw:X?}");
    }
    let error = Charset::Cp1250.to_utf8(b"ab\x81").unwrap_err().to_string();
    assert_eq!(error, "the bytes from offset 2 on cannot be converted from cp1250 to UTF-8");
}

#[test]
fn names_and_collations() {
    for charset in ALL {
        assert_eq!(Charset::of_name(charset.name()), Some(charset));
    }
    assert_eq!(Charset::of_name("UTF8"), Some(Charset::Utf8mb3));
    assert_eq!(Charset::of_name("utf7"), None);
    assert_eq!(Charset::of_collation(63), Some(Charset::Binary));
    assert_eq!(Charset::of_collation(255), Some(Charset::Utf8mb4));
    assert_eq!(Charset::of_collation(1032), Some(Charset::Latin1));
    assert_eq!(Charset::of_collation(2304), Some(Charset::Utf8mb4));
    for id in [0, 17, 100, 125, 251, 272, 324, 1024, 1087, 1272, 2047, 3328, u32::MAX] {
        assert_eq!(Charset::of_collation(id), None, "{id}");
    }
    assert!(ALL.into_iter().filter(|charset| charset.is_binary()).eq([Charset::Binary]));
}

proptest! {
    #[test]
    fn any_bytes_are_text_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        for charset in ALL {
            match charset.to_utf8(&raw) {
                Ok(text) => prop_assert!(std::str::from_utf8(text.as_bytes()).is_ok()),
                Err(error) => prop_assert!(error.at <= raw.len() && error.charset == charset),
            }
        }
    }

    /// A value is the sum of its parts: what comes before an error is text, and text added to text
    /// is text.
    #[test]
    fn parts_add_up(raw in proptest::collection::vec(prop_oneof![0x20..0x7F_u8, 0x80..=0xFF_u8], 0..24)) {
        for charset in ALL.into_iter().filter(|charset| !charset.is_binary()) {
            let good = match charset.to_utf8(&raw) {
                Ok(_) => raw.as_slice(),
                Err(error) => &raw[..error.at],
            };
            let once = text(charset, good);
            prop_assert!(once.is_ok(), "{charset:?} {good:X?}");
            prop_assert_eq!(text(charset, &[good, good].concat()), once.map(|once| once.repeat(2)));
        }
    }

    #[test]
    fn unicode_in_every_form(input in any::<String>()) {
        let bytes: Vec<u8> = input.encode_utf16().flat_map(u16::to_be_bytes).collect();
        prop_assert_eq!(text(Charset::Utf16, &bytes), Ok(input.clone()));
        let supplementary = input.chars().any(|c| c.len_utf16() == 2);
        prop_assert_eq!(text(Charset::Ucs2, &bytes).is_err(), supplementary);
        prop_assert_eq!(text(Charset::Utf8mb3, input.as_bytes()).is_err(), supplementary);
        let bytes: Vec<u8> = input.encode_utf16().flat_map(u16::to_le_bytes).collect();
        prop_assert_eq!(text(Charset::Utf16le, &bytes), Ok(input.clone()));
        let bytes: Vec<u8> = input.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        prop_assert_eq!(text(Charset::Utf32, &bytes), Ok(input.clone()));
        prop_assert_eq!(text(Charset::Utf8mb4, input.as_bytes()), Ok(input));
    }
}
