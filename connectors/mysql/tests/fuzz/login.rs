//! What a server says until the login is complete, and its refusals.

use std::path::Path;

use rowtide_mysql::config::ConnectOptions;
use rowtide_mysql::wire::offline::{login, server_error};

use super::checks;
use crate::frame::Target;

const PASSWORD: &str = "geheimnis";

pub(crate) fn target() -> Target {
    let greeting = |version: &str, plugin: &str| {
        let mut packet = vec![10];
        packet.extend(version.as_bytes());
        packet.extend(b"\0\x07\0\0\0abcdefgh\0\xff\xf7\xff\x02\0\xff\xc7\x15");
        packet.extend([0; 10]);
        packet.extend(b"ijklmnopqrst\0");
        packet.extend(plugin.as_bytes());
        packet.push(0);
        packet
    };
    let switch = |name: &str| [b"\xfe", name.as_bytes(), b"\0abcdefghijklmnopqrst\0"].concat();
    let ed25519 = b"\xfeclient_ed25519\0abcdefghijklmnopqrstuvwxyzabcdef".to_vec();
    let key = [b"\x01", KEY.as_bytes()].concat();
    let (ok, full, fast) = (vec![0], vec![1, 4], vec![1, 3]);
    let refused =
        b"\xff\x15\x04#28000Access denied for user 'me'@'h' (using password: YES)".to_vec();
    let mysql = greeting("9.7.4", "caching_sha2_password");
    let mariadb = greeting("5.5.5-10.11.19-MariaDB-log", "mysql_native_password");
    let seeds = [
        vec![mysql.clone(), fast, ok.clone()],
        vec![mysql.clone(), full.clone(), key.clone(), ok.clone()],
        vec![mysql.clone(), switch("sha256_password"), key, ok.clone()],
        vec![mysql.clone(), switch("mysql_clear_password"), ok.clone()],
        vec![mysql.clone(), switch("caching_sha2_password"), full, ok.clone()],
        vec![mariadb.clone(), switch("mysql_native_password"), ok.clone()],
        vec![mariadb.clone(), ed25519, ok.clone()],
        vec![mariadb, ok],
        vec![mysql, refused.clone()],
        vec![refused],
    ];
    Target { checks: checks(&[session, refusal]), seeds: seeds.map(|all| joined(&all)).to_vec() }
}

const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDXQzC+Yp9n3eJ0gWyLhZ0y8kZl
ONdlYyFcUb4m8vDyr5MWS8GSmzSfOGHZLw6FVGCtOTXyGn8j0kVzTAyYwMAyGDfB
ty8vRFyGN5bYyrZt5cpVsYzMZpBbnBWnsnV1aHkqYzTzoFgV8u3GdTDq0qFIB6wW
ZXk3bKpPVLpdyzA9xwIDAQAB
-----END PUBLIC KEY-----
";

/// Packets as one input: each behind its length.
fn joined(packets: &[Vec<u8>]) -> Vec<u8> {
    let with_len = |packet: &Vec<u8>| {
        let len = u16::try_from(packet.len()).unwrap();
        [&len.to_le_bytes()[..], packet].concat()
    };
    packets.iter().flat_map(with_len).collect()
}

fn packets(input: &[u8]) -> Vec<&[u8]> {
    let (mut packets, mut rest) = (Vec::new(), input);
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let (packet, after) = tail.split_at(tail.len().min(u16::from_le_bytes(*len).into()));
        packets.push(packet);
        rest = after;
    }
    packets
}

fn is_clear(answer: &[u8]) -> bool {
    answer.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes())
}

/// Whatever a server says: the password leaves in clear inside TLS alone, the login ends, and SQL
/// connections are greeted with a packet that can be read.
fn session(input: &[u8]) {
    let packets = packets(input);
    for query in ["", "?get-server-public-key=true"] {
        let url = format!("mysql://me:{PASSWORD}@h/{query}");
        let options = ConnectOptions::parse(&url, Path::new("/")).unwrap();
        for is_encrypted in [false, true] {
            let done = match login(&options, is_encrypted, packets.iter().copied()) {
                Ok(done) => done,
                Err(error) => {
                    // The server's own words are shown, whatever it says.
                    assert!(is_clear(input) || !error.message_with_causes().contains(PASSWORD));
                    continue;
                }
            };
            assert!(done.answers.len() <= 11);
            assert!(is_encrypted || !done.answers.iter().any(|answer| is_clear(answer)));
            let (head, door) = done.door.split_at(4);
            assert_eq!(
                usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16,
                door.len()
            );
            let ok = [&[0][..]];
            let again = login(&options, true, [door].into_iter().chain(ok)).unwrap();
            assert_eq!((again.flavor, again.version), (done.flavor, done.version));
        }
    }
}

/// An ERR packet is an error with a code, whatever is in it.
fn refusal(packet: &[u8]) {
    for doing in ["logging in", "reading the binary log"] {
        let error = server_error(packet, doing);
        assert!(error.code().0.starts_with("RT26") && !error.message_with_causes().is_empty());
    }
}
