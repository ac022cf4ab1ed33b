//! How long a server keeps its log: by its own settings, or as Amazon RDS is told.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rowtide_sdk::Result;

use super::runway::Kept;
use crate::error::{from_sql, is_refusal};
use crate::server::Server;

const DAY: f64 = 86_400.0;

/// Asks how long the server keeps its log.
///
/// # Errors
/// Where the server cannot be asked.
pub(crate) async fn kept(conn: &mut Conn, server: &Server) -> Result<Kept> {
    const SQL: &str =
        "SELECT value FROM mysql.rds_configuration WHERE name = 'binlog retention hours'";
    let hours: std::result::Result<Option<Option<String>>, _> = conn.query_first(SQL).await;
    match hours {
        Ok(Some(hours)) => Ok(by_rds(hours.as_deref())),
        Ok(None) => Ok(of_settings(server)),
        // Only there is such a table, and only its readers learn that there is none.
        Err(error) if !is_refusal(&error) => {
            Err(from_sql(error, "asking how long the log is kept"))
        }
        Err(_) if server.is_rds() => Ok(Kept::Unknown),
        Err(_) => Ok(of_settings(server)),
    }
}

/// Without a number of hours a file goes as soon as RDS has its backup.
fn by_rds(hours: Option<&str>) -> Kept {
    let hours = hours.and_then(|hours| hours.parse::<u64>().ok()).unwrap_or_default();
    Kept::ByRds(hours.saturating_mul(3600))
}

/// By `binlog_expire_logs_seconds`, or `expire_logs_days` where the server has nothing else.
fn of_settings(server: &Server) -> Kept {
    if server.setting("binlog_expire_logs_auto_purge").eq_ignore_ascii_case("OFF") {
        return Kept::Always;
    }
    let days = || server.setting("expire_logs_days").parse::<f64>().ok();
    let seconds = match server.setting("binlog_expire_logs_seconds").parse::<u64>() {
        Ok(seconds) if seconds > 0 => Some(seconds),
        _ => days().map(|days| {
            std::time::Duration::from_secs_f64((days * DAY).clamp(0.0, 1e10)).as_secs()
        }),
    };
    seconds.filter(|seconds| *seconds > 0).map_or(Kept::Always, Kept::For)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_how_long_is_said_in_several_ways() {
        let of = |settings: &[(&str, &str)]| of_settings(&Server::with(settings));
        assert_eq!(of(&[]), Kept::Always);
        assert_eq!(of(&[("binlog_expire_logs_seconds", "0")]), Kept::Always);
        assert_eq!(of(&[("binlog_expire_logs_seconds", "60")]), Kept::For(60));
        let off = [("binlog_expire_logs_seconds", "60"), ("binlog_expire_logs_auto_purge", "OFF")];
        assert_eq!(of(&off), Kept::Always);
        assert_eq!(of(&[("expire_logs_days", "2")]), Kept::For(172_800));
        assert_eq!(of(&[("expire_logs_days", "0.500000")]), Kept::For(43_200));
        assert_eq!(by_rds(Some("24")), Kept::ByRds(86_400));
        assert_eq!(by_rds(None), Kept::ByRds(0));
    }
}
