//! MySQL's and MariaDB's character sets, and their conversion to UTF-8.
//!
//! A row event carries a string as the bytes that are stored, and the table map event the collation
//! of its column. The conversion follows the servers' own tables, which differ from what the same
//! names mean elsewhere: latin1 is Windows' code page 1252 with its five holes as C1 controls, and
//! each Asian set has corners of its own. What the server cannot convert to utf8mb4 is refused, and
//! so is what it can only convert to U+FFFD: a value is converted whole or not at all.
//!
//! Surrogates in ucs2 and utf8mb3 are refused too: MySQL does not convert them, and MariaDB makes
//! three bytes of each, which are no UTF-8.

mod differences;
mod multi;
mod single;

use std::borrow::Cow;

use multi::Multi;

/// A character set, by the servers' name. Both have all of them, but for gb18030, which MySQL alone
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charset {
    /// ARMSCII-8 Armenian.
    Armscii8,
    /// US ASCII.
    Ascii,
    /// Big5 Traditional Chinese.
    Big5,
    /// Binary pseudo charset.
    Binary,
    /// Windows Central European.
    Cp1250,
    /// Windows Cyrillic.
    Cp1251,
    /// Windows Arabic.
    Cp1256,
    /// Windows Baltic.
    Cp1257,
    /// DOS West European.
    Cp850,
    /// DOS Central European.
    Cp852,
    /// DOS Russian.
    Cp866,
    /// SJIS for Windows Japanese.
    Cp932,
    /// DEC West European.
    Dec8,
    /// UJIS for Windows Japanese.
    Eucjpms,
    /// EUC-KR Korean.
    Euckr,
    /// China National Standard GB18030.
    Gb18030,
    /// GB2312 Simplified Chinese.
    Gb2312,
    /// GBK Simplified Chinese.
    Gbk,
    /// GEOSTD8 Georgian.
    Geostd8,
    /// ISO 8859-7 Greek.
    Greek,
    /// ISO 8859-8 Hebrew.
    Hebrew,
    /// HP West European.
    Hp8,
    /// DOS Kamenicky Czech-Slovak.
    Keybcs2,
    /// KOI8-R Relcom Russian.
    Koi8r,
    /// KOI8-U Ukrainian.
    Koi8u,
    /// cp1252 West European.
    Latin1,
    /// ISO 8859-2 Central European.
    Latin2,
    /// ISO 8859-9 Turkish.
    Latin5,
    /// ISO 8859-13 Baltic.
    Latin7,
    /// Mac Central European.
    Macce,
    /// Mac West European.
    Macroman,
    /// Shift-JIS Japanese.
    Sjis,
    /// 7bit Swedish.
    Swe7,
    /// TIS620 Thai.
    Tis620,
    /// UCS-2 Unicode.
    Ucs2,
    /// EUC-JP Japanese.
    Ujis,
    /// UTF-16 Unicode.
    Utf16,
    /// UTF-16LE Unicode.
    Utf16le,
    /// UTF-32 Unicode.
    Utf32,
    /// UTF-8 Unicode.
    Utf8mb3,
    /// UTF-8 Unicode.
    Utf8mb4,
}

/// Bytes that the server could not convert either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes from offset {at} on cannot be converted from {} to UTF-8", charset.name())]
pub struct Unconvertible {
    /// What the bytes were taken for.
    pub charset: Charset,
    /// Where the first such character begins.
    pub at: usize,
}

/// How a character set is converted.
enum Kind {
    /// No text.
    Bytes,
    /// UTF-8 with characters of up to so many bytes; ASCII is those of one byte.
    Utf8 {
        longest: u8,
    },
    /// ASCII and an upper half.
    Single(&'static [u16; 128]),
    /// Seven bits, and not ASCII.
    Swe7,
    /// ASCII and characters of several bytes.
    Multi(&'static Multi),
    /// UTF-16 without surrogates, big-endian.
    Ucs2,
    Utf16(fn([u8; 2]) -> u16),
    /// Big-endian.
    Utf32,
}

/// Every character set, by name.
const ALL: [Charset; 41] = [
    Charset::Armscii8,
    Charset::Ascii,
    Charset::Big5,
    Charset::Binary,
    Charset::Cp1250,
    Charset::Cp1251,
    Charset::Cp1256,
    Charset::Cp1257,
    Charset::Cp850,
    Charset::Cp852,
    Charset::Cp866,
    Charset::Cp932,
    Charset::Dec8,
    Charset::Eucjpms,
    Charset::Euckr,
    Charset::Gb18030,
    Charset::Gb2312,
    Charset::Gbk,
    Charset::Geostd8,
    Charset::Greek,
    Charset::Hebrew,
    Charset::Hp8,
    Charset::Keybcs2,
    Charset::Koi8r,
    Charset::Koi8u,
    Charset::Latin1,
    Charset::Latin2,
    Charset::Latin5,
    Charset::Latin7,
    Charset::Macce,
    Charset::Macroman,
    Charset::Sjis,
    Charset::Swe7,
    Charset::Tis620,
    Charset::Ucs2,
    Charset::Ujis,
    Charset::Utf16,
    Charset::Utf16le,
    Charset::Utf32,
    Charset::Utf8mb3,
    Charset::Utf8mb4,
];

impl Charset {
    /// The character set of a collation, by the id that both servers give it.
    ///
    /// MariaDB gives two kinds of ids by rule, so those that a later version adds are known too: a NO
    /// PAD collation is 1024 above the one that pads, and each of five character sets has 256 ids for
    /// its uca1400 collations, from 2048 on.
    pub fn of_collation(id: u32) -> Option<Self> {
        match id {
            1025..=1271 => Self::of_padding_collation(id - 1024).filter(|set| !set.is_binary()),
            2048..=2303 => Some(Self::Utf8mb3),
            2304..=2559 => Some(Self::Utf8mb4),
            2560..=2815 => Some(Self::Ucs2),
            2816..=3071 => Some(Self::Utf16),
            3072..=3327 => Some(Self::Utf32),
            id => Self::of_padding_collation(id),
        }
    }

    /// As information_schema.COLLATIONS of MySQL 9.7.4 and MariaDB 10.11.19 say.
    fn of_padding_collation(id: u32) -> Option<Self> {
        Some(match id {
            32 | 64 => Self::Armscii8,
            11 | 65 => Self::Ascii,
            1 | 84 => Self::Big5,
            63 => Self::Binary,
            26 | 34 | 44 | 66 | 99 => Self::Cp1250,
            14 | 23 | 50..=52 => Self::Cp1251,
            57 | 67 => Self::Cp1256,
            29 | 58 | 59 => Self::Cp1257,
            4 | 80 => Self::Cp850,
            40 | 81 => Self::Cp852,
            36 | 68 => Self::Cp866,
            95 | 96 => Self::Cp932,
            3 | 69 => Self::Dec8,
            97 | 98 => Self::Eucjpms,
            19 | 85 => Self::Euckr,
            248..=250 => Self::Gb18030,
            24 | 86 => Self::Gb2312,
            28 | 87 => Self::Gbk,
            92 | 93 => Self::Geostd8,
            25 | 70 => Self::Greek,
            16 | 71 => Self::Hebrew,
            6 | 72 => Self::Hp8,
            37 | 73 => Self::Keybcs2,
            7 | 74 => Self::Koi8r,
            22 | 75 => Self::Koi8u,
            5 | 8 | 15 | 31 | 47..=49 | 94 => Self::Latin1,
            2 | 9 | 21 | 27 | 77 => Self::Latin2,
            30 | 78 => Self::Latin5,
            20 | 41 | 42 | 79 => Self::Latin7,
            38 | 43 => Self::Macce,
            39 | 53 => Self::Macroman,
            13 | 88 => Self::Sjis,
            10 | 82 => Self::Swe7,
            18 | 89 => Self::Tis620,
            35 | 90 | 128..=151 | 159 | 640..=642 => Self::Ucs2,
            12 | 91 => Self::Ujis,
            54 | 55 | 101..=124 | 672..=674 => Self::Utf16,
            56 | 62 => Self::Utf16le,
            60 | 61 | 160..=183 | 736..=738 => Self::Utf32,
            33 | 76 | 83 | 192..=215 | 223 | 576..=578 => Self::Utf8mb3,
            45
            | 46
            | 224..=247
            | 255..=271
            | 273..=275
            | 277..=294
            | 296..=298
            | 300
            | 303..=323
            | 608..=610 => Self::Utf8mb4,
            _ => return None,
        })
    }

    /// The id of one of its collations.
    pub fn any_collation(self) -> Option<u32> {
        (1..1024).find(|id| Self::of_collation(*id) == Some(self))
    }

    /// The character set of a name, in any case. `utf8` is utf8mb3, as in both servers.
    pub fn of_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("utf8") {
            return Some(Self::Utf8mb3);
        }
        ALL.into_iter().find(|set| name.eq_ignore_ascii_case(set.name()))
    }

    /// The servers' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Armscii8 => "armscii8",
            Self::Ascii => "ascii",
            Self::Big5 => "big5",
            Self::Binary => "binary",
            Self::Cp1250 => "cp1250",
            Self::Cp1251 => "cp1251",
            Self::Cp1256 => "cp1256",
            Self::Cp1257 => "cp1257",
            Self::Cp850 => "cp850",
            Self::Cp852 => "cp852",
            Self::Cp866 => "cp866",
            Self::Cp932 => "cp932",
            Self::Dec8 => "dec8",
            Self::Eucjpms => "eucjpms",
            Self::Euckr => "euckr",
            Self::Gb18030 => "gb18030",
            Self::Gb2312 => "gb2312",
            Self::Gbk => "gbk",
            Self::Geostd8 => "geostd8",
            Self::Greek => "greek",
            Self::Hebrew => "hebrew",
            Self::Hp8 => "hp8",
            Self::Keybcs2 => "keybcs2",
            Self::Koi8r => "koi8r",
            Self::Koi8u => "koi8u",
            Self::Latin1 => "latin1",
            Self::Latin2 => "latin2",
            Self::Latin5 => "latin5",
            Self::Latin7 => "latin7",
            Self::Macce => "macce",
            Self::Macroman => "macroman",
            Self::Sjis => "sjis",
            Self::Swe7 => "swe7",
            Self::Tis620 => "tis620",
            Self::Ucs2 => "ucs2",
            Self::Ujis => "ujis",
            Self::Utf16 => "utf16",
            Self::Utf16le => "utf16le",
            Self::Utf32 => "utf32",
            Self::Utf8mb3 => "utf8mb3",
            Self::Utf8mb4 => "utf8mb4",
        }
    }

    /// How many bytes a character has at most: CHAR(n) is stored in up to n times as many.
    pub fn max_len(self) -> usize {
        match self {
            Self::Big5
            | Self::Cp932
            | Self::Euckr
            | Self::Gb2312
            | Self::Gbk
            | Self::Sjis
            | Self::Ucs2 => 2,
            Self::Eucjpms | Self::Ujis | Self::Utf8mb3 => 3,
            Self::Gb18030 | Self::Utf16 | Self::Utf16le | Self::Utf32 | Self::Utf8mb4 => 4,
            _ => 1,
        }
    }

    /// Whether it is the set of the binary types: bytes that are no text.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Binary)
    }

    fn kind(self) -> Kind {
        match self {
            Self::Armscii8 => Kind::Single(&single::ARMSCII8),
            Self::Ascii => Kind::Utf8 { longest: 1 },
            Self::Big5 => Kind::Multi(&multi::BIG5),
            Self::Binary => Kind::Bytes,
            Self::Cp1250 => Kind::Single(&single::CP1250),
            Self::Cp1251 => Kind::Single(&single::CP1251),
            Self::Cp1256 => Kind::Single(&single::CP1256),
            Self::Cp1257 => Kind::Single(&single::CP1257),
            Self::Cp850 => Kind::Single(&single::CP850),
            Self::Cp852 => Kind::Single(&single::CP852),
            Self::Cp866 => Kind::Single(&single::CP866),
            Self::Cp932 => Kind::Multi(&multi::CP932),
            Self::Dec8 => Kind::Single(&single::DEC8),
            Self::Eucjpms => Kind::Multi(&multi::EUCJPMS),
            Self::Euckr => Kind::Multi(&multi::EUCKR),
            Self::Gb18030 => Kind::Multi(&multi::GB18030),
            Self::Gb2312 => Kind::Multi(&multi::GB2312),
            Self::Gbk => Kind::Multi(&multi::GBK),
            Self::Geostd8 => Kind::Single(&single::GEOSTD8),
            Self::Greek => Kind::Single(&single::GREEK),
            Self::Hebrew => Kind::Single(&single::HEBREW),
            Self::Hp8 => Kind::Single(&single::HP8),
            Self::Keybcs2 => Kind::Single(&single::KEYBCS2),
            Self::Koi8r => Kind::Single(&single::KOI8R),
            Self::Koi8u => Kind::Single(&single::KOI8U),
            Self::Latin1 => Kind::Single(&single::LATIN1),
            Self::Latin2 => Kind::Single(&single::LATIN2),
            Self::Latin5 => Kind::Single(&single::LATIN5),
            Self::Latin7 => Kind::Single(&single::LATIN7),
            Self::Macce => Kind::Single(&single::MACCE),
            Self::Macroman => Kind::Single(&single::MACROMAN),
            Self::Sjis => Kind::Multi(&multi::SJIS),
            Self::Swe7 => Kind::Swe7,
            Self::Tis620 => Kind::Single(&single::TIS620),
            Self::Ucs2 => Kind::Ucs2,
            Self::Ujis => Kind::Multi(&multi::UJIS),
            Self::Utf16 => Kind::Utf16(u16::from_be_bytes),
            Self::Utf16le => Kind::Utf16(u16::from_le_bytes),
            Self::Utf32 => Kind::Utf32,
            Self::Utf8mb3 => Kind::Utf8 { longest: 3 },
            Self::Utf8mb4 => Kind::Utf8 { longest: 4 },
        }
    }

    /// The text that `raw` is. UTF-8 and ASCII are borrowed.
    ///
    /// # Errors
    /// Where the server could not convert `raw` to utf8mb4 without loss either, and for binary.
    pub fn to_utf8(self, raw: &[u8]) -> Result<Cow<'_, str>, Unconvertible> {
        let converted = match self.kind() {
            Kind::Bytes => Err(0),
            Kind::Utf8 { longest } => utf8(raw, longest).map(Cow::Borrowed),
            Kind::Single(upper) => ascii_or(raw, |raw| single_bytes(raw, upper)),
            Kind::Multi(multi) => ascii_or(raw, |raw| multi.convert(raw)),
            Kind::Swe7 => swe7(raw).map(Cow::Owned),
            Kind::Ucs2 => units(raw, |bytes| char::from_u32(u16::from_be_bytes(bytes).into())),
            Kind::Utf16(unit) => utf16(raw, unit).map(Cow::Owned),
            Kind::Utf32 => units(raw, |bytes| char::from_u32(u32::from_be_bytes(bytes))),
        };
        converted.map_err(|at| Unconvertible { charset: self, at })
    }
}

/// ASCII as it is, else what `convert` makes of it.
fn ascii_or(
    raw: &[u8],
    convert: impl FnOnce(&[u8]) -> Result<String, usize>,
) -> Result<Cow<'_, str>, usize> {
    if raw.is_ascii() { utf8(raw, 1).map(Cow::Borrowed) } else { convert(raw).map(Cow::Owned) }
}

/// UTF-8 whose characters have at most `longest` bytes. An error is an offset, here and below.
fn utf8(raw: &[u8], longest: u8) -> Result<&str, usize> {
    // In UTF-8, the first byte of a longer character is above all bytes of shorter ones.
    let too_long = match longest {
        1 => 0x80,
        3 => 0xF0,
        _ => 0xFF,
    };
    // Without a short cut, so that the loop is vectorized.
    let any_too_long = raw.iter().fold(false, |any, byte| any | (*byte >= too_long));
    let valid = std::str::from_utf8(raw);
    match valid {
        Ok(text) if !any_too_long => Ok(text),
        _ => {
            let longer = raw.iter().position(|byte| *byte >= too_long).unwrap_or(raw.len());
            Err(valid.map_or_else(|error| error.valid_up_to(), str::len).min(longer))
        }
    }
}

fn single_bytes(raw: &[u8], upper: &[u16; 128]) -> Result<String, usize> {
    let mut text = String::with_capacity(raw.len().saturating_mul(2));
    for (at, byte) in raw.iter().enumerate() {
        let above = byte.checked_sub(0x80).and_then(|index| upper.get(usize::from(index)));
        match above {
            None => text.push(char::from(*byte)),
            Some(code) => text.push(character(*code).ok_or(at)?),
        }
    }
    Ok(text)
}

fn swe7(raw: &[u8]) -> Result<String, usize> {
    let mut text = String::with_capacity(raw.len().saturating_mul(2));
    for (at, byte) in raw.iter().enumerate() {
        let code = single::SWE7_LOW.get(usize::from(*byte)).copied().unwrap_or_default();
        let found = if *byte == 0 { Some('\0') } else { character(code) };
        text.push(found.ok_or(at)?);
    }
    Ok(text)
}

/// The character of an entry in a table, where 0 is none.
fn character(code: u16) -> Option<char> {
    if code == 0 { None } else { char::from_u32(code.into()) }
}

/// Characters of `N` bytes each.
fn units<const N: usize>(
    raw: &[u8],
    unit: impl Fn([u8; N]) -> Option<char>,
) -> Result<Cow<'static, str>, usize> {
    let mut text = String::with_capacity(raw.len().saturating_mul(3) / N);
    let (whole, rest) = raw.as_chunks::<N>();
    for (at, bytes) in whole.iter().enumerate() {
        text.push(unit(*bytes).ok_or(at * N)?);
    }
    if rest.is_empty() { Ok(Cow::Owned(text)) } else { Err(raw.len() - rest.len()) }
}

fn utf16(raw: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, usize> {
    let mut text = String::with_capacity(raw.len().saturating_mul(3) / 2);
    let (whole, rest) = raw.as_chunks::<2>();
    let mut at = 0;
    for decoded in char::decode_utf16(whole.iter().map(|bytes| unit(*bytes))) {
        let found = decoded.map_err(|_| at)?;
        at += 2 * found.len_utf16();
        text.push(found);
    }
    if rest.is_empty() { Ok(text) } else { Err(at) }
}

#[cfg(test)]
mod tests;
