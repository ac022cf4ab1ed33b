//! The sequences of bytes that are compared, as SQL.

use std::fmt::Write;

use rowtide_mysql::charset::Charset;

/// The tables that the probes select from: every byte, every two bytes, and some bytes around the
/// edges of what may follow in UTF-8.
pub(crate) const SETS_OF_BYTES: [&str; 3] = [
    "create table hexits (h char(1)); \
     insert into hexits values ('0'),('1'),('2'),('3'),('4'),('5'),('6'),('7'),('8'),('9'),('A'),\
     ('B'),('C'),('D'),('E'),('F'); \
     create table one as select unhex(concat(a.h, b.h)) as b from hexits a, hexits b",
    "create table two as select concat(x.b, y.b) as b from one x, one y",
    "create table edges as select b from one where b in (x'7F', x'80', x'8F', x'90', x'9F', x'A0', \
     x'BF', x'C0')",
];

const ONE: &str = "select b from one";
const TWO: &str = "select b from two";

/// What is compared of a character set: all of its codes, where they are countable, and strings.
pub(crate) fn probes(charset: Charset) -> Vec<String> {
    let mut all: Vec<String> = match charset {
        Charset::Ucs2 => vec![TWO.into()],
        Charset::Utf16 => vec![TWO.into(), pairs("x'D7', x'D8', x'DB', x'DC', x'DF', x'E0'", "")],
        Charset::Utf16le => vec![TWO.into(), pairs("x'00', x'FF'", "x'D8', x'DB', x'DC', x'E0'")],
        Charset::Utf32 => vec![
            "select concat(x'0000', b) as b from two".into(),
            "select concat(x'00', b, x'FF') as b from two where b < x'1200'".into(),
            "select concat(b, x'0041') as b from two".into(),
        ],
        Charset::Utf8mb3 | Charset::Utf8mb4 => vec![ONE.into(), TWO.into(), utf8(3), utf8(4)],
        Charset::Ujis | Charset::Eucjpms => {
            vec![ONE.into(), TWO.into(), "select concat(x'8F', b) as b from two".into()]
        }
        Charset::Gb18030 => {
            // All of the Basic Multilingual Plane, and of the rest every fifth.
            let all = four_bytes("b < x'85'", "b between x'30' and x'39'");
            let some = four_bytes("b > x'84'", "b in (x'30', x'39')");
            vec![ONE.into(), TWO.into(), all, some]
        }
        _ if charset.max_len() == 1 => vec![ONE.into()],
        _ => vec![ONE.into(), TWO.into()],
    };
    all.push(strings(charset));
    all
}

/// Two units of two bytes, of which the first byte or the second is chosen.
fn pairs(firsts: &str, seconds: &str) -> String {
    let chosen = match seconds {
        "" => format!("substr(b, 1, 1) in ({firsts}) and substr(b, 2, 1) in (x'00', x'FF', x'3F')"),
        _ => format!("substr(b, 1, 1) in ({firsts}) and substr(b, 2, 1) in ({seconds})"),
    };
    format!(
        "select concat(x.b, y.b) as b from two x, \
         (select b from two where {chosen}) y where x.b in (select b from two where {chosen})"
    )
}

/// Every first byte and second byte of a longer character, with the edges after them.
fn utf8(length: usize) -> String {
    match length {
        3 => "select concat(t.b, e.b) as b from two t, edges e where t.b >= x'E0'".into(),
        _ => "select concat(t.b, e.b, f.b) as b from two t, edges e, edges f \
              where t.b >= x'F0' and t.b < x'F680'"
            .into(),
    }
}

/// gb18030's characters of four bytes.
fn four_bytes(first: &str, fourth: &str) -> String {
    let lead = "b between x'81' and x'FE'";
    format!(
        "select concat(p.b, q.b, r.b, s.b) as b from \
         (select b from one where {lead} and {first}) p, \
         (select b from one where b between x'30' and x'39') q, \
         (select b from one where {lead}) r, (select b from one where {fourth}) s"
    )
}

/// A few hundred strings of characters that are likely to be the set's, now and then with a byte
/// that is not.
fn strings(charset: Charset) -> String {
    let mut random = Random(0x5EED);
    let mut sql = String::new();
    for number in 0..400 {
        let mut raw = Vec::new();
        for _ in 0..1 + random.below(8) {
            character(charset, &mut random, &mut raw);
        }
        if number % 4 == 0 && charset.max_len() > 1 {
            let place = random.below(raw.len());
            raw[place] = random.byte();
        }
        let _ = write!(sql, "{}select x'", if number == 0 { "" } else { " union all " });
        for byte in &raw {
            let _ = write!(sql, "{byte:02X}");
        }
        sql.push_str(if number == 0 { "' as b" } else { "'" });
    }
    sql
}

/// Appends one character: ASCII, or the first that chance finds and `charset` has. Nothing is lost
/// where it errs about what it has: all the rest is compared code by code.
fn character(charset: Charset, random: &mut Random, raw: &mut Vec<u8>) {
    let fixed =
        matches!(charset, Charset::Ucs2 | Charset::Utf16 | Charset::Utf16le | Charset::Utf32);
    let longest = charset.max_len();
    for _ in 0..200 {
        let mut code: Vec<u8> = (0..1 + random.below(longest)).map(|_| random.byte()).collect();
        if charset == Charset::Utf32 {
            code = vec![0, 0, random.byte(), random.byte()];
        } else if fixed {
            code.resize(2, 0);
        }
        let whole = charset.to_utf8(&code);
        if whole.is_ok_and(|text| text.chars().count() == 1) {
            raw.extend(code);
            return;
        }
    }
    raw.extend(if fixed { vec![0; longest] } else { vec![b'a'] });
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0.to_be_bytes()[1]
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }
}
