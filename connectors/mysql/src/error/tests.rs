//! What the table says of errors as the servers send them.

use super::*;

fn verdict(number: u16, message: &str) -> (&'static str, Class) {
    let verdict = table::classify(number, message);
    (verdict.code.0, verdict.class)
}

#[test]
fn one_number_for_many_things_is_told_apart_by_its_text() {
    let table = [
        ("Could not find first log file name in binary log index file", "RT2619"),
        (
            "Cannot replicate because the source purged required binary logs. Replicate the missing \
             transactions from elsewhere, or provision a new replica from backup.",
            "RT2619",
        ),
        (
            "Could not find GTID state requested by slave in any binlog files. Probably the slave \
             state is too old and required binlog files have been purged.",
            "RT2619",
        ),
        (
            "A replica with the same server_uuid/server_id as this replica has connected to the \
             source; the first event '' at 4, the last event read from './binlog.000002' at 126.",
            "RT2620",
        ),
        ("Client requested source to start replication from position > file size", "RT2621"),
        ("Client requested master to start replication from impossible position", "RT2621"),
        ("bogus data in log event; the first event 'binlog.000002' at 5", "RT2621"),
        ("Replica has more GTIDs than the source has, using the source's SERVER_UUID.", "RT2622"),
        (
            "The replication sender thread cannot start in AUTO_POSITION mode: this server has \
             GTID_MODE = OFF instead of ON.",
            "RT2623",
        ),
        (
            "Cannot replicate GTID-transaction when @@GLOBAL.GTID_MODE = OFF, at file \
             ./binlog.000003, position 197.",
            "RT2623",
        ),
        ("Binary log is not open", "RT2618"),
        ("log event entry exceeded max_allowed_packet; Increase max_allowed_packet", "RT2624"),
        ("binlog truncated in the middle of event; consider out of disk space", "RT2625"),
        ("something of a later version", "RT2649"),
    ];
    for (message, code) in table {
        assert_eq!(verdict(1236, message), (code, Class::Fatal), "{message}");
    }
}

#[test]
fn numbers_have_their_class() {
    for (number, code, class) in [
        (1045, "RT2604", Class::Fatal),
        (1040, "RT2611", Class::Transient),
        (1053, "RT2612", Class::Transient),
        (1317, "RT2614", Class::Transient),
        (1227, "RT2616", Class::Fatal),
        (4052, "RT2620", Class::Fatal),
        (9999, "RT2649", Class::Fatal),
    ] {
        assert_eq!(verdict(number, ""), (code, class), "{number}");
    }
}

#[test]
fn an_err_packet_may_lack_its_sqlstate() {
    let late = ServerError::parse(b"\xff\x15\x04#28000Access denied");
    assert_eq!((late.number, late.sqlstate.as_str()), (1045, "28000"));
    assert_eq!(late.message, "Access denied");
    let early = ServerError::parse(b"\xff\x10\x04Too many connections");
    assert_eq!((early.number, early.message.as_str()), (1040, "Too many connections"));
    let error = early.into_error("logging in");
    assert_eq!(error.message(), "logging in: Too many connections [error 1040]");
    assert_eq!(ServerError::parse(b"\xff").number, 0);
}
