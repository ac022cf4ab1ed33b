//! What the preflight says of the role: its attributes and the settings made for it.

use rowtide_sdk::{Finding, Result, Severity};
use serde::Deserialize;

use super::{codes, say};
use crate::error::codes as refusals;
use crate::sql::{Sql, ident, json_row};

/// Connections that a run has at times: the stream, the catalog's and the publication's.
const CONNECTIONS: i64 = 3;

/// A password that ends within so many days is worth a warning.
const SOON: i64 = 14;

/// Settings that end sessions and statements: Rowtide's sessions set their own value.
/// `wal_sender_timeout` is read as it is in force.
const TIMEOUTS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
];

/// The role that we are.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Role {
    name: String,
    is_super: bool,
    /// `CONNECTION LIMIT`; -1 is none.
    limit: i64,
    /// Days that the password is still valid; absent where it is for ever.
    valid_days: Option<i64>,
    is_read_only: bool,
    /// `name=value` of what `ALTER ROLE` and `ALTER DATABASE` set for our sessions.
    settings: Vec<String>,
}

const ROLE: &str = "SELECT jsonb_build_object(
    'name', r.rolname, 'is_super', r.rolsuper, 'limit', r.rolconnlimit,
    'valid_days', CASE WHEN isfinite(r.rolvaliduntil)
        THEN floor(extract(epoch FROM r.rolvaliduntil - now()) / 86400)::int8 END,
    'is_read_only', current_setting('default_transaction_read_only') = 'on',
    'settings', coalesce((SELECT jsonb_agg(DISTINCT setting)
        FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS setting
        WHERE s.setrole IN (0, r.oid) AND s.setdatabase IN (0,
            (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))), '[]'))
    FROM pg_roles r WHERE r.rolname = session_user";

impl Role {
    /// Asks the server.
    pub(super) async fn ask(sql: &mut impl Sql) -> Result<Self> {
        json_row(sql, ROLE, "asking for the role's attributes").await
    }

    /// Everything to say. `changes_publication` tells whether a run would alter the publication.
    pub(super) fn findings(&self, changes_publication: bool) -> Vec<Finding> {
        let role = ident(&self.name);
        let mut findings = Vec::new();
        let mut note = |severity, message: String, remedy: &str| {
            findings.push(say(severity, codes::ROLE, message, remedy));
        };
        if self.is_super {
            note(
                Severity::Info,
                "the role is a superuser, which is more than is needed".to_owned(),
                "`rowtide check --print-sql` prints what is",
            );
        } else if (0..CONNECTIONS).contains(&self.limit) {
            note(
                Severity::Warning,
                format!(
                    "the role may have {} connections, and a run needs {CONNECTIONS} at times",
                    self.limit
                ),
                &format!("ALTER ROLE {role} CONNECTION LIMIT -1"),
            );
        }
        if let Some(days) = self.valid_days.filter(|days| *days < SOON) {
            let when = match days {
                ..0 => "has ended: no password opens a new connection".to_owned(),
                days => format!("ends in {days} days"),
            };
            note(
                Severity::Warning,
                format!("the validity of the role's password {when}"),
                &format!("ALTER ROLE {role} VALID UNTIL '…'"),
            );
        }
        for (name, value) in self.settings.iter().filter_map(|setting| setting.split_once('=')) {
            let is_off = value.trim_start_matches('0').is_empty();
            if TIMEOUTS.contains(&name) && !is_off {
                let message = format!(
                    "{name} = {value} is set for the role or database; Rowtide's sessions have none"
                );
                note(Severity::Info, message, "");
            }
        }
        if self.is_read_only && changes_publication {
            findings.push(say(
                Severity::Error,
                refusals::READ_ONLY,
                "default_transaction_read_only is on, and the publication must be changed",
                &format!("ALTER ROLE {role} SET default_transaction_read_only = off"),
            ));
        }
        let place = format!("role {}", self.name);
        findings.into_iter().map(|finding| finding.at(place.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> Role {
        Role {
            name: "cdc".to_owned(),
            is_super: false,
            limit: -1,
            valid_days: None,
            is_read_only: false,
            settings: Vec::new(),
        }
    }

    fn words(role: &Role) -> Vec<(Severity, String)> {
        role.findings(true).into_iter().map(|found| (found.severity, found.message)).collect()
    }

    #[test]
    fn what_hurts_later_is_said_now() {
        assert!(words(&role()).is_empty());
        let narrow = Role { limit: 2, valid_days: Some(-1), is_read_only: true, ..role() };
        let found = words(&narrow);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].1.contains("has ended"));
        assert_eq!(found[2].0, Severity::Error);
        assert!(words(&Role { valid_days: Some(SOON), limit: 3, ..role() }).is_empty());
    }

    #[test]
    fn timeouts_are_named() {
        let settings =
            ["statement_timeout=5s", "transaction_timeout=1s", "lock_timeout=0", "work_mem=1GB"];
        let found = words(&Role { settings: settings.map(str::to_owned).to_vec(), ..role() });
        let severities: Vec<Severity> = found.iter().map(|(severity, _)| *severity).collect();
        assert_eq!(severities, [Severity::Info, Severity::Info]);
    }
}
