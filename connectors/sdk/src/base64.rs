//! The digits of standard base64 (RFC 4648, section 4), for decoders that write it in place.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The digit of the low six bits.
#[inline]
pub fn digit(bits: u32) -> u8 {
    usize::try_from(bits & 0x3f).ok().and_then(|index| DIGITS.get(index)).copied().unwrap_or(b'A')
}

/// The digits of the low 24 bits.
#[inline]
pub fn group(bits: u32) -> [u8; 4] {
    [digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), digit(bits)]
}
