//! The table of the server's error numbers: those of `messages_to_clients.txt` of MySQL and
//! `errmsg-utf8.txt` of MariaDB. Up to 1879 both have the same; above that a number of the one is not
//! used by the other, as far as it is named here.

use rowtide_sdk::{Class, Code};

use super::{Verdict, codes};

const fn transient(code: Code, remedy: &'static str) -> Verdict {
    Verdict { class: Class::Transient, code, remedy }
}

const fn fatal(code: Code, remedy: &'static str) -> Verdict {
    Verdict { class: Class::Fatal, code, remedy }
}

/// One line of the table: the first that fits decides.
struct Rule {
    numbers: &'static [u16],
    /// Words of the text, any of which is enough; none at all fits always.
    words: &'static [&'static str],
    verdict: Verdict,
}

const fn by_number(numbers: &'static [u16], verdict: Verdict) -> Rule {
    Rule { numbers, words: &[], verdict }
}

/// What the binlog's sender says: ER_SOURCE_FATAL_ERROR_READING_BINLOG for nearly everything, and
/// MariaDB's numbers for starts from a GTID (ER_GTID_POSITION_NOT_FOUND_IN_BINLOG
/// and …_BINLOG2).
const fn by_words(words: &'static [&'static str], verdict: Verdict) -> Rule {
    Rule { numbers: &[1236, 1945, 1955], words, verdict }
}

const LOGIN: Verdict = fatal(
    codes::LOGIN,
    "check the user in `url` and `password`, and the host of the account ('user'@'host'); an account \
     that requires TLS or a certificate refuses in the same words: check ssl-mode, ssl-cert and ssl-key",
);
const AUTHENTICATION: Verdict = fatal(
    codes::AUTHENTICATION,
    "give the user an authentication that this server has: caching_sha2_password on MySQL, ed25519 or \
     mysql_native_password on MariaDB",
);
const PERMISSION: Verdict = fatal(codes::PERMISSION, "grant it to the user in `url`");
const REPLICATION_RIGHT: Verdict = fatal(
    codes::REPLICATION_RIGHT,
    "as an administrator: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user in `url`; \
     MariaDB calls the second one BINLOG MONITOR",
);
const BINLOG_OFF: Verdict =
    fatal(codes::BINLOG_OFF, "start the server with log_bin and binlog_format=ROW");
const PURGED: Verdict = fatal(
    codes::BINLOG_PURGED,
    "what was still needed is gone: after a RESET start the connector again, which tells (RT2702, RT2703); where it \
     expired or was purged and another server of the replication still has it, point `url` there; else bring the \
     target in step with the tables and go on from the log's end (`rowtide position adopt --connector NAME`), \
     knowing that changes in between are lost; raise binlog_expire_logs_seconds, or on Amazon RDS `binlog \
     retention hours`, so that it does not happen again",
);
const TAKEN: Verdict = fatal(
    codes::SERVER_ID_TAKEN,
    "every reader of a server's log needs a server id of its own (the message \"streaming\" has this one's): give \
     this one another with `server_id`, or stop the other reader",
);
const POSITION: Verdict = fatal(
    codes::POSITION,
    "the position is of another server, or the server's log was begun anew: start the connector again, which tells \
     (RT2702, RT2703); where it does not, bring the target in step with the tables and go on from the log's end \
     (`rowtide position adopt --connector NAME`)",
);
const DIVERGED: Verdict = fatal(
    codes::DIVERGED,
    "the url leads to another server than before, to one that lost its last transactions, or the position names a \
     GTID that the log never had (`rowtide position set --connector NAME --at PLACE` takes those that it has): \
     check it, and go on from its log's end where that is meant (`rowtide position adopt --connector NAME`)",
);
const UNREADABLE: Verdict = fatal(
    codes::BINLOG_UNREADABLE,
    "start the connector again, which tells whether the log was begun anew meanwhile (RT2702, RT2703); else look \
     into the server's own log: its disk may be full or broken",
);
const TOO_MANY: Verdict = transient(
    codes::TOO_MANY_CONNECTIONS,
    "raise max_connections, or what the account may have, if this does not pass by itself",
);
const UNAVAILABLE: Verdict = transient(codes::UNAVAILABLE, "");
const REFUSED: Verdict = fatal(
    codes::REFUSED,
    "look the number up in the server's manual; what was not delivered stays in the server's log",
);
const LOST: Verdict = transient(codes::CONNECTION_LOST, "");
const KILLED: Verdict = transient(codes::KILLED, "");

/// The table. Order matters where numbers occur twice.
const RULES: &[Rule] = &[
    // The login.
    by_number(&[1045, 1698], LOGIN),
    by_number(
        &[3118, 3955, 4151],
        fatal(codes::LOGIN, "as an administrator: ALTER USER … ACCOUNT UNLOCK"),
    ),
    by_number(
        &[1862, 1820],
        fatal(codes::PASSWORD_EXPIRED, "ALTER USER … IDENTIFIED BY …, then set `password`"),
    ),
    by_number(
        &[1130],
        fatal(codes::HOST, "create the account for this host: CREATE USER 'user'@'host' …"),
    ),
    by_number(
        &[1129],
        fatal(codes::HOST, "as an administrator: TRUNCATE TABLE performance_schema.host_cache"),
    ),
    by_number(&[1251, 1275, 1524], AUTHENTICATION),
    // MariaDB has no number for it, and says it in the words of a wrong password.
    by_number(
        &[3159],
        fatal(codes::TLS_DEMANDED, "set ssl-mode=REQUIRED, or VERIFY_IDENTITY, in `url`"),
    ),
    by_number(&[1049], fatal(codes::DATABASE, "check the database's name in `url`")),
    by_number(&[1040, 1203, 1226], TOO_MANY),
    // What passes.
    by_number(&[1037, 1038, 1041, 1042, 1053, 1077, 1079, 1135, 3032, 3168], UNAVAILABLE),
    by_number(&[1205, 1213, 1969, 3024], UNAVAILABLE),
    by_number(&[1080, 1152, 1158, 1159, 1160, 1161, 1184, 4031], LOST),
    by_number(&[1317, 1927, 3169], KILLED),
    // Rights. A global right that is lacking is one of replication: nothing else global is asked for.
    by_number(&[1227], REPLICATION_RIGHT),
    by_number(&[1044, 1142, 1143, 1370], PERMISSION),
    // The log.
    by_number(&[1381], BINLOG_OFF),
    by_number(&[1373, 1789, 3546], PURGED),
    // MariaDB's ER_SLAVE_SAME_ID.
    by_number(&[4052], TAKEN),
    by_words(&["same server_uuid/server_id"], TAKEN),
    by_words(
        &[
            "Could not find first log file name",
            "could not find next log",
            "purged required",
            "Could not find GTID state",
            "Could not open log file",
        ],
        PURGED,
    ),
    by_words(
        &[
            "is missing the GTID",
            "more GTIDs than",
            "requested to start from GTID",
            "slave has diverged",
            "probably diverged",
        ],
        DIVERGED,
    ),
    by_words(
        &["anonymous transaction"],
        fatal(
            codes::GTID_MODE,
            "gtid_mode was off for a while: the server sends what it logged then only where gtid_mode is not \
             ON. SET GLOBAL gtid_mode = ON_PERMISSIVE until the connector is past it, or bring the target in \
             step with the tables and set a position behind it with `rowtide position set --connector NAME \
             --at PLACE`",
        ),
    ),
    by_words(
        &["GTID-transaction when @@GLOBAL.GTID_MODE = OFF"],
        fatal(
            codes::GTID_MODE,
            "gtid_mode was on for a while: the server sends what it logged then only where gtid_mode is not \
             OFF. SET GLOBAL gtid_mode = OFF_PERMISSIVE until the connector is past it",
        ),
    ),
    by_words(
        &["AUTO_POSITION mode"],
        fatal(
            codes::GTID_MODE,
            "a start by GTIDs, or behind 4 GiB of a file, needs gtid_mode=ON at the server: set it, or set a \
             position by file and offset with `rowtide position set --connector NAME --at PLACE`",
        ),
    ),
    by_words(&["Binary log is not open", "server_id is 0", "server id was not set"], BINLOG_OFF),
    by_words(
        &["exceeded max_allowed_packet"],
        fatal(
            codes::EVENT_TOO_LARGE,
            "start over behind the transaction that holds it, knowing that its changes are lost: the \
             server has no larger limit than 1 GiB for it; where the log was begun anew or the position is wrong \
             the text is the same: go on from the log's end then (`rowtide position adopt --connector NAME`), \
             with the target brought in step with the tables",
        ),
    ),
    by_words(
        &["impossible position", "to start replication from position", "bogus data"],
        POSITION,
    ),
    by_words(&["emory", "my_malloc"], UNAVAILABLE),
    by_words(
        &["truncated in the middle", "I/O error", "crc check", "index file", "log event"],
        UNREADABLE,
    ),
    by_number(&[1945, 1955], DIVERGED),
    // No server of theirs answers so.
    by_number(
        &[1043, 1047],
        fatal(
            codes::PROXY,
            "reading the log needs the server itself: put its own host and port into `url`, not a \
             proxy's",
        ),
    ),
];

/// What a number and its text mean.
pub(super) fn classify(number: u16, message: &str) -> Verdict {
    let fits = |rule: &&Rule| {
        rule.numbers.contains(&number)
            && (rule.words.is_empty() || rule.words.iter().any(|words| message.contains(words)))
    };
    RULES.iter().find(fits).map_or(REFUSED, |rule| rule.verdict)
}
