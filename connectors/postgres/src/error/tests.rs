//! The table, line by line, with what real servers send.

use rowtide_sdk::Class::{self, Fatal, Transient};
use rowtide_sdk::Code;

use super::{ServerError, codes};
use crate::stream::codes::NOT_STREAMED;

fn refused(sqlstate: &str, routine: &str, message: &str, detail: &str) -> rowtide_sdk::Error {
    ServerError {
        severity: "ERROR".to_owned(),
        sqlstate: sqlstate.to_owned(),
        message: message.to_owned(),
        detail: detail.to_owned(),
        context: String::new(),
        routine: routine.to_owned(),
    }
    .into_error("starting replication")
}

/// SQLSTATE, routine, message, detail; then what it means.
type Line = (&'static str, &'static str, &'static str, &'static str, Class, Code);

const REFUSALS: &[Line] = &[
    (
        "28P01",
        "auth_failed",
        "password authentication failed for user \"x\"",
        "",
        Fatal,
        codes::LOGIN,
    ),
    (
        "28000",
        "ClientAuthentication",
        "no pg_hba.conf entry for host \"::1\"",
        "",
        Fatal,
        codes::HBA,
    ),
    ("28000", "InitializeSessionUserId", "role \"x\" does not exist", "", Fatal, codes::LOGIN),
    ("3D000", "InitPostgres", "database \"x\" does not exist", "", Fatal, codes::DATABASE),
    ("08P01", "", "unsupported startup parameter: replication", "", Fatal, codes::POOLER),
    ("08P01", "", "invalid message", "", Fatal, codes::PROTOCOL),
    ("08006", "", "connection failure", "", Transient, codes::CONNECTION_LOST),
    (
        "53300",
        "InitProcess",
        "sorry, too many clients already",
        "",
        Transient,
        codes::TOO_MANY_CONNECTIONS,
    ),
    ("53300", "InitWalSenderSlot", "x", "", Transient, codes::TOO_MANY_CONNECTIONS),
    (
        "53400",
        "ReplicationSlotCreate",
        "all replication slots are in use",
        "",
        Fatal,
        codes::NO_FREE_SLOT,
    ),
    (
        "53100",
        "",
        "could not extend file: No space left on device",
        "",
        Transient,
        codes::UNAVAILABLE,
    ),
    (
        "57P01",
        "ProcessInterrupts",
        "terminating connection due to administrator command",
        "",
        Transient,
        codes::UNAVAILABLE,
    ),
    (
        "57P03",
        "ProcessStartupPacket",
        "the database system is starting up",
        "",
        Transient,
        codes::NO_CONNECTIONS,
    ),
    ("57P04", "", "database dropped", "", Fatal, codes::DATABASE),
    (
        "42501",
        "InitPostgres",
        "must be superuser or replication role to start walsender",
        "",
        Fatal,
        codes::REPLICATION_ROLE,
    ),
    ("42501", "CheckSlotPermissions", "übersetzt", "", Fatal, codes::REPLICATION_ROLE),
    ("42501", "aclcheck_error", "permission denied for table orders", "", Fatal, codes::PERMISSION),
    (
        "55006",
        "ReplicationSlotAcquire",
        "replication slot \"s\" is active for PID 4711",
        "",
        Transient,
        codes::SLOT_IN_USE,
    ),
    (
        "55000",
        "CheckLogicalDecodingRequirements",
        "logical decoding requires wal_level >= logical",
        "",
        Fatal,
        codes::WAL_LEVEL,
    ),
    (
        "55000",
        "CreateDecodingContext",
        "cannot read from logical replication slot \"s\"",
        "This slot has been invalidated because it exceeded the maximum reserved size.",
        Fatal,
        codes::SLOT_INVALIDATED,
    ),
    (
        "55000",
        "ReplicationSlotAcquire",
        "can no longer access replication slot \"s\"",
        "This replication slot has been invalidated due to \"wal_removed\".",
        Fatal,
        codes::SLOT_INVALIDATED,
    ),
    (
        "55000",
        "CreateDecodingContext",
        "replication slot \"s\" was not created in this database",
        "",
        Fatal,
        codes::REFUSED,
    ),
    (
        "58P01",
        "",
        "requested WAL segment 00 has already been removed",
        "",
        Fatal,
        codes::SLOT_INVALIDATED,
    ),
    (
        "42704",
        "ReplicationSlotAcquire",
        "replication slot \"s\" does not exist",
        "",
        Fatal,
        codes::SLOT_MISSING,
    ),
    (
        "42704",
        "get_publication_oid",
        "publication \"p\" does not exist",
        "",
        Fatal,
        codes::PUBLICATION_MISSING,
    ),
    (
        "25006",
        "",
        "cannot execute CREATE PUBLICATION in a read-only transaction",
        "",
        Fatal,
        codes::READ_ONLY,
    ),
    (
        "22P05",
        "",
        "character with byte sequence 0x81 has no equivalent",
        "",
        Fatal,
        codes::NOT_CONVERTIBLE,
    ),
    (
        "XX000",
        "",
        "invalid memory alloc request size 1080000003",
        "",
        Fatal,
        codes::TOO_LARGE_FOR_SERVER,
    ),
    (
        "XX000",
        "relation_open",
        "could not open relation with OID 18717",
        "",
        Transient,
        codes::UNAVAILABLE,
    ),
    (
        "XX000",
        "ReorderBufferProcessTXN",
        "could not map filenode \"base/1/2\" to relation OID",
        "",
        Transient,
        NOT_STREAMED,
    ),
    (
        "XX000",
        "ReorderBufferProcessTXN",
        "could not map filenumber \"base/1/2\" to relation OID",
        "",
        Transient,
        NOT_STREAMED,
    ),
    ("XX000", "", "cache lookup failed for relation 18717", "", Transient, codes::UNAVAILABLE),
    ("XX000", "", "unexpected", "", Fatal, codes::REFUSED),
    (
        "55000",
        "LoadPublications",
        "skipped loading publication \"shop\"",
        "",
        Fatal,
        codes::PUBLICATION_MISSING,
    ),
    (
        "40001",
        "",
        "canceling statement due to conflict with recovery",
        "",
        Transient,
        codes::UNAVAILABLE,
    ),
    ("42601", "", "syntax error", "", Fatal, codes::REFUSED),
];

#[test]
fn every_refusal_has_its_class_and_code() {
    for (sqlstate, routine, message, detail, class, code) in REFUSALS {
        let error = refused(sqlstate, routine, message, detail);
        assert_eq!((error.class(), error.code()), (*class, *code), "{sqlstate} {message}");
    }
}

#[test]
fn a_value_quoted_by_the_server_is_never_shown() {
    let error = refused("22P02", "int4in", "invalid input syntax: \"secret\"", "secret");
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = refused("23505", "", "duplicate key", "Key (email)=(secret) already exists.");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn the_fields_of_an_error_response_are_read() {
    let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0Rauth_failed\0\0";
    let error = ServerError::parse(body);
    assert_eq!(error.sqlstate, "28P01");
    assert_eq!(error.routine, "auth_failed");
    assert_eq!(
        error.into_error("connecting").to_string(),
        "RT2104: connecting: password authentication failed [SQLSTATE 28P01] (check the user in \
         `url` and `password`)"
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(body: Vec<u8>) {
        let _error = ServerError::parse(&body).into_error("x");
    }
}
