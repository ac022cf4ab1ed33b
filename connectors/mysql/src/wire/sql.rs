//! Ordinary SQL by mysql_async over a login of our own.
//!
//! mysql_async takes no stream that is connected already, and its own login differs from ours: it cannot
//! verify an authority without the host's name, knows no TLS "where the server has it", and asks any
//! server for its public key. So it is given a door in this process: it connects to a unix socket, is
//! greeted there as the server greeted us, and from then on speaks with the server itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use mysql_async::{Conn, OptsBuilder};
use mysql_common::constants::CapabilityFlags;
use rowtide_sdk::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connection::BinlogConnection;
use super::greeting::{Flavor, Greeting, Handshake};
use super::session::wanted_capabilities;
use super::transport::within;
use crate::config::ConnectOptions;
use crate::error::{from_sql, lost, protocol};

const DOING: &str = "opening an SQL connection";

/// What passes the door at once.
const PIECE: usize = 64 * 1024;
/// How long the server may take to end a connection that is closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Opens an SQL connection to the first place that takes it, with the settings that decide how values
/// look: times in UTC, and no SQL mode. Neither statements in one text nor files of this machine can be
/// asked for.
///
/// # Errors
/// RT26xx, classified as for [`BinlogConnection::connect`].
pub async fn sql_conn(options: &ConnectOptions) -> Result<SqlConn> {
    let connection = BinlogConnection::connect(options).await?;
    within(options, Box::pin(hand_over(connection))).await
}

/// A connection for SQL.
#[derive(Debug)]
pub struct SqlConn {
    conn: Conn,
    /// What passes between it and the server.
    passing: JoinHandle<()>,
}

impl Deref for SqlConn {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for SqlConn {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl SqlConn {
    /// Tells the server that the connection ends, which counts it as aborted otherwise.
    pub async fn close(self) {
        let Self { conn, passing } = self;
        if let Err(error) = conn.disconnect().await {
            tracing::debug!(%error, "an SQL connection ended before it was closed");
        }
        // What was said last passes before the door is shut.
        if timeout(GOODBYE, passing).await.is_err() {
            tracing::debug!("the server does not end an SQL connection");
        }
    }
}

async fn hand_over(connection: BinlogConnection) -> Result<SqlConn> {
    let BinlogConnection { session, greeting, handshake } = connection;
    if !session.input.is_empty() {
        return Err(protocol("the server sent something that it was not asked for"));
    }
    let (listener, path) = door().map_err(|error| lost(DOING, error))?;
    let options = OptsBuilder::default()
        .user(Some("rowtide"))
        .socket(Some(path))
        .prefer_socket(false)
        .max_allowed_packet(Some(1024 * 1024 * 1024))
        .wait_timeout(Some(28_800))
        .init(vec![settings(&greeting)]);
    let mut server = session.transport;
    let passing = async move {
        let mut near = enter(listener, &handshake).await?;
        // Whichever end closes closes the other.
        Ok::<_, Error>(tokio::spawn(async move {
            let passed = copy_bidirectional_with_sizes(&mut near, &mut server, PIECE, PIECE).await;
            if let Err(error) = passed {
                tracing::debug!(%error, "an SQL connection broke");
            }
        }))
    };
    let connecting = async { Conn::new(options).await.map_err(|error| from_sql(error, DOING)) };
    let (conn, passing) = tokio::try_join!(connecting, passing)?;
    Ok(SqlConn { conn, passing })
}

/// What an SQL session sets. The timeouts are for the application's sessions.
fn settings(greeting: &Greeting) -> String {
    let limit = match greeting.flavor {
        Flavor::MySql => "max_execution_time=0",
        Flavor::MariaDb => "max_statement_time=0",
    };
    format!("SET SESSION time_zone='+00:00', sql_mode='', net_write_timeout=3600, {limit}")
}

/// A socket that only this process can pass. Its name is random, and who comes in is looked at: so it does
/// not matter who learns of it.
fn door() -> io::Result<(UnixListener, String)> {
    let random = RandomState::new().build_hasher().finish();
    let name = format!("rowtide-sql-{}-{random:016x}", std::process::id());
    // On Linux a name that is no file: there may be no folder to write to.
    let path = match cfg!(target_os = "linux") {
        true => format!("\0{name}"),
        false => std::env::temp_dir().join(name).to_string_lossy().into_owned(),
    };
    Ok((UnixListener::bind(&path)?, path))
}

/// Lets in who is of this process, and greets it as the server did.
async fn enter(listener: UnixListener, handshake: &Handshake) -> Result<UnixStream> {
    let own = i32::try_from(std::process::id()).ok();
    let entering = async {
        let mut near = loop {
            let (near, _) = listener.accept().await?;
            if near.peer_cred()?.pid() == own {
                break near;
            }
        };
        if let Some(path) = listener.local_addr()?.as_pathname() {
            std::fs::remove_file(path)?;
        }
        near.write_all(&greeting(handshake)).await?;
        let length = near.read_u32_le().await? & 0x00ff_ffff;
        let mut response = Vec::new();
        (&mut near).take(length.into()).read_to_end(&mut response).await?;
        const OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
        near.write_all(OK).await?;
        Ok(near)
    };
    entering.await.map_err(|error: io::Error| lost(DOING, error))
}

/// A greeting ("Protocol::HandshakeV10") that offers what was agreed on with the server, and asks for no
/// password.
pub(super) fn greeting(handshake: &Handshake) -> Vec<u8> {
    let only_ours = CapabilityFlags::CLIENT_CONNECT_ATTRS
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA;
    let offered = CapabilityFlags::from_bits_truncate(handshake.capabilities);
    // MariaDB leaves this one out where it has more to offer, and that is not agreed on.
    let always = CapabilityFlags::CLIENT_LONG_PASSWORD;
    let agreed = ((wanted_capabilities() & offered) | always).difference(only_ours);
    let [a, b, c, d] = agreed.bits().to_le_bytes();
    let mut packet = vec![10];
    packet.extend(handshake.version.as_bytes());
    packet.push(0);
    packet.extend(handshake.connection_id.to_le_bytes());
    packet.extend(b"........\0");
    // Capabilities around utf8mb4 and autocommit.
    packet.extend([a, b, 45, 2, 0, c, d, 21]);
    packet.extend([0; 10]);
    packet.extend(b"............\0mysql_native_password\0");
    // What of a version of the login's length is no UTF-8 may have become three times as long.
    let [low, middle, high, ..] = packet.len().to_le_bytes();
    [&[low, middle, high, 0], packet.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_greets_as_the_server_did_without_files_and_tls() {
        let server = Handshake {
            version: "5.5.5-10.11.19-MariaDB".to_owned(),
            connection_id: 7,
            capabilities: u32::MAX,
            nonce: vec![1; 20],
            plugin: "client_ed25519".to_owned(),
        };
        let sent = greeting(&server);
        let read = Handshake::parse(&sent[4..]).unwrap();
        assert_eq!((read.version, read.connection_id), (server.version, 7));
        assert_eq!(read.plugin, "mysql_native_password");
        let offered = CapabilityFlags::from_bits_truncate(read.capabilities);
        for never in [
            CapabilityFlags::CLIENT_LOCAL_FILES,
            CapabilityFlags::CLIENT_MULTI_STATEMENTS,
            CapabilityFlags::CLIENT_SSL,
            CapabilityFlags::CLIENT_DEPRECATE_EOF,
        ] {
            assert!(!offered.contains(never));
        }
    }
}
