//! What a server says first ("Protocol::HandshakeV10").

use std::net::SocketAddr;

use rowtide_sdk::Result;

use crate::config::Target;
use crate::error::protocol;
use crate::reader::Reader;

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// MySQL, and what calls itself so.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// A server, and the connection to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// The version as the server prints it, without the `5.5.5-` that MariaDB puts before it.
    pub version: String,
    /// The version's three numbers.
    pub numbers: (u16, u16, u16),
    /// The connection's id at the server.
    pub connection_id: u32,
    /// Whether TLS is in use.
    pub is_encrypted: bool,
    /// The place that was chosen.
    pub target: Target,
    /// Its address, where the place is a name.
    pub address: Option<SocketAddr>,
}

/// The greeting's fields that the login needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) version: String,
    pub(super) connection_id: u32,
    pub(super) capabilities: u32,
    /// Twenty bytes.
    pub(super) nonce: Vec<u8>,
    pub(super) plugin: String,
}

/// The bytes of a nonce.
const NONCE: usize = 20;

impl Handshake {
    /// Reads the packet.
    pub(super) fn parse(packet: &[u8]) -> Result<Self> {
        let mut reader = Reader(packet);
        if reader.u8() != Some(10) {
            return Err(protocol("what answers does not greet as MySQL does"));
        }
        let mut read = || {
            let version = null_terminated(&mut reader)?;
            let connection_id = reader.u32()?;
            let mut nonce = reader.bytes(8)?.to_vec();
            let _filler = reader.u8()?;
            let lower = reader.u16()?;
            let _collation_and_status = reader.bytes(3)?;
            let upper = reader.u16()?;
            let nonce_len = usize::from(reader.u8()?);
            let _reserved = reader.bytes(10)?;
            nonce.extend(reader.bytes(nonce_len.saturating_sub(8).max(13))?);
            nonce.truncate(NONCE);
            // A name without its end is an old server's.
            let plugin = reader.0.split(|&byte| byte == 0).next().unwrap_or_default();
            Some(Self {
                version,
                connection_id,
                capabilities: u32::from(upper) << 16 | u32::from(lower),
                nonce,
                plugin: String::from_utf8_lossy(plugin).into_owned(),
            })
        };
        read().ok_or_else(|| protocol("the server's greeting is cut off"))
    }

    pub(super) fn flavor(&self) -> Flavor {
        let is_mariadb = self.version.starts_with("5.5.5-")
            || self.version.to_ascii_lowercase().contains("mariadb");
        if is_mariadb { Flavor::MariaDb } else { Flavor::MySql }
    }

    /// The version without MariaDB's mark, and its numbers.
    pub(super) fn version(&self) -> (&str, (u16, u16, u16)) {
        let text = self.version.strip_prefix("5.5.5-").unwrap_or(&self.version);
        let mut parts = text.splitn(3, '.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part.get(..end).unwrap_or_default().parse().unwrap_or_default()
        });
        let mut next = || parts.next().unwrap_or_default();
        (text, (next(), next(), next()))
    }
}

/// A text up to its zero byte.
pub(super) fn null_terminated(reader: &mut Reader<'_>) -> Option<String> {
    let end = reader.0.iter().position(|&byte| byte == 0)?;
    let text = String::from_utf8_lossy(reader.bytes(end)?).into_owned();
    reader.u8()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(version: &str) -> Vec<u8> {
        let mut packet = vec![10];
        packet.extend(version.as_bytes());
        packet.extend(b"\0\x07\0\0\0abcdefgh\0\xff\xf7\xff\x02\0\xff\xc7\x15");
        packet.extend([0; 10]);
        packet.extend(b"ijklmnopqrst\0caching_sha2_password\0");
        packet
    }

    #[test]
    fn servers_are_told_apart() {
        for (said, flavor, version, numbers) in [
            ("9.7.4", Flavor::MySql, "9.7.4", (9, 7, 4)),
            ("8.0.32-azure", Flavor::MySql, "8.0.32-azure", (8, 0, 32)),
            ("5.5.5-10.11.19-MariaDB-log", Flavor::MariaDb, "10.11.19-MariaDB-log", (10, 11, 19)),
            ("11.8.2-MariaDB", Flavor::MariaDb, "11.8.2-MariaDB", (11, 8, 2)),
            ("odd", Flavor::MySql, "odd", (0, 0, 0)),
        ] {
            let handshake = Handshake::parse(&packet(said)).unwrap();
            assert_eq!(handshake.flavor(), flavor, "{said}");
            assert_eq!(handshake.version(), (version, numbers));
            assert_eq!(handshake.nonce, b"abcdefghijklmnopqrst");
            assert_eq!(handshake.plugin, "caching_sha2_password");
            assert_eq!((handshake.connection_id, handshake.capabilities), (7, 0xc7ff_f7ff));
        }
    }

    #[test]
    fn what_is_no_greeting_is_refused() {
        for bytes in [&b""[..], b"HTTP/1.1 400", b"\x0a5.7", b"\x09old\0"] {
            assert_eq!(Handshake::parse(bytes).unwrap_err().code().0, "RT2615");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _any = Handshake::parse(&[&[10], &bytes[..]].concat());
        }
    }
}
