//! What PostgreSQL's refusals and broken connections mean to the host: one table, by SQLSTATE.
//!
//! Texts of the server may be translated (`lc_messages`), so a rule looks at the SQLSTATE and at the
//! server's function that raised the error (never translated); English text only makes an answer
//! more precise. Errors of classes that quote values (22, 23) never show the server's text (A6).

use std::borrow::Cow;

use rowtide_sdk::{Class, Code, Error, Origin};
use tokio_postgres::error::DbError;

use crate::stream::codes::{NOT_IN_BINARY, NOT_STREAMED};

/// The codes of the PostgreSQL connector.
///
/// RT20xx settings, RT21xx connection and the server's refusals, RT22xx slot, publication, position
/// and stream, RT23xx tables and decoding.
pub(crate) mod codes {
    use rowtide_sdk::Code;

    /// The URL cannot be read or lacks a part.
    pub(crate) const URL: Code = Code("RT2001");
    /// A parameter of the URL is unknown or has no such value.
    pub(crate) const URL_PARAMETER: Code = Code("RT2002");
    /// The hosts and ports of the URL do not fit together.
    pub(crate) const SEVERAL_HOSTS: Code = Code("RT2003");
    /// A slot or publication name that PostgreSQL does not accept.
    pub(crate) const NAME: Code = Code("RT2004");
    /// A table pattern cannot be read.
    pub(crate) const TABLE_PATTERN: Code = Code("RT2005");
    /// A certificate or key file cannot be used.
    pub(crate) const TLS_FILE: Code = Code("RT2006");
    /// Another setting is out of its range or contradicts one beside it.
    pub(crate) const SETTING: Code = Code("RT2007");

    /// The server cannot be reached.
    pub(crate) const UNREACHABLE: Code = Code("RT2101");
    /// TLS is demanded and the server has none.
    pub(crate) const NO_TLS: Code = Code("RT2102");
    /// The TLS handshake failed: most often the server's certificate is not trusted.
    pub(crate) const TLS: Code = Code("RT2103");
    /// The server refused the login.
    pub(crate) const LOGIN: Code = Code("RT2104");
    /// No line of `pg_hba.conf` lets this connection in.
    pub(crate) const HBA: Code = Code("RT2105");
    /// The way of authentication cannot be used, or the server did not prove itself.
    pub(crate) const AUTHENTICATION: Code = Code("RT2106");
    /// A connection pooler stands before the server.
    pub(crate) const POOLER: Code = Code("RT2107");
    /// The database does not exist.
    pub(crate) const DATABASE: Code = Code("RT2108");
    /// The server has no connection free.
    pub(crate) const TOO_MANY_CONNECTIONS: Code = Code("RT2109");
    /// The server is starting, stopping or short of something.
    pub(crate) const UNAVAILABLE: Code = Code("RT2110");
    /// The server takes no connections now: it is starting or stopping.
    pub(crate) const NO_CONNECTIONS: Code = Code("RT2125");
    /// Another session holds a lock for longer than is waited.
    pub(crate) const LOCKED: Code = Code("RT2126");
    /// The connection broke.
    pub(crate) const CONNECTION_LOST: Code = Code("RT2111");
    /// A session setting that decides how values look is not in force.
    pub(crate) const SESSION: Code = Code("RT2112");
    /// The server sent something that is not the protocol.
    pub(crate) const PROTOCOL: Code = Code("RT2113");
    /// The role lacks REPLICATION.
    pub(crate) const REPLICATION_ROLE: Code = Code("RT2114");
    /// The role lacks another right.
    pub(crate) const PERMISSION: Code = Code("RT2115");
    /// `wal_level` is not `logical`.
    pub(crate) const WAL_LEVEL: Code = Code("RT2116");
    /// No replication slot is free.
    pub(crate) const NO_FREE_SLOT: Code = Code("RT2117");
    /// Another connection reads from the slot.
    pub(crate) const SLOT_IN_USE: Code = Code("RT2118");
    /// The slot does not exist.
    pub(crate) const SLOT_MISSING: Code = Code("RT2119");
    /// The server threw away log that the slot needs.
    pub(crate) const SLOT_INVALIDATED: Code = Code("RT2120");
    /// The publication does not exist, now or at the place in the log that is being read.
    pub(crate) const PUBLICATION_MISSING: Code = Code("RT2121");
    /// A value is too large for the server to send as text.
    pub(crate) const TOO_LARGE_FOR_SERVER: Code = Code("RT2122");
    /// The server cannot convert a text to UTF-8.
    pub(crate) const NOT_CONVERTIBLE: Code = Code("RT2123");
    /// The server is read-only: a standby.
    pub(crate) const READ_ONLY: Code = Code("RT2124");
    /// Any other refusal.
    pub(crate) const REFUSED: Code = Code("RT2199");
    /// None of the servers is what `target_session_attrs` asks for.
    pub(crate) const NO_FITTING_SERVER: Code = Code("RT2343");
}

/// The parts of a server's error or notice that may be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`; never translated.
    pub(crate) severity: String,
    /// The five characters of the SQLSTATE.
    pub(crate) sqlstate: String,
    /// The message, possibly translated.
    pub(crate) message: String,
    /// The detail, possibly translated.
    pub(crate) detail: String,
    /// Where in the server's work it happened: `slot "x", output plugin …`.
    pub(crate) context: String,
    /// The server's function that raised it.
    pub(crate) routine: String,
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse ("Error and Notice Message Fields").
    /// Fields that cannot be read are left empty.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut rest = body;
        while let Some((&kind, tail)) = rest.split_first() {
            let Some(end) = tail.iter().position(|&byte| byte == 0).filter(|_| kind != 0) else {
                break;
            };
            let (value, after) = tail.split_at(end);
            error.set(kind, String::from_utf8_lossy(value));
            rest = after.get(1..).unwrap_or_default();
        }
        error
    }

    fn set(&mut self, kind: u8, value: Cow<'_, str>) {
        let field = match kind {
            b'V' => &mut self.severity,
            b'C' => &mut self.sqlstate,
            b'M' => &mut self.message,
            b'D' => &mut self.detail,
            b'W' => &mut self.context,
            b'R' => &mut self.routine,
            _ => return,
        };
        *field = value.into_owned();
    }

    /// The error for the host. `doing` says what was asked of the server: `starting replication`.
    pub(crate) fn into_error(self, doing: &str) -> Error {
        let verdict = classify(&self);
        let mut message = format!("{doing}: ");
        if self.quotes_values() {
            message.push_str(match self.sqlstate.starts_with("P0") {
                true => {
                    "a function or trigger of the database refused it, whose words may hold values"
                }
                false => "the server refused a value",
            });
        } else {
            message.push_str(&self.message);
            if verdict.detail && !self.detail.is_empty() {
                message.push_str(": ");
                message.push_str(self.detail.trim_end_matches('.'));
            }
            // Only the walsender's own context; others may quote a statement's values.
            if self.context.starts_with("slot \"") {
                message.push_str(", in ");
                message.push_str(&self.context);
            }
        }
        if !self.sqlstate.is_empty() {
            message.push_str(" [SQLSTATE ");
            message.push_str(&self.sqlstate);
            message.push(']');
        }
        let error = Error::new(verdict.class, Origin::Source, verdict.code, message);
        match verdict.remedy {
            "" => error,
            remedy => error.with_remedy(remedy),
        }
    }

    /// Data exceptions and constraint violations quote the value; settings refused (22023) do not.
    fn quotes_values(&self) -> bool {
        let class = self.sqlstate.get(..2).unwrap_or_default();
        matches!(class, "22" | "23" | "P0") && self.sqlstate != "22023"
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        Self {
            severity: error.severity().to_owned(),
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: text(error.detail()),
            context: text(error.where_()),
            routine: text(error.routine()),
        }
    }
}

/// Puts the role into a remedy that grants it something.
pub(crate) fn naming_role(error: Error, role: &str) -> Error {
    if error.code() != codes::REPLICATION_ROLE {
        return error;
    }
    let role = crate::sql::ident(role);
    error.with_remedy(format!(
        "as a superuser: ALTER ROLE {role} REPLICATION (on Amazon RDS: GRANT rds_replication TO \
         {role})"
    ))
}

/// The same refusal where the same settings were good before: a password or certificate is being
/// exchanged, or another server has not learnt of it yet. What may pass is tried again, with the
/// secrets read anew.
pub(crate) fn good_before(error: Error) -> Error {
    let may_pass = [codes::LOGIN, codes::HBA, codes::TLS, codes::TLS_FILE, codes::AUTHENTICATION];
    if may_pass.contains(&error.code()) { error.with_class(Class::Transient) } else { error }
}

/// The error of an SQL statement sent through tokio-postgres. `doing` says what was asked.
pub(crate) fn from_sql(error: tokio_postgres::Error, doing: &str) -> Error {
    if let Some(refused) = error.as_db_error() {
        return ServerError::from(refused).into_error(doing);
    }
    let cause = std::error::Error::source(&error);
    if error.is_closed() || cause.is_some_and(<dyn std::error::Error>::is::<std::io::Error>) {
        return Error::transient(
            Origin::Source,
            codes::CONNECTION_LOST,
            format!("{doing}: the connection to the server broke"),
        )
        .with_source(error);
    }
    Error::fatal(Origin::Source, codes::REFUSED, doing.to_owned()).with_source(error)
}

/// A connection that broke while `doing` something.
pub(crate) fn lost(doing: &str, error: std::io::Error) -> Error {
    Error::transient(
        Origin::Source,
        codes::CONNECTION_LOST,
        format!("{doing}: the connection to the server broke"),
    )
    .with_source(error)
}

/// Bytes from the server that are not the protocol.
pub(crate) fn protocol(what: impl Into<Cow<'static, str>>) -> Error {
    Error::fatal(Origin::Source, codes::PROTOCOL, what)
        .with_remedy("check that the url names a PostgreSQL server itself, version 14 or newer")
}

/// How the host reacts to a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    class: Class,
    code: Code,
    /// What to do; empty where the message says it all.
    remedy: &'static str,
    /// Whether the server's detail helps and holds no value.
    detail: bool,
}

const fn transient(code: Code, remedy: &'static str) -> Verdict {
    Verdict { class: Class::Transient, code, remedy, detail: false }
}

const fn fatal(code: Code, remedy: &'static str) -> Verdict {
    Verdict { class: Class::Fatal, code, remedy, detail: false }
}

const fn with_detail(verdict: Verdict) -> Verdict {
    Verdict { detail: true, ..verdict }
}

/// One line of the table: the first that fits decides.
struct Rule {
    /// The SQLSTATE, or the start of it.
    sqlstate: &'static str,
    /// Further conditions; any of them is enough. None at all fits always.
    when: &'static [When],
    verdict: Verdict,
}

/// A condition beside the SQLSTATE.
enum When {
    /// The server's function starts with this.
    Routine(&'static str),
    /// The untranslated message or detail holds this.
    Text(&'static str),
    /// The walsender's context holds this.
    Context(&'static str),
}

impl When {
    fn holds(&self, error: &ServerError) -> bool {
        match self {
            Self::Routine(routine) => error.routine.starts_with(routine),
            Self::Text(text) => error.message.contains(text) || error.detail.contains(text),
            Self::Context(text) => error.context.contains(text),
        }
    }
}

/// For whoever does not know the role; [`naming_role`] does.
const REPLICATION_REMEDY: &str = "as a superuser: ALTER ROLE … REPLICATION (on Amazon RDS: GRANT \
    rds_replication TO …), for the user in `url`";
const POOLER_REMEDY: &str =
    "replication needs the server itself: put its own host and port into the url, not the pooler's";
const WAL_GONE_REMEDY: &str = "what the slot still needed is gone: drop the slot and start over \
    from a new one, knowing that changes in between are lost; raise max_slot_wal_keep_size, or set \
    it to -1, so that it does not happen again";
const PUBLICATION_REMEDY: &str = "create the publication, of a standby on its primary; where it was dropped and created again, \
    the slot cannot pass the log written in between: drop the slot and start over from a new one, \
    knowing that changes in between are lost";

/// The table. Order matters where SQLSTATEs overlap.
const RULES: &[Rule] = &[
    Rule {
        sqlstate: "28P01",
        when: &[],
        verdict: fatal(codes::LOGIN, "check the user in `url` and `password`"),
    },
    Rule {
        sqlstate: "28000",
        when: &[When::Text("pg_hba.conf"), When::Text("no encryption")],
        verdict: fatal(
            codes::HBA,
            "add a line for this user, database and address to pg_hba.conf and reload; it may ask \
             for another sslmode",
        ),
    },
    Rule {
        sqlstate: "28",
        when: &[],
        verdict: fatal(
            codes::LOGIN,
            "check that the role exists, may log in, and that its authentication in pg_hba.conf is \
             one that this url serves",
        ),
    },
    Rule {
        sqlstate: "3D000",
        when: &[],
        verdict: fatal(codes::DATABASE, "check the database's name in `url`"),
    },
    Rule {
        sqlstate: "57P04",
        when: &[],
        verdict: fatal(codes::DATABASE, "the database was dropped while connected to it"),
    },
    Rule {
        sqlstate: "08P01",
        when: &[
            When::Text("unsupported startup parameter"),
            When::Text("replication"),
            When::Text("pooler"),
        ],
        verdict: fatal(codes::POOLER, POOLER_REMEDY),
    },
    Rule { sqlstate: "08P01", when: &[], verdict: fatal(codes::PROTOCOL, "") },
    Rule { sqlstate: "08", when: &[], verdict: transient(codes::CONNECTION_LOST, "") },
    Rule {
        sqlstate: "53300",
        when: &[When::Routine("InitWalSenderSlot"), When::Text("max_wal_senders")],
        verdict: transient(
            codes::TOO_MANY_CONNECTIONS,
            "raise max_wal_senders if this does not pass by itself",
        ),
    },
    Rule {
        sqlstate: "53300",
        when: &[],
        verdict: transient(
            codes::TOO_MANY_CONNECTIONS,
            "raise max_connections or the role's CONNECTION LIMIT if this does not pass by itself",
        ),
    },
    Rule {
        sqlstate: "53400",
        when: &[],
        verdict: fatal(
            codes::NO_FREE_SLOT,
            "raise max_replication_slots and restart the server, or drop a slot that nobody uses \
             (SELECT slot_name FROM pg_replication_slots WHERE NOT active)",
        ),
    },
    Rule { sqlstate: "53", when: &[], verdict: transient(codes::UNAVAILABLE, "") },
    Rule { sqlstate: "57P03", when: &[], verdict: transient(codes::NO_CONNECTIONS, "") },
    Rule { sqlstate: "57", when: &[], verdict: transient(codes::UNAVAILABLE, "") },
    Rule {
        sqlstate: "42501",
        when: &[
            When::Routine("InitPostgres"),
            When::Routine("CheckSlotPermissions"),
            When::Text("replication"),
            When::Text("WAL sender"),
            When::Text("walsender"),
        ],
        verdict: with_detail(fatal(codes::REPLICATION_ROLE, REPLICATION_REMEDY)),
    },
    Rule { sqlstate: "42501", when: &[], verdict: with_detail(fatal(codes::PERMISSION, "")) },
    Rule {
        sqlstate: "55006",
        when: &[When::Routine("ReplicationSlot"), When::Text("replication slot")],
        verdict: transient(
            codes::SLOT_IN_USE,
            "it passes when the other connection ends (within wal_sender_timeout if it died); two \
             connectors cannot share a slot",
        ),
    },
    Rule { sqlstate: "55006", when: &[], verdict: transient(codes::UNAVAILABLE, "") },
    Rule { sqlstate: "55P03", when: &[], verdict: transient(codes::LOCKED, LOCKED_REMEDY) },
    Rule { sqlstate: "40", when: &[], verdict: transient(codes::UNAVAILABLE, "") },
    Rule {
        sqlstate: "55000",
        when: &[When::Routine("LoadPublications")],
        verdict: fatal(codes::PUBLICATION_MISSING, PUBLICATION_REMEDY),
    },
    Rule {
        sqlstate: "55000",
        when: &[When::Text("wal_level")],
        verdict: fatal(
            codes::WAL_LEVEL,
            "ALTER SYSTEM SET wal_level = 'logical' and restart the server (on Amazon RDS: \
             rds.logical_replication = 1)",
        ),
    },
    Rule {
        sqlstate: "55000",
        when: &[
            When::Routine("RaiseSlotInvalidationError"),
            When::Text("invalidated"),
            When::Text("can no longer"),
        ],
        verdict: with_detail(fatal(codes::SLOT_INVALIDATED, WAL_GONE_REMEDY)),
    },
    Rule {
        sqlstate: "55000",
        when: &[When::Routine("CheckLogicalDecodingRequirements")],
        verdict: fatal(
            codes::WAL_LEVEL,
            "ALTER SYSTEM SET wal_level = 'logical' and restart the server",
        ),
    },
    Rule {
        sqlstate: "58P01",
        when: &[When::Text("WAL segment"), When::Text("has already been removed")],
        verdict: fatal(codes::SLOT_INVALIDATED, WAL_GONE_REMEDY),
    },
    Rule {
        sqlstate: "42704",
        when: &[
            When::Routine("ReplicationSlot"),
            When::Routine("SearchNamedReplicationSlot"),
            When::Text("replication slot"),
        ],
        verdict: fatal(
            codes::SLOT_MISSING,
            "a slot that is gone took its place in the log with it: `rowtide explain RT2204` tells \
             how to start over from a new one",
        ),
    },
    Rule {
        sqlstate: "42704",
        when: &[
            When::Routine("get_publication"),
            When::Routine("LoadPublications"),
            When::Context("output plugin"),
            When::Text("publication"),
        ],
        verdict: fatal(codes::PUBLICATION_MISSING, PUBLICATION_REMEDY),
    },
    Rule {
        sqlstate: "25006",
        when: &[],
        verdict: fatal(
            codes::READ_ONLY,
            "put the primary's host into the url; on a primary, default_transaction_read_only is on for the \
             role, the database or the server: ALTER ROLE … SET default_transaction_read_only = off",
        ),
    },
    Rule {
        sqlstate: "22021",
        when: &[],
        verdict: fatal(
            codes::NOT_CONVERTIBLE,
            "correct the text that is not valid in the database",
        ),
    },
    Rule {
        sqlstate: "22P05",
        when: &[],
        verdict: fatal(codes::NOT_CONVERTIBLE, "correct the text that has no form in UTF-8"),
    },
    Rule {
        sqlstate: "54000",
        when: &[When::Context("callback"), When::Text("string buffer")],
        verdict: fatal(codes::TOO_LARGE_FOR_SERVER, TOO_LARGE_REMEDY),
    },
    Rule {
        sqlstate: "XX000",
        when: &[When::Text("memory alloc request size")],
        verdict: fatal(codes::TOO_LARGE_FOR_SERVER, TOO_LARGE_REMEDY),
    },
    // An array or composite holds a type that has no binary form.
    Rule {
        sqlstate: "42883",
        when: &[
            When::Routine("array_send"),
            When::Routine("get_range_io_data"),
            When::Routine("getTypeBinaryOutputInfo"),
        ],
        verdict: transient(NOT_IN_BINARY, ""),
    },
    // Of a transaction that is streamed, the server looks for a table as a savepoint left it that was
    // rolled back.
    Rule {
        sqlstate: "XX000",
        when: &[
            When::Text("could not map filenode"),
            // From version 16 on.
            When::Text("could not map filenumber"),
        ],
        verdict: transient(NOT_STREAMED, ""),
    },
    // While the log is decoded this would come again and again.
    Rule {
        sqlstate: "XX000",
        when: &[When::Context("output plugin")],
        verdict: fatal(codes::REFUSED, ""),
    },
    // A table or type was dropped while the catalog was read.
    Rule {
        sqlstate: "XX000",
        when: &[When::Text("could not open relation with OID"), When::Text("cache lookup failed")],
        verdict: transient(codes::UNAVAILABLE, ""),
    },
    Rule { sqlstate: "58", when: &[], verdict: transient(codes::UNAVAILABLE, "") },
];

const LOCKED_REMEDY: &str =
    "`rowtide explain RT2126` shows how to see who holds it; it is tried again";

const TOO_LARGE_REMEDY: &str = "a row's text is above 1 GB (bytea doubles in text), which the \
    server cannot send: where it is bytea, set `binary: on`, in which it needs half of that; else \
    leave the column out with a column list of the publication, and start over after that row";

fn classify(error: &ServerError) -> Verdict {
    RULES
        .iter()
        .find(|rule| {
            error.sqlstate.starts_with(rule.sqlstate)
                && (rule.when.is_empty() || rule.when.iter().any(|when| when.holds(error)))
        })
        .map_or(fatal(codes::REFUSED, ""), |rule| rule.verdict)
}

#[cfg(test)]
mod tests;
