//! The little of a certificate's encoding that channel binding needs: which hash its signature
//! uses (RFC 5929, section 4.1).

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// The contents of the DER element at the start of `der` if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // The long form: at most four bytes of length, which is more than any certificate.
        let count = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        (digits.iter().fold(0, |sum: usize, &digit| sum << 8 | usize::from(digit)), rest)
    };
    rest.split_at_checked(length)
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
/// The first context-specific element of RSASSA-PSS-params: hashAlgorithm.
const PSS_HASH: u8 = 0xa0;

/// sha1WithRSAEncryption and its like are named by these object identifiers, in DER.
mod oid {
    /// 1.2.840.113549.1.1: the PKCS #1 signatures, followed by one byte.
    pub(super) const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    /// 1.2.840.10045.4.3: ECDSA with SHA-2, followed by one byte.
    pub(super) const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    /// 1.2.840.10045.4.1: ECDSA with SHA-1.
    pub(super) const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    /// 2.16.840.1.101.3.4.2: the SHA-2 hashes, followed by one byte.
    pub(super) const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
}

/// A hash for the binding; MD5 and SHA-1 are replaced by SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// The one byte that follows `prefix` in an object identifier.
fn after(identifier: &[u8], prefix: &[u8]) -> Option<u8> {
    match identifier.strip_prefix(prefix)? {
        [last] => Some(*last),
        _ => None,
    }
}

fn signature_hash(algorithm: &[u8]) -> Option<Hash> {
    let (identifier, parameters) = element(algorithm, OID)?;
    if identifier == oid::ECDSA_SHA1 {
        return Some(Hash::Sha256);
    }
    if let Some(ecdsa) = after(identifier, oid::ECDSA_SHA2) {
        return Some(match ecdsa {
            1 => Hash::Sha224,
            2 => Hash::Sha256,
            3 => Hash::Sha384,
            4 => Hash::Sha512,
            _ => return None,
        });
    }
    Some(match after(identifier, oid::PKCS1)? {
        // MD5, SHA-1 and SHA-256.
        4 | 5 | 11 => Hash::Sha256,
        12 => Hash::Sha384,
        13 => Hash::Sha512,
        14 => Hash::Sha224,
        10 => return pss_hash(parameters),
        _ => return None,
    })
}

/// The hash of RSASSA-PSS stands in its parameters; SHA-1, so SHA-256, where it does not.
fn pss_hash(parameters: &[u8]) -> Option<Hash> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(parameters, PSS_HASH) else { return Some(Hash::Sha256) };
    let (algorithm, _) = element(hash, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OID)?;
    Some(match after(identifier, oid::SHA2) {
        Some(1) | None => Hash::Sha256,
        Some(2) => Hash::Sha384,
        Some(3) => Hash::Sha512,
        Some(4) => Hash::Sha224,
        Some(_) => return None,
    })
}

/// The `tls-server-end-point` binding of a server's certificate: its hash by the hash function of
/// its signature. `None` where that function is undefined (Ed25519) or not known here.
pub(super) fn end_point_binding(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE, … }
    let (contents, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(contents, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    Some(match signature_hash(algorithm)? {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => Sha384::digest(certificate).to_vec(),
        Hash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A certificate's outline around an algorithm identifier.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, contents: &[u8]| {
            let mut der = vec![tag, u8::try_from(contents.len()).unwrap()];
            der.extend(contents);
            der
        };
        wrap(0x30, &[wrap(0x30, b"\x02\x01\x01"), wrap(0x30, algorithm)].concat())
    }

    #[test]
    fn the_signature_decides_the_hash() {
        let rsa = |last| [b"\x06\x09".as_slice(), oid::PKCS1, &[last], b"\x05\0"].concat();
        let ecdsa = |last| [b"\x06\x08".as_slice(), oid::ECDSA_SHA2, &[last]].concat();
        let length = |algorithm: &[u8]| end_point_binding(&certificate(algorithm)).map(|b| b.len());
        let lengths = [4, 5, 11, 12, 13, 14, 99].map(|last| length(&rsa(last)));
        assert_eq!(lengths, [Some(32), Some(32), Some(32), Some(48), Some(64), Some(28), None]);
        assert_eq!([2, 3, 4].map(|last| length(&ecdsa(last))), [Some(32), Some(48), Some(64)]);
        let ed25519 = b"\x06\x03\x2b\x65\x70";
        assert_eq!(length(ed25519), None);
    }

    #[test]
    fn pss_names_its_hash_in_the_parameters() {
        let mut algorithm = [b"\x06\x09".as_slice(), oid::PKCS1, &[10]].concat();
        let mut with_sha384 = algorithm.clone();
        with_sha384.extend(b"\x30\x0f\xa0\x0d\x30\x0b\x06\x09");
        with_sha384.extend([oid::SHA2, &[2]].concat());
        assert_eq!(end_point_binding(&certificate(&with_sha384)).map(|b| b.len()), Some(48));
        algorithm.extend(b"\x30\0");
        assert_eq!(end_point_binding(&certificate(&algorithm)).map(|b| b.len()), Some(32));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(der: Vec<u8>) {
            let _binding = end_point_binding(&der);
        }
    }
}
