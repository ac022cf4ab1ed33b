//! Asking for the log ("Replication Protocol"): what a replica sets in its session, COM_REGISTER_SLAVE,
//! and the three ways to say from where.

use std::fmt::Write as _;
use std::time::Duration;

use mysql_common::packets::{BinlogDumpFlags, ComBinlogDump, ComRegisterSlave};
use mysql_common::proto::MySerialize;
use rowtide_sdk::{Error, Origin, Result};

use super::connection::BinlogConnection;
use super::greeting::Flavor;
use super::stream::{Limits, PacketStream};
use crate::error::codes;
use crate::gtid::mariadb::GtidPosition;
use crate::gtid::mysql::GtidSet;

/// Where the stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Behind these GTIDs: MySQL with `gtid_mode=ON`.
    Gtids(GtidSet),
    /// Behind these GTIDs: MariaDB.
    MariaDbGtids(GtidPosition),
    /// At a position in a file.
    File {
        /// The file's name; an empty one is the oldest file.
        name: String,
        /// The position, at an event's start; 4 is the file's first event.
        position: u64,
    },
}

/// A request for the log.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The id that this reader has among the server's replicas: no other may have it (M-19).
    pub server_id: u32,
    /// Where the stream begins.
    pub start: Start,
    /// How often the server says that it lives while there is nothing to send (M-20). Zero is never.
    pub heartbeat: Duration,
    /// How long the server waits for a reader that takes nothing (`net_write_timeout`), in whole
    /// seconds.
    pub write_timeout: Duration,
    /// Events above this are not held: see [`super::Packet::Oversized`].
    pub max_event: u64,
    /// Whether the stream ends where the log does.
    pub ends: bool,
}

impl Dump {
    /// With a heartbeat every ten seconds and an hour of patience.
    pub fn new(server_id: u32, start: Start) -> Self {
        Self {
            server_id,
            start,
            heartbeat: Duration::from_secs(10),
            write_timeout: Duration::from_secs(3600),
            max_event: 1024 * 1024 * 1024,
            ends: false,
        }
    }
}

/// The UUID that a reader has among MySQL's replicas: the same for the same server id, so that the server
/// takes two readers of one id for one, and ends the elder.
pub fn replica_uuid(server_id: u32) -> String {
    // "rowtide" and the id, in the free form of RFC 9562, version 8.
    format!("726f7774-6964-8500-8000-0000{server_id:08x}")
}

const DOING: &str = "starting to read the binary log";

/// Sets the session, registers, and asks for the log.
pub(super) async fn begin(mut connection: BinlogConnection, dump: &Dump) -> Result<PacketStream> {
    let flavor = connection.greeting.flavor;
    let request = request(flavor, dump)?;
    let session = &mut connection.session;
    session.acknowledged(&super::session::query(&settings(flavor, dump)), DOING).await?;
    let mut register = Vec::new();
    ComRegisterSlave::new(dump.server_id).serialize(&mut register);
    let registered = session.acknowledged(&register, DOING).await;
    registered.map_err(without_right)?;
    session.command(&request, DOING).await?;
    let limits = Limits { max_event: dump.max_event, ends: dump.ends };
    Ok(PacketStream::new(connection.session, limits))
}

/// Some servers refuse a user without the right in the words of a login.
fn without_right(error: Error) -> Error {
    if error.code() != codes::LOGIN {
        return error;
    }
    let message = error.message().to_owned();
    Error::fatal(Origin::Source, codes::REPLICATION_RIGHT, message).with_remedy(
        "as an administrator: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user in `url`",
    )
}

/// What a replica sets before it asks. Names old and new, where a server has both: each reads its own.
/// Checksums are always asked for: a server that was asked for none ends the stream once its log has
/// them. No name of semi-synchronous replication is among them: a commit would wait for us (M-27).
fn settings(flavor: Flavor, dump: &Dump) -> String {
    let heartbeat = dump.heartbeat.as_nanos();
    let uuid = replica_uuid(dump.server_id);
    let mut sql = format!(
        "SET SESSION net_write_timeout={}, @master_binlog_checksum='CRC32', \
         @master_heartbeat_period={heartbeat}, @slave_uuid='{uuid}'",
        dump.write_timeout.as_secs().clamp(1, 31_536_000),
    );
    // Writing to a String cannot fail.
    let _written = match (flavor, &dump.start) {
        (Flavor::MySql, _) => write!(
            sql,
            ", @source_binlog_checksum='CRC32', @source_heartbeat_period={heartbeat}, \
             @replica_uuid='{uuid}'"
        ),
        (Flavor::MariaDb, Start::MariaDbGtids(position)) => write!(
            sql,
            ", @mariadb_slave_capability=4, @slave_connect_state='{position}', \
             @slave_gtid_strict_mode=1, @slave_gtid_ignore_duplicates=0"
        ),
        (Flavor::MariaDb, _) => write!(sql, ", @mariadb_slave_capability=4"),
    };
    sql
}

/// COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID.
fn request(flavor: Flavor, dump: &Dump) -> Result<Vec<u8>> {
    let not_here = |what: &'static str| {
        Error::fatal(Origin::Config, codes::NOT_HERE, what)
            .with_remedy("the position belongs to a server of the other kind: check `url`")
    };
    match (&dump.start, flavor) {
        (Start::Gtids(set), Flavor::MySql) => Ok(by_gtid(dump, "", 4, Some(set))),
        (Start::Gtids(_), Flavor::MariaDb) => {
            Err(not_here("the position holds GTIDs of MySQL, and the server is MariaDB"))
        }
        (Start::MariaDbGtids(_), Flavor::MariaDb) => Ok(by_file(dump, flavor, "", 4)),
        (Start::MariaDbGtids(_), Flavor::MySql) => {
            Err(not_here("the position holds GTIDs of MariaDB, and the server is MySQL"))
        }
        (Start::File { name, position }, _) => match (u32::try_from(*position), flavor) {
            (Ok(position), _) => Ok(by_file(dump, flavor, name, position)),
            (Err(_), Flavor::MySql) => Ok(by_gtid(dump, name, *position, None)),
            (Err(_), Flavor::MariaDb) => {
                Err(not_here("the position is behind 4 GiB of a file, where MariaDB cannot start"))
            }
        },
    }
}

fn flags(dump: &Dump) -> BinlogDumpFlags {
    match dump.ends {
        true => BinlogDumpFlags::BINLOG_DUMP_NON_BLOCK,
        false => BinlogDumpFlags::empty(),
    }
}

/// MariaDB sends ANNOTATE_ROWS events only where they are asked for ("BINLOG_SEND_ANNOTATE_ROWS_EVENT").
/// MySQL gives the bit another name.
const SEND_ANNOTATIONS: BinlogDumpFlags = BinlogDumpFlags::BINLOG_THROUGH_POSITION;

/// "COM_BINLOG_DUMP": the position has 32 bits.
fn by_file(dump: &Dump, flavor: Flavor, name: &str, position: u32) -> Vec<u8> {
    let mut flags = flags(dump);
    if flavor == Flavor::MariaDb {
        flags |= SEND_ANNOTATIONS;
    }
    let mut request = Vec::new();
    ComBinlogDump::new(dump.server_id)
        .with_pos(position)
        .with_flags(flags)
        .with_filename(name.as_bytes())
        .serialize(&mut request);
    request
}

/// "COM_BINLOG_DUMP_GTID": behind a set, or at a position of 64 bits.
fn by_gtid(dump: &Dump, name: &str, position: u64, set: Option<&GtidSet>) -> Vec<u8> {
    const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
    let mut flags = flags(dump);
    if set.is_some() {
        flags |= BinlogDumpFlags::BINLOG_THROUGH_GTID;
    }
    let set = set.cloned().unwrap_or_default().to_bytes();
    // Neither is ever so long.
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let mut request = vec![COM_BINLOG_DUMP_GTID];
    request.extend(flags.bits().to_le_bytes());
    request.extend(dump.server_id.to_le_bytes());
    request.extend(length(name.len()));
    request.extend(name.as_bytes());
    request.extend(position.to_le_bytes());
    request.extend(length(set.len()));
    request.extend(set);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(position: u64) -> Start {
        Start::File { name: "b.1".to_owned(), position }
    }

    #[test]
    fn a_position_above_4_gib_goes_by_the_command_that_has_room_for_it() {
        let low = request(Flavor::MySql, &Dump::new(7, file(0xffff_ffff))).unwrap();
        assert_eq!(low, b"\x12\xff\xff\xff\xff\0\0\x07\0\0\0b.1");
        let high = request(Flavor::MySql, &Dump::new(7, file(1 << 32))).unwrap();
        let expected =
            b"\x1e\0\0\x07\0\0\0\x03\0\0\0b.1\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(high, expected);
        let error = request(Flavor::MariaDb, &Dump::new(7, file(1 << 32))).unwrap_err();
        assert_eq!(error.code(), codes::NOT_HERE);
    }

    #[test]
    fn gtids_of_the_other_server_are_refused() {
        let set: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap();
        let dump = Dump { ends: true, ..Dump::new(7, Start::Gtids(set)) };
        let sent = request(Flavor::MySql, &dump).unwrap();
        assert_eq!(sent[..3], [0x1e, 0x05, 0]);
        assert_eq!(request(Flavor::MariaDb, &dump).unwrap_err().code(), codes::NOT_HERE);
        let dump = Dump::new(7, Start::MariaDbGtids("0-1-2".parse().unwrap()));
        assert_eq!(request(Flavor::MySql, &dump).unwrap_err().code(), codes::NOT_HERE);
    }

    #[test]
    fn m27_no_session_is_one_of_semi_synchronous_replication() {
        for (flavor, start) in [
            (Flavor::MySql, file(4)),
            (Flavor::MariaDb, file(4)),
            (Flavor::MariaDb, Start::MariaDbGtids("0-1-2,1-1-3".parse().unwrap())),
        ] {
            let sql = settings(flavor, &Dump::new(7, start));
            assert!(!sql.contains("semi"), "{sql}");
            assert!(sql.contains("@master_heartbeat_period=10000000000"), "{sql}");
            assert_eq!(sql.contains("@slave_connect_state='0-1-2,1-1-3'"), sql.contains("strict"));
        }
    }
}
