//! The codes RT230x of transactions that are set aside, in whatever source.

use rowtide_sdk::Code;

/// Transactions that are set aside take more disk than they may.
pub const SPOOL_LIMIT: Code = Code("RT2300");
/// The folder for transactions that are set aside cannot be used.
pub const SPOOL_UNUSABLE: Code = Code("RT2302");
/// The disk for transactions that are set aside is full.
pub const SPOOL_DISK_FULL: Code = Code("RT2303");
/// A file of a transaction that is set aside cannot be written or read.
pub const SPOOL_IO: Code = Code("RT2304");
/// Another process uses the folder for transactions that are set aside.
pub const SPOOL_BUSY: Code = Code("RT2305");
