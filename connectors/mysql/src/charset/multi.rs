//! The Asian sets: ASCII, and characters of two bytes or more. A character is looked up in a table of
//! all codes of its length, which is made on first use of what `encoding_rs` knows and of the
//! servers' [`differences`].

use std::sync::OnceLock;

use encoding_rs::Encoding;

use super::character;
use super::differences::{self, Run};

/// How many characters of four bytes gb18030 has in the Basic Multilingual Plane: those below.
const FOUR_BYTES: usize = 39_420;
/// The place of U+10000 among gb18030's characters of four bytes.
const SUPPLEMENTARY: u32 = 189_000;

/// A set with characters of several bytes, and its tables once they are made.
#[derive(Debug)]
pub(super) struct Multi {
    made_of: MadeOf,
    tables: OnceLock<Tables>,
}

/// What the tables of a set are made of.
#[derive(Clone, Copy, Debug)]
struct MadeOf {
    encoding: &'static Encoding,
    /// Where two bytes mean something else than `encoding` says.
    two: &'static [Run],
    /// The same for the two bytes after 0x8F, in a set that has characters of three bytes.
    three: Option<&'static [Run]>,
    /// Whether it has gb18030's characters of four bytes.
    four: bool,
    /// Whether 0xA1 to 0xDF are half-width katakana.
    katakana: bool,
}

/// The characters by code, 0 where there is none.
#[derive(Debug)]
struct Tables {
    two: Vec<u16>,
    three: Vec<u16>,
    four: Vec<u16>,
}

const fn two_bytes(encoding: &'static Encoding, two: &'static [Run]) -> MadeOf {
    MadeOf { encoding, two, three: None, four: false, katakana: false }
}

const fn multi(made_of: MadeOf) -> Multi {
    Multi { made_of, tables: OnceLock::new() }
}

pub(super) static BIG5: Multi = multi(two_bytes(&encoding_rs::BIG5_INIT, differences::BIG5));
pub(super) static CP932: Multi =
    multi(MadeOf { katakana: true, ..two_bytes(&encoding_rs::SHIFT_JIS_INIT, &[]) });
pub(super) static EUCJPMS: Multi = multi(MadeOf {
    three: Some(differences::EUCJPMS_8F),
    ..two_bytes(&encoding_rs::EUC_JP_INIT, differences::EUCJPMS)
});
pub(super) static EUCKR: Multi = multi(two_bytes(&encoding_rs::EUC_KR_INIT, &[]));
pub(super) static GB18030: Multi =
    multi(MadeOf { four: true, ..two_bytes(&encoding_rs::GB18030_INIT, differences::GB18030) });
pub(super) static GB2312: Multi = multi(two_bytes(&encoding_rs::GBK_INIT, differences::GB2312));
pub(super) static GBK: Multi = multi(two_bytes(&encoding_rs::GBK_INIT, differences::GBK));
pub(super) static SJIS: Multi =
    multi(MadeOf { katakana: true, ..two_bytes(&encoding_rs::SHIFT_JIS_INIT, differences::SJIS) });
pub(super) static UJIS: Multi = multi(MadeOf {
    three: Some(differences::UJIS_8F),
    ..two_bytes(&encoding_rs::EUC_JP_INIT, differences::UJIS)
});

impl Multi {
    /// The text that `raw` is, or the offset of the first character that is none.
    pub(super) fn convert(&self, raw: &[u8]) -> Result<String, usize> {
        let tables = self.tables.get_or_init(|| self.made_of.tables());
        let mut text = String::with_capacity(raw.len().saturating_add(raw.len() / 2));
        let mut rest = raw;
        while let Some(first) = rest.first() {
            let at = raw.len() - rest.len();
            let used = if first.is_ascii() {
                let (ascii, _) = rest.split_at(Encoding::ascii_valid_up_to(rest));
                text.push_str(std::str::from_utf8(ascii).map_err(|_| at)?);
                ascii.len()
            } else {
                let (found, used) = self.made_of.next(tables, rest).ok_or(at)?;
                text.push(found);
                used
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(text)
    }
}

impl MadeOf {
    /// The character that `rest` begins with, which is none of ASCII, and its bytes.
    fn next(&self, tables: &Tables, rest: &[u8]) -> Option<(char, usize)> {
        match *rest {
            [first @ 0xA1..=0xDF, ..] if self.katakana => {
                character(0xFF61 + u16::from(first - 0xA1)).map(|found| (found, 1))
            }
            [0x8F, second, third, ..] if self.three.is_some() => {
                look_up(&tables.three, second, third).map(|found| (found, 3))
            }
            [first, second @ b'0'..=b'9', third, fourth @ b'0'..=b'9', ..] if self.four => {
                let place = four_bytes(first, second - b'0', third, fourth - b'0')?;
                four_byte_character(&tables.four, place).map(|found| (found, 4))
            }
            [first, second, ..] => look_up(&tables.two, first, second).map(|found| (found, 2)),
            _ => None,
        }
    }

    fn tables(&self) -> Tables {
        Tables {
            two: codes(self.encoding, &[], self.two),
            three: self.three.map_or_else(Vec::new, |runs| codes(self.encoding, &[0x8F], runs)),
            four: if self.four { four_byte_codes(self.encoding) } else { Vec::new() },
        }
    }
}

/// The index of a code in the table of all codes; the first byte of each has its high bit set.
fn index(first: u8, second: u8) -> Option<usize> {
    first.checked_sub(0x80).map(|high| usize::from(high) << 8 | usize::from(second))
}

fn look_up(table: &[u16], first: u8, second: u8) -> Option<char> {
    table.get(index(first, second)?).copied().and_then(character)
}

/// The character that `encoding` takes all of `bytes` for.
fn known(encoding: &'static Encoding, bytes: &[u8]) -> Option<u16> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    let mut units = text.encode_utf16();
    // A second unit is a second character, or the other half of one that no server has.
    units.next().filter(|_| units.next().is_none())
}

/// The table of the codes of two bytes that follow `before`.
fn codes(encoding: &'static Encoding, before: &[u8], runs: &[Run]) -> Vec<u16> {
    let mut table = vec![0; 0x8000];
    for first in 0x81..=0xFE_u8 {
        for second in 0x40..=0xFE_u8 {
            let bytes = [before, &[first, second]].concat();
            if let Some(entry) = index(first, second).and_then(|index| table.get_mut(index)) {
                *entry = known(encoding, &bytes).unwrap_or_default();
            }
        }
    }
    for (from, last, to) in runs {
        for code in *from..=*last {
            let [first, second] = code.to_be_bytes();
            if let Some(entry) = index(first, second).and_then(|index| table.get_mut(index)) {
                *entry = if *to == 0 { 0 } else { to.saturating_add(code - from) };
            }
        }
    }
    table
}

/// The place of a code among all of four bytes; the second and the fourth byte are digits.
fn four_bytes(first: u8, second: u8, third: u8, fourth: u8) -> Option<u32> {
    let lead = |byte: u8| byte.checked_sub(0x81).filter(|place| *place < 126).map(u32::from);
    Some(((lead(first)? * 10 + u32::from(second)) * 126 + lead(third)?) * 10 + u32::from(fourth))
}

fn four_byte_character(table: &[u16], place: u32) -> Option<char> {
    match usize::try_from(place).ok().and_then(|place| table.get(place)) {
        Some(code) => character(*code),
        None => char::from_u32(0x10000 + place.checked_sub(SUPPLEMENTARY)?),
    }
}

/// The characters of four bytes in the Basic Multilingual Plane, by place. The server's are those of
/// `encoding`.
fn four_byte_codes(encoding: &'static Encoding) -> Vec<u16> {
    let mut table = Vec::with_capacity(FOUR_BYTES);
    for first in 0x81..=0x84 {
        for second in b'0'..=b'9' {
            for third in 0x81..=0xFE {
                for fourth in b'0'..=b'9' {
                    let bytes = [first, second, third, fourth];
                    table.push(known(encoding, &bytes).unwrap_or_default());
                }
            }
        }
    }
    table.truncate(FOUR_BYTES);
    table
}
