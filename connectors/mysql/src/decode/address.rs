//! MariaDB's `UUID`, `INET4` and `INET6`: fixed numbers of bytes in the log, whose trailing zeros it
//! leaves out (M-55).

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt::Write as _;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written};

/// The bytes with the zeros that the log left out.
fn whole<const N: usize>(raw: &[u8], name: &'static str) -> Result<[u8; N], ValueError> {
    let mut bytes = [0; N];
    let target = bytes.get_mut(..raw.len()).ok_or(ValueError::Malformed(name))?;
    target.copy_from_slice(raw);
    Ok(bytes)
}

/// A `UUID`, hyphenated and in lower case.
#[derive(Debug)]
pub(super) struct Uuid;

impl Decode for Uuid {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let mut text = String::with_capacity(36);
        for (at, byte) in whole::<16>(raw, "uuid")?.into_iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        out.string(&text);
        Ok(Written::Form)
    }
}

/// An `INET4` address.
#[derive(Debug)]
pub(super) struct Inet4;

impl Decode for Inet4 {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.string(&Ipv4Addr::from(whole::<4>(raw, "inet4")?).to_string());
        Ok(Written::Form)
    }
}

/// An `INET6` address, as the server prints it.
#[derive(Debug)]
pub(super) struct Inet6;

impl Decode for Inet6 {
    text_as_shown!();

    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        out.string(&inet6(Ipv6Addr::from(whole::<16>(raw, "inet6")?)));
        Ok(Written::Form)
    }
}

/// The text of an address: of the longest runs of zeros the first is left out, and addresses that hold
/// one of version 4 show it (`Inet6::to_string` in MariaDB's `sql_type_inet.cc`).
fn inet6(address: Ipv6Addr) -> String {
    let words = address.segments();
    let [.., a, b, c, d] = address.octets();
    match words {
        [0, 0, 0, 0, 0, 0xffff, ..] => return format!("::ffff:{a}.{b}.{c}.{d}"),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => return format!("::{a}.{b}.{c}.{d}"),
        _ => {}
    }
    let mut longest = 0..0;
    let mut run = 0..0;
    for (at, word) in words.into_iter().enumerate() {
        run = if word != 0 { at + 1..at + 1 } else { run.start..at + 1 };
        if run.len() > longest.len() {
            longest = run.clone();
        }
    }
    let hex =
        |words: &[u16]| words.iter().map(|word| format!("{word:x}")).collect::<Vec<_>>().join(":");
    if longest.is_empty() {
        return hex(&words);
    }
    let before = words.get(..longest.start).unwrap_or_default();
    let after = words.get(longest.end..).unwrap_or_default();
    format!("{}::{}", hex(before), hex(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(decode: &dyn Decode, raw: &[u8]) -> Option<String> {
        let mut out = JsonWriter::default();
        decode.write(raw, &mut out).ok()?;
        String::from_utf8(out.into_inner()).ok()
    }

    #[test]
    fn m55_what_the_log_left_out_are_zeros() {
        let uuid =
            [0x55, 0x0e, 0x84, 0, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0x66, 0x55, 0x44];
        let expected = "\"550e8400-e29b-41d4-a716-446655440000\"";
        assert_eq!(written(&Uuid, &uuid).as_deref(), Some(expected));
        assert_eq!(written(&Inet4, &[10]).as_deref(), Some("\"10.0.0.0\""));
        assert_eq!(written(&Inet6, &[]).as_deref(), Some("\"::\""));
        assert_eq!(written(&Inet6, &[0x20, 1, 0x0d, 0xb8]).as_deref(), Some("\"2001:db8::\""));
        assert_eq!(written(&Inet4, &[0; 5]), None);
        assert_eq!(written(&Uuid, &[0; 17]), None);
    }

    #[test]
    fn addresses_of_version_6() {
        for text in ["::1", "::ffff:192.0.2.1", "::192.0.2.1", "1:2:3:4:5:6:7:8", "1::3:4:0:0:7"] {
            let address: Ipv6Addr = text.parse().unwrap();
            assert_eq!(inet6(address).parse::<Ipv6Addr>().unwrap(), address, "{text}");
        }
        assert_eq!(inet6("::192.0.2.1".parse().unwrap()), "::192.0.2.1");
        assert_eq!(inet6("1:0:0:2:0:0:0:3".parse().unwrap()), "1:0:0:2::3");
    }
}
