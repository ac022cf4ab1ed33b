//! Log sequence numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte position in the write-ahead log. Ordered as a number, printed as the server prints it:
/// two hexadecimal halves without padding, `0/16B3800`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// An LSN as text, without an allocation.
#[derive(Debug, Clone, Copy)]
pub struct LsnText {
    bytes: [u8; 17],
    len: usize,
}

impl LsnText {
    /// The text's bytes, all ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// Appends 32 bits in upper-case hexadecimal without leading zeros.
    fn push_half(&mut self, half: u64) {
        let half = half & 0xffff_ffff;
        let digits = (64 - half.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let nibble = half >> (4 * digit) & 0xf;
            let byte = nibble.to_le_bytes()[0];
            self.push(if byte < 10 { b'0' + byte } else { b'A' + (byte - 10) });
        }
    }
}

impl Lsn {
    /// The server's text of this LSN.
    pub fn text(self) -> LsnText {
        let mut text = LsnText { bytes: [0; 17], len: 0 };
        text.push_half(self.0 >> 32);
        text.push(b'/');
        text.push_half(self.0);
        text
    }

    /// Whether this is the invalid LSN, `0/0`.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Text that is not an LSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnLsn;

impl fmt::Display for NotAnLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not an LSN: two hexadecimal numbers of up to 8 digits with a slash between them",
        )
    }
}

impl std::error::Error for NotAnLsn {}

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let (high, low) = text.split_once('/').ok_or(NotAnLsn)?;
        let half = |digits: &str| {
            let plain = !digits.is_empty()
                && digits.len() <= 8
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if plain {
                u64::from_str_radix(digits, 16).map_err(|_| NotAnLsn)
            } else {
                Err(NotAnLsn)
            }
        };
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_as_the_server_does() {
        assert_eq!(Lsn(0x02B7_B008).to_string(), "0/2B7B008");
        assert_eq!(Lsn(u64::MAX).to_string(), "FFFFFFFF/FFFFFFFF");
        assert_eq!(Lsn(0).to_string(), "0/0");
        assert_eq!(Lsn(1 << 32).to_string(), "1/0");
    }

    #[test]
    fn h13_orders_as_a_number() {
        let [low, high]: [Lsn; 2] = ["0/FFFFFFFF", "1/0"].map(|text| text.parse().unwrap());
        assert!(high > low);
        let [ten, nine]: [Lsn; 2] = ["10/0", "9/0"].map(|text| text.parse().unwrap());
        assert!(ten > nine);
        let last: Lsn = "FFFFFFFF/FFFFFFFF".parse().unwrap();
        assert!(last == Lsn(u64::MAX) && last > ten);
    }

    #[test]
    fn refuses_what_is_no_lsn() {
        for text in
            ["", "/", "0/", "/0", "0", "0/1/2", "0/123456789", "0/G", "0/+1", " 0/1", "0x1/0"]
        {
            assert_eq!(text.parse::<Lsn>(), Err(NotAnLsn), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_back_equal(raw in any::<u64>()) {
            let lsn = Lsn(raw);
            prop_assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
            let (text, string) = (lsn.text(), lsn.to_string());
            prop_assert_eq!(text.as_bytes(), string.as_bytes());
        }
    }
}
