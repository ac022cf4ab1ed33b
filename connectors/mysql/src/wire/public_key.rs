//! The password under the server's public key, where there is no TLS ("Caching_sha2_password
//! information", "sha256_password").
//!
//! The key is taken apart here: it comes from a server that is not known yet.

use mysql_common::crypto::rsa::{GetRandom, Pkcs1OaepPadding, PublicKey};
use num_bigint::BigUint;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

/// The length of what OAEP puts around a message: two SHA-1 hashes and two bytes.
const PADDING: usize = 42;
/// The sizes of a modulus that are taken, in bits. Above, a login would keep the process busy.
const BITS: std::ops::RangeInclusive<u64> = 1024..=16_384;

/// Encrypts a password by a key in PEM form, mixed with the server's nonce; `None` where the key is not
/// usable or too short for the password.
pub(super) fn encrypt(password: &str, nonce: &[u8], pem: &[u8]) -> Option<Vec<u8>> {
    let (modulus, exponent) = key(pem)?;
    let key = PublicKey::new(modulus, exponent);
    let bytes = password.bytes().chain([0]);
    let mixed: Vec<u8> = bytes.zip(nonce.iter().cycle()).map(|(a, b)| a ^ b).collect();
    // Nothing at all is what an empty nonce gives.
    if mixed.len() != password.len() + 1 || mixed.len() + PADDING > key.num_octets() {
        return None;
    }
    Some(key.encrypt_block(mixed, Pkcs1OaepPadding::new(GetRandom)))
}

/// Modulus and exponent (RFC 8017, A.1.1, inside of RFC 5280's SubjectPublicKeyInfo).
fn key(pem: &[u8]) -> Option<(BigUint, BigUint)> {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const SEQUENCE: u8 = 0x30;
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let (info, _) = element(&der, SEQUENCE)?;
    let (_, rest) = element(info, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    let (numbers, _) = element(bits.strip_prefix(&[0])?, SEQUENCE)?;
    let (modulus, rest) = element(numbers, INTEGER)?;
    let (exponent, _) = element(rest, INTEGER)?;
    let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    let is_usable = BITS.contains(&modulus.bits())
        && modulus.bit(0)
        && exponent.bit(0)
        && (2..=64).contains(&exponent.bits());
    is_usable.then_some((modulus, exponent))
}

/// An element of DER with this tag at the start: its contents, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxSKOcxiet8lLMn8ImyUE
bGGKob5EdRz/4wdiw12ED0GfKKTKhVnodFCfm1mdy7bKOX5QxL9skrvYodpW43eR
R5bfOzIgy1qIB8RYb6qOXRBw1oA4snBDqtUjDv/lbHLJN+IbzM4oU+e3Lt9rXyLX
VY289ewONPweXHqSCnTL91w+wkU1peIFV2QhZ+upUCdCtwOn5hnJPNgxtbklFoya
C8W3Z7Xx7He2QDJsEWAqX197efw0L6j8X8Tyd8Uwb7zUB1tfMGhHfm9EwejPAtzx
4GztQNtNMtGS2oGZLQBLV9hib4dDL92iiZeckg2LAf4GsJofLLR8mcHCRoqVbQJ1
YQIDAQAB
-----END PUBLIC KEY-----";

    #[test]
    fn a_password_that_fits_is_encrypted() {
        let (modulus, exponent) = key(KEY).unwrap();
        assert_eq!((modulus.bits(), exponent), (2048, BigUint::from(65_537_u32)));
        assert_eq!(encrypt("geheim", &[7; 20], KEY).unwrap().len(), 256);
        assert!(encrypt(&"x".repeat(213), &[7; 20], KEY).is_some());
        assert_eq!(encrypt(&"x".repeat(214), &[7; 20], KEY), None);
        assert_eq!(encrypt("geheim", &[], KEY), None);
        assert_eq!(encrypt("geheim", &[7; 20], b"no key"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0_usize..20) {
            let _any = element(&bytes, bytes.first().copied().unwrap_or_default());
            let mut pem = KEY.to_vec();
            for (offset, byte) in bytes.iter().enumerate() {
                pem[27 + at + offset] = b'A' + byte % 26;
            }
            let _any = encrypt("geheim", &[1; 20], &pem);
        }
    }
}
