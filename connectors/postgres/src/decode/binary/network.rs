//! Network addresses.

use super::{Reader, push_hex, push_number};

/// The families as they are sent: `AF_INET`, and the one after it, whatever the system's `AF_INET6`.
const IPV4: u8 = 2;
const IPV6: u8 = 3;

/// `inet` and `cidr`: the prefix length is printed where it is not that of one address, and always for
/// `cidr`.
pub(super) fn inet(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(raw);
    let (family, bits, is_cidr, len) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
    let address_bits = match (family, len) {
        (IPV4, 4) => {
            ipv4(reader.array()?, out);
            32
        }
        (IPV6, 16) => {
            ipv6(reader.array()?, out);
            128
        }
        _ => return None,
    };
    reader.end()?;
    if is_cidr != 0 || bits != address_bits {
        out.push(b'/');
        push_number(bits, out);
    }
    Some(())
}

fn ipv4(bytes: [u8; 4], out: &mut Vec<u8>) {
    for (at, byte) in bytes.into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        push_number(byte, out);
    }
}

/// The longest run of two or more zero groups, the first of equals, is `::`; an IPv4 address at the end
/// is printed as one where only zeros, or zeros and one group of ones, precede it
/// (`inet_net_ntop_ipv6` of the server).
fn ipv6(bytes: [u8; 16], out: &mut Vec<u8>) {
    let groups: [u16; 8] = std::array::from_fn(|at| {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        u16::from_be_bytes([byte(at * 2), byte(at * 2 + 1)])
    });
    let (start, len) = longest_zeros(&groups);
    let is_ipv4 = start == 0 && (len == 6 || (len == 5 && groups.get(5) == Some(&0xffff)));
    for (at, group) in groups.into_iter().enumerate() {
        if len > 1 && (start..start + len).contains(&at) {
            if at == start {
                out.push(b':');
            }
            continue;
        }
        if at > 0 {
            out.push(b':');
        }
        if at == 6 && is_ipv4 {
            let [.., a, b, c, d] = bytes;
            ipv4([a, b, c, d], out);
            return;
        }
        push_group(group, out);
    }
    if len > 1 && start + len == groups.len() {
        out.push(b':');
    }
}

/// Where the longest run of zero groups begins and how long it is.
fn longest_zeros(groups: &[u16]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut at = 0;
    while at < groups.len() {
        let rest = groups.get(at..).unwrap_or_default();
        let len = rest.iter().take_while(|group| **group == 0).count();
        if len > best.1 {
            best = (at, len);
        }
        at += len.max(1);
    }
    best
}

/// In hexadecimal without leading zeros.
fn push_group(group: u16, out: &mut Vec<u8>) {
    let start = out.len();
    group.to_be_bytes().into_iter().for_each(|byte| push_hex(byte, out));
    let digits = out.split_off(start);
    let zeros = digits.iter().take(3).take_while(|digit| **digit == b'0').count();
    out.extend(digits.into_iter().skip(zeros));
}

/// `macaddr` and `macaddr8`.
pub(super) fn mac(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !matches!(raw.len(), 6 | 8) {
        return None;
    }
    for (at, byte) in raw.iter().enumerate() {
        if at > 0 {
            out.push(b':');
        }
        push_hex(*byte, out);
    }
    Some(())
}
