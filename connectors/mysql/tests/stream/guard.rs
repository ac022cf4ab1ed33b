//! What is said of the server's log beside the stream.

use std::time::{Duration, Instant};

use rowtide_sdk::FactValue;
use rowtide_testkit::Flavor;

use crate::host::{Host, Setup, server};

/// Facts by name.
fn figure(setup: &Setup, name: &str) -> Option<f64> {
    let known = setup.report.known()?;
    let fact = known.facts.into_iter().find(|fact| fact.name == name)?;
    match fact.value {
        FactValue::Gauge(figure) => Some(figure),
        FactValue::Counter(_) | FactValue::State(_) => None,
    }
}

fn retention(setup: &Setup) -> Option<String> {
    let known = setup.report.known()?;
    known.facts.into_iter().find_map(|fact| match fact.value {
        FactValue::State(state) if fact.name == "log_retention" => Some(state),
        _ => None,
    })
}

async fn until(host: &mut Host, what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(40), "not in time: {what}");
        host.during(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn m10_it_is_foretold_how_long_the_log_lasts() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &["binlog_expire_logs_seconds=7200"]) else { return };
        server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (id int PRIMARY KEY)");
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        until(&mut host, "the first look", || figure(&setup, "log_runway_seconds").is_some()).await;
        // In the file that is written nothing is thrown away.
        assert_eq!(figure(&setup, "log_runway_seconds"), Some(7200.0), "{flavor:?}");
        assert_eq!(figure(&setup, "log_retention_seconds"), Some(7200.0));
        assert_eq!(retention(&setup).as_deref(), Some("server"));
        let needed = figure(&setup, "log_needed_file").unwrap();
        host.saves = false;
        server.sql(
            "SET timestamp = UNIX_TIMESTAMP() - 3600; INSERT INTO shop.t VALUES (1);
             FLUSH BINARY LOGS; INSERT INTO shop.t VALUES (2)",
        );
        host.until(2).await;
        until(&mut host, "it is behind", || {
            figure(&setup, "log_runway_seconds").is_some_and(|left| left < 7200.0)
        })
        .await;
        // The file ended a moment ago, whatever the time of its transactions.
        let left = figure(&setup, "log_runway_seconds").unwrap();
        assert!((7100.0..7200.0).contains(&left), "{flavor:?} {left}");
        assert_eq!(figure(&setup, "log_needed_file"), Some(needed));
        assert!(figure(&setup, "log_behind_bytes").unwrap() > 100.0);
        assert!(figure(&setup, "log_oldest_file").unwrap() <= needed);
        host.stop().await;
    }
}

/// Amazon RDS keeps its log by a setting of its own, where the user may read it.
#[tokio::test]
async fn m10_the_retention_of_rds_counts_before_the_servers_own() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(
        "CREATE TABLE mysql.rds_configuration (name varchar(100) PRIMARY KEY, value varchar(100));
         INSERT INTO mysql.rds_configuration VALUES ('binlog retention hours', '24')",
    );
    let setup = Setup::new(&server);
    let mut host = setup.ready().await;
    until(&mut host, "the first look", || figure(&setup, "log_runway_seconds").is_some()).await;
    assert_eq!(figure(&setup, "log_runway_seconds"), Some(86_400.0));
    assert_eq!(retention(&setup).as_deref(), Some("rds"));
    server.sql("UPDATE mysql.rds_configuration SET value = NULL");
    until(&mut host, "no retention", || figure(&setup, "log_runway_seconds") == Some(0.0)).await;
    host.stop().await;
}
