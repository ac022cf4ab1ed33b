//! The codes RT27xx: position and stream; RT28xx: tables and values.

use rowtide_sdk::Code;

/// A saved position cannot be read.
pub(crate) const POSITION_UNREADABLE: Code = Code("RT2701");
/// The saved position belongs to another server or another log.
pub(crate) const FOREIGN_HISTORY: Code = Code("RT2702");
/// The server does not have what was handed over: it is behind, or went another way.
pub(crate) const SERVER_BEHIND: Code = Code("RT2703");
/// A transaction of which a part was handed over has no end in the log.
pub(crate) const TORN: Code = Code("RT2704");
/// The log holds something that is not understood.
pub(crate) const NOT_UNDERSTOOD: Code = Code("RT2705");
/// The log itself says that changes are missing from it.
pub(crate) const INCIDENT: Code = Code("RT2706");
/// Rows of a captured table were changed by a statement that is logged as text.
pub(crate) const STATEMENT: Code = Code("RT2707");
/// A change is larger than `max_event`.
pub(crate) const EVENT_TOO_LARGE: Code = Code("RT2708");
/// The server fell silent.
pub(crate) const SILENCE: Code = Code("RT2709");
/// The server ended the stream.
pub(crate) const STREAM_ENDED: Code = Code("RT2710");
/// The host closed the channel without a shutdown.
pub(crate) const HOST_GONE: Code = Code("RT2711");
/// The source's thread could not be started, or ended without a result.
pub(crate) const THREAD: Code = Code("RT2712");
/// An XA transaction ends whose changes were logged before the connector's first start.
pub(crate) const XA_UNKNOWN: Code = Code("RT2714");
/// A server setting keeps changes out of the log, or out of what can be read of it.
pub(crate) const SERVER_SETTING: Code = Code("RT2715");
/// The server's log that the position needs was thrown away.
pub(crate) const LOG_PURGED: Code = Code("RT2716");
/// A place given by hand is none in the server's log.
pub(crate) const NO_PLACE: Code = Code("RT2717");
/// The user lacks a right, or has more than is needed.
pub(crate) const RIGHT: Code = Code("RT2718");
/// No table matches the selection.
pub(crate) const NO_TABLES: Code = Code("RT2719");
/// A captured table has no primary key.
pub(crate) const NO_KEY: Code = Code("RT2720");
/// Foreign keys change rows below the log.
pub(crate) const CASCADE: Code = Code("RT2721");
/// The server will soon throw away log that the position needs.
pub(crate) const LOG_RUNS_OUT: Code = Code("RT2722");
/// Statements would show what settings hide.
pub(crate) const STATEMENTS_SHOW: Code = Code("RT2723");
/// A table is left out because of its name.
pub(crate) const LEFT_OUT: Code = Code("RT2724");
/// A table cannot be read from the log.
pub(crate) const TABLE_UNREADABLE: Code = Code("RT2801");
/// The log does not hold every column of a new row.
pub(crate) const ROW_INCOMPLETE: Code = Code("RT2802");
/// Rows came or went without events: partitions and tablespaces.
pub(crate) const ROWS_UNSEEN: Code = Code("RT2804");
/// A statement that changes tables is not understood.
pub(crate) const STATEMENT_UNCLEAR: Code = Code("RT2803");
/// A renamed column lost its settings; the host's own code for what it finds itself.
pub(crate) const SETTINGS_SHED: Code = Code("RT5015");
