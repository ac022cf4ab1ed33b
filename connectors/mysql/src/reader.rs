//! Takes numbers and bytes off the front of what the server sent. Every number is little-endian unless
//! its name says otherwise; `None` is the end of the bytes.

/// The bytes that are left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of `width` bytes, eight at most.
    pub(crate) fn uint(&mut self, width: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes.get_mut(..width)?.copy_from_slice(self.bytes(width)?);
        Some(u64::from_le_bytes(bytes))
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// A "length-encoded integer" of the protocol; 251 stands for NULL there and is none.
    pub(crate) fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            small @ 0..=250 => Some(u64::from(small)),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            251 | 255 => None,
        }
    }

    /// A length-encoded integer that counts something in memory.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.lenenc()?).ok()
    }

    /// Bytes behind their length-encoded length.
    pub(crate) fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        self.bytes(count)
    }

    /// Bytes behind one byte for their length.
    pub(crate) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.bytes(usize::from(count))
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Whether a bit is set, of bits that are counted from the lowest of the first byte.
pub(crate) fn is_set(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_their_length() {
        let mut reader = Reader(&[7, 252, 0, 1, 253, 1, 0, 1, 254, 1, 0, 0, 0, 0, 0, 0, 1, 251]);
        assert_eq!(reader.lenenc(), Some(7));
        assert_eq!(reader.lenenc(), Some(256));
        assert_eq!(reader.lenenc(), Some(0x01_0001));
        assert_eq!(reader.lenenc(), Some(1 << 56 | 1));
        assert_eq!(reader.lenenc(), None, "NULL is no number");
        assert_eq!(Reader(&[252, 1]).lenenc(), None);
        assert_eq!(Reader(&[1, 2, 3]).uint(3), Some(0x03_0201));
        assert_eq!(Reader(&[0; 9]).uint(9), None);
    }

    #[test]
    fn bits_are_counted_from_the_lowest() {
        assert!(is_set(&[1], 0) && !is_set(&[1], 1) && is_set(&[0, 0x80], 15));
        assert!(!is_set(&[1], 8), "beyond the end");
    }
}
