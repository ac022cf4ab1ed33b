//! The codes RT22xx (position, slot, publication and stream) and RT23xx (streamed transactions,
//! messages and what is beside the stream). Those of transactions that are set aside are
//! [`rowtide_spool::codes`].

use rowtide_sdk::Code;

/// A saved position cannot be read.
pub(crate) const POSITION_UNREADABLE: Code = Code("RT2201");
/// The saved position belongs to another cluster, timeline or database.
pub(crate) const FOREIGN_HISTORY: Code = Code("RT2202");
/// The slot was advanced past the saved position: changes are lost.
pub(crate) const SLOT_AHEAD: Code = Code("RT2203");
/// There is a saved position and its slot does not exist.
pub(crate) const SLOT_GONE: Code = Code("RT2204");
/// The slot is of another plugin, database or kind.
pub(crate) const SLOT_UNSUITABLE: Code = Code("RT2205");
/// A slot cannot be created while transactions stay open.
pub(crate) const SLOT_BLOCKED: Code = Code("RT2206");
/// The slot existed without a saved position.
pub(crate) const SLOT_WITHOUT_POSITION: Code = Code("RT2207");
/// The publication lacks tables, rows or columns.
pub(crate) const PUBLICATION_INCOMPLETE: Code = Code("RT2208");
/// A table has no usable replica identity and is not published.
pub(crate) const NO_IDENTITY: Code = Code("RT2209");
/// A change is larger than `max_event`.
pub(crate) const EVENT_TOO_LARGE: Code = Code("RT2210");
/// The log holds something that is not understood.
pub(crate) const NOT_UNDERSTOOD: Code = Code("RT2211");
/// The server fell silent.
pub(crate) const SILENCE: Code = Code("RT2212");
/// The server ended the stream.
pub(crate) const STREAM_ENDED: Code = Code("RT2213");
/// The server's version is too old.
pub(crate) const VERSION: Code = Code("RT2214");
/// No table matches the selection.
pub(crate) const NO_TABLES: Code = Code("RT2215");
/// The host closed the channel without a shutdown.
pub(crate) const HOST_GONE: Code = Code("RT2216");
/// A server setting deserves attention.
pub(crate) const SERVER_SETTING: Code = Code("RT2217");
/// The publication's key or identity does not fit the configured key.
pub(crate) const KEY_NOT_LOGGED: Code = Code("RT2218");
/// The server shuts down and waits for this connection.
pub(crate) const SERVER_STOPPING: Code = Code("RT2219");
/// The source's thread could not be started, or ended without a result.
pub(crate) const THREAD: Code = Code("RT2220");
/// `origin: none` is asked of a server that does not know it.
pub(crate) const ORIGIN_UNKNOWN: Code = Code("RT2320");
/// A wanted message is larger than `max_event`.
pub(crate) const MESSAGE_TOO_LARGE: Code = Code("RT2321");
/// A note on a transaction is not what its prefix says.
pub(crate) const NOTE_UNUSABLE: Code = Code("RT2322");
/// The role may not read a table whose values are to be read back.
pub(crate) const MAY_NOT_READ: Code = Code("RT2323");
/// A value came in binary of which no text can be made.
pub(crate) const NOT_IN_BINARY: Code = Code("RT2222");
/// The publication leaves out operations.
pub(crate) const OPERATIONS_MISSING: Code = Code("RT2221");
/// The role may not write heartbeats.
pub(crate) const NO_HEARTBEAT: Code = Code("RT2340");
/// The server will soon throw away log that the slot needs.
pub(crate) const LOG_RUNS_OUT: Code = Code("RT2341");
/// The server keeps more log for the slot than it would by itself.
pub(crate) const LOG_EXTENDED: Code = Code("RT2342");
/// The server went on on another timeline while it was read.
pub(crate) const TIMELINE_FOLLOWED: Code = Code("RT2344");
/// Messages of applications cannot be told apart in streamed transactions.
pub(crate) const STREAMED_MESSAGES: Code = Code("RT2306");
/// The server cannot decode a transaction before its end.
pub(crate) const NOT_STREAMED: Code = Code("RT2307");
