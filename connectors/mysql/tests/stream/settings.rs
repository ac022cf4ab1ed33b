//! Settings of servers and sessions, and what the stream makes of them.

use std::time::Duration;

use rowtide_mysql::binlog::event::kind;
use rowtide_sdk::Class;
use rowtide_testkit::{Flavor, Mysql};

use crate::host::{Host, Place as _, Setup, server};
use crate::proxy::Proxy;

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id varchar(12) PRIMARY KEY, v varchar(40));
    CREATE TABLE unwanted (id varchar(12) PRIMARY KEY);";

fn files(server: &Mysql) -> Vec<String> {
    let shown = server.sql("SHOW BINARY LOGS");
    shown.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

/// Waits until the position is in the newest file.
async fn in_newest_file(host: &mut Host, server: &Mysql) {
    let newest = files(server).pop().unwrap();
    while host.place().file != newest {
        host.batch().await;
    }
}

#[tokio::test]
async fn m01_a_statement_in_place_of_rows_ends_the_stream_before_anything_behind_it() {
    for flavor in Flavor::ALL {
        for format in ["STATEMENT", "MIXED"] {
            let Some(server) = server(flavor, &[]) else { return };
            server.sql(TABLES);
            let mut host = Setup::new(&server).ready().await;
            server.sql(&format!(
                "SET SESSION binlog_format={format}; USE shop; INSERT INTO unwanted VALUES (1);
                 SET SESSION binlog_format=ROW; INSERT INTO t VALUES (1, 'a');
                 SET SESSION binlog_format={format}; INSERT INTO t VALUES (2, 'b');
                 SET SESSION binlog_format=ROW; INSERT INTO t VALUES (3, 'c')"
            ));
            let error = host.error().await;
            assert_eq!((error.code().0, error.class()), ("RT2707", Class::Fatal), "{error}");
            assert!(error.message().contains("shop.t "), "{error}");
            let texts: Vec<String> = host.events.iter().map(|event| event.text()).collect();
            assert_eq!(texts, ["c shop.t none > id=1,v=a"], "{flavor:?} {format}");
            // And again from where it stopped.
            let error = Setup::new(&server).from(host.position.clone()).refusal().await;
            assert_eq!(error.code().0, "RT2707", "{error}");
        }
    }
}

#[tokio::test]
async fn m07_m15_checksums_of_all_kinds_and_their_change_and_names_of_files() {
    for flavor in Flavor::ALL {
        for (begins, metadata) in [("NONE", "FULL"), ("CRC32", "FULL"), ("NONE", "MINIMAL")] {
            let checksum = format!("binlog_checksum={begins}");
            let metadata = format!("binlog_row_metadata={metadata}");
            let Some(server) = server(flavor, &[&checksum, &metadata]) else { return };
            server.sql(TABLES);
            let setup = Setup::new(&server);
            let mut host = setup.ready().await;
            let mut id = 0;
            let mut texts = Vec::new();
            for change in ["FLUSH BINARY LOGS", "CRC32", "NONE", "FLUSH BINARY LOGS", "CRC32"] {
                id += 1;
                server.sql(&format!("INSERT INTO shop.t VALUES ({id}, 'before {change}')"));
                match change.strip_prefix("FLUSH") {
                    Some(_) => server.sql(change),
                    None => server.sql(&format!("SET GLOBAL binlog_checksum={change}")),
                };
                // Without FULL the log is looked through for what changes a table that is new.
                server.sql(&format!(
                    "CREATE TABLE shop.n{id} (id int PRIMARY KEY); INSERT INTO shop.n{id} VALUES (1)"
                ));
                in_newest_file(&mut host, &server).await;
                texts = host.until(2 * id).await;
                // The same from there on in a new connection.
                let events = std::mem::take(&mut host.events);
                let position = host.stop().await;
                host = setup.clone().from(position).run();
                host.events = events;
            }
            server.sql("INSERT INTO shop.t VALUES (6, 'last')");
            assert_eq!(host.until(11).await.len(), 11, "{texts:?}");
            let known = files(&server);
            assert!(known.contains(&host.place().file), "{known:?} {:?}", host.place());
            host.stop().await;
        }
    }
}

#[tokio::test]
async fn m07_a_damaged_event_is_not_taken() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &["binlog_checksum=CRC32"]) else { return };
        server.sql(TABLES);
        let proxy = Proxy::to(server.port()).await;
        let mut host = Setup::new(&server).set("url", proxy.url()).ready().await;
        server.sql("INSERT INTO shop.t VALUES (1, 'whole')");
        host.until(1).await;
        proxy.damage("damage me");
        server.sql("INSERT INTO shop.t VALUES (2, 'damage me'), (3, 'x')");
        let error = host.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2705", Class::Fatal), "{error}");
        assert!(error.message().contains("checksum"), "{error}");
        assert_eq!(host.events.len(), 1);
        // From there again, by a sound line.
        let mut host = Setup::new(&server).from(host.position.clone()).run();
        let expected = ["c shop.t none > id=2,v=damage me", "c shop.t none > id=3,v=x"];
        assert_eq!(host.until(2).await, expected);
        host.stop().await;
    }
}

/// GTIDs that are not on each transaction name no position, until they are.
#[tokio::test]
async fn m11_gtids_count_only_once_every_transaction_has_one() {
    let settings = ["gtid_mode=ON_PERMISSIVE", "enforce_gtid_consistency=ON"];
    let Some(server) = server(Flavor::Mysql, &settings) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server);
    let mut host = setup.ready().await;
    assert_eq!(host.place().gtids, None);
    server.sql("INSERT INTO shop.t VALUES (1, 'a')");
    host.until(1).await;
    assert_eq!(host.place().gtids, None);
    let position = host.stop().await;
    server.sql("SET GLOBAL gtid_mode=OFF_PERMISSIVE; INSERT INTO shop.t VALUES (2, 'b')");
    let mut host = setup.clone().from(position).run();
    assert_eq!(host.until(1).await, ["c shop.t none > id=2,v=b"]);
    let position = host.stop().await;
    server.sql("SET GLOBAL gtid_mode=OFF; INSERT INTO shop.t VALUES (3, 'c')");
    let mut host = setup.clone().from(position).run();
    host.until(1).await;
    let id = host.events[0].id.clone();
    assert!(id.starts_with("binlog."), "{id}");
    server.sql(
        "SET GLOBAL gtid_mode=OFF_PERMISSIVE; SET GLOBAL gtid_mode=ON_PERMISSIVE;
         SET GLOBAL gtid_mode=ON; FLUSH BINARY LOGS; INSERT INTO shop.t VALUES (4, 'd')",
    );
    host.until(2).await;
    while host.place().gtids.is_none() {
        host.batch().await;
    }
    let position = host.stop().await;
    server.sql("INSERT INTO shop.t VALUES (5, 'e')");
    let mut host = setup.from(position).run();
    assert_eq!(host.until(1).await, ["c shop.t none > id=5,v=e"]);
    host.stop().await;
}

/// A server that has GTIDs of before logs without them: what is handed over then they do not tell, whatever
/// the files begin with; and where those are gone it is said, though no GTID is missing.
#[tokio::test]
async fn m11_gtids_of_before_do_not_stand_for_transactions_without_any() {
    let settings = ["gtid_mode=ON_PERMISSIVE", "enforce_gtid_consistency=ON"];
    let Some(server) = server(Flavor::Mysql, &settings) else { return };
    server.sql(TABLES);
    server.sql("SET GLOBAL gtid_mode=OFF_PERMISSIVE; SET GLOBAL gtid_mode=OFF");
    let setup = Setup::new(&server);
    let mut host = setup.ready().await;
    server.sql(
        "USE shop; INSERT INTO t VALUES (1, 'a'); FLUSH BINARY LOGS; INSERT INTO t VALUES (2, 'b')",
    );
    host.until(2).await;
    host.during(Duration::from_millis(300)).await;
    assert_eq!(host.place().gtids, None);
    let lost = host.stop().await;
    let mut host = setup.clone().from(lost.clone()).run();
    server.sql("XA START 'x'; INSERT INTO shop.t VALUES (3, 'c'); XA END 'x'; XA PREPARE 'x'");
    while host.place().pending.is_empty() {
        host.batch().await;
    }
    server.sql(
        "SET GLOBAL gtid_mode=OFF_PERMISSIVE; SET GLOBAL gtid_mode=ON_PERMISSIVE;
         INSERT INTO shop.t VALUES (4, 'd')",
    );
    host.until(1).await;
    assert_eq!(host.place().gtids, None, "one is pending without a GTID");
    let position = host.stop().await;
    server.sql("XA COMMIT 'x'");
    let mut host = setup.clone().from(position).run();
    assert_eq!(host.until(1).await, ["c shop.t none > id=3,v=c"]);
    host.stop().await;
    server.sql("SET GLOBAL gtid_mode=ON; FLUSH BINARY LOGS");
    let file = server.sql("SHOW BINARY LOG STATUS");
    let file = file.split_whitespace().next().unwrap();
    server.sql(&format!("PURGE BINARY LOGS TO '{file}'; INSERT INTO shop.t VALUES (5, 'e')"));
    let error = setup.from(lost).refusal().await;
    assert!(["RT2716", "RT2619"].contains(&error.code().0), "{error}");
}

/// A server that nothing happens at is not a silent one.
#[tokio::test]
async fn m20_m21_an_idle_server_is_waited_for_and_a_silent_one_is_not() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let proxy = Proxy::to(server.port()).await;
        let setup = Setup::new(&server).set("url", proxy.url());
        let mut host = setup.ready().await;
        let before = host.place();
        host.during(Duration::from_secs(5)).await;
        let idle = host.place();
        assert_eq!((&idle.file, idle.pos), (&before.file, before.pos), "nothing moved");
        server.sql("INSERT INTO shop.t VALUES (1, 'a')");
        host.until(1).await;
        proxy.freeze();
        let since = std::time::Instant::now();
        let error = host.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2709", Class::Transient), "{error}");
        let after = since.elapsed();
        assert!(after > Duration::from_secs(1) && after < Duration::from_secs(8), "{after:?}");
        server.sql("INSERT INTO shop.t VALUES (2, 'b')");
        let mut host = Setup::new(&server).from(host.position.clone()).run();
        assert_eq!(host.until(1).await, ["c shop.t none > id=2,v=b"]);
        host.stop().await;
    }
}

#[tokio::test]
async fn m26_a_large_value_is_delivered_or_poison_and_the_stream_goes_on() {
    for flavor in Flavor::ALL {
        let settings: &[&str] = match flavor {
            Flavor::Mysql => &["max_allowed_packet=64M", "binlog_rows_query_log_events=ON"],
            Flavor::Mariadb => &["max_allowed_packet=64M"],
        };
        let Some(server) = server(flavor, settings) else { return };
        server
            .sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id varchar(12) PRIMARY KEY, v longblob)");
        let mut raised = Setup::new(&server);
        raised.limits.max_event = 64 << 20;
        let mut limited = Setup::new(&server);
        limited.config["server_id"] = 4242.into();
        limited.scratch.set_extension("limited");
        let mut all = raised.ready().await;
        let mut some = limited.ready().await;
        let position = some.position.clone();
        let literal = "y".repeat(20_000_000);
        server.sql(&format!(
            "USE shop; INSERT INTO t VALUES (1, REPEAT('x', 40000000)); INSERT INTO t VALUES (2, 'b');
             BEGIN; INSERT INTO t VALUES (3, 'c'); INSERT INTO t VALUES (4, '{literal}');
             INSERT INTO t VALUES (5, 'e'); COMMIT; DELETE FROM t WHERE id = 1"
        ));
        let expected = [
            "c shop.t none > id=1,v=40000000 bytes",
            "c shop.t none > id=2,v=b",
            "c shop.t none > id=3,v=c",
            "c shop.t none > id=4,v=20000000 bytes",
            "c shop.t none > id=5,v=e",
            "d shop.t id=1,v=40000000 bytes > none",
        ];
        all.until(6).await;
        let shape = |host: &Host| -> Vec<(String, &'static str, Option<&'static str>)> {
            host.events.iter().map(|event| (event.id.clone(), event.op, event.poison)).collect()
        };
        assert!(shape(&all).iter().all(|(_, _, poison)| poison.is_none()));
        for (event, text) in all.events.iter().zip(expected) {
            assert_eq!(event.text().contains("bytes"), text.contains("bytes"), "{}", event.text());
        }
        some.until(6).await;
        let poison: Vec<_> = some.events.iter().map(|event| event.poison).collect();
        let large = Some("RT2708");
        assert_eq!(poison, [large, None, None, large, None, large], "{flavor:?}");
        let ids =
            |host: &Host| -> Vec<_> { host.events.iter().map(|e| (e.id.clone(), e.op)).collect() };
        assert_eq!(ids(&some), ids(&all));
        let events = some.events.clone();
        some.kill().await;
        // The same again, row by row.
        let mut again = limited.from(position).rows(1).run();
        again.until(6).await;
        assert_eq!(again.events, events);
        again.stop().await;
        all.stop().await;
    }
}

/// An event of many rows is larger than one may be, and none of them is.
#[tokio::test]
async fn m26_a_large_event_of_many_small_rows_is_never_taken_for_one() {
    let size = "binlog_row_event_max_size=8388608";
    for (flavor, settings) in [
        (Flavor::Mysql, &[size][..]),
        (Flavor::Mysql, &[size, "binlog_transaction_compression=ON"]),
        (Flavor::Mariadb, &[size]),
        (Flavor::Mariadb, &[size, "log_bin_compress=ON"]),
    ] {
        let Some(server) = server(flavor, settings) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v varchar(1000));",
        );
        let mut setup = Setup::new(&server);
        setup.limits.max_event = 64 << 10;
        let mut host = setup.ready().await;
        let values: Vec<String> =
            (0..4000).map(|id| format!("({id}, REPEAT('x', 1000))")).collect();
        server.sql(&format!("INSERT INTO shop.t VALUES {}", values.join(",")));
        // MariaDB says what its size is from 11.2 on; where it is not known, nothing is lost either.
        if server.sql("SHOW GLOBAL VARIABLES LIKE 'binlog_row_event_max_size'").is_empty() {
            let error = host.error().await;
            assert_eq!((error.code().0, error.class()), ("RT2708", Class::Fatal), "{error}");
            assert_eq!(host.events, []);
            setup = setup.from(host.position.clone());
            setup.limits.max_event = 8 << 20;
            host = setup.run();
        }
        host.until(4000).await;
        assert!(host.events.iter().all(|event| event.poison.is_none()), "{flavor:?}");
        host.stop().await;
    }
}

/// An event of no known type is left out where its writer says that it may be, and ends the stream else.
#[tokio::test]
async fn m25_unknown_events_are_left_out_only_where_the_log_says_so() {
    for flavor in Flavor::ALL {
        let more: &[&str] = match flavor {
            Flavor::Mysql => &["binlog_checksum=NONE", "binlog_rows_query_log_events=ON"],
            Flavor::Mariadb => &["binlog_checksum=NONE"],
        };
        let Some(server) = server(flavor, more) else { return };
        server.sql(TABLES);
        let proxy = Proxy::to(server.port()).await;
        let setup = Setup::new(&server).set("url", proxy.url());
        // A type and the id of the server behind it, as they stand in the header.
        let event = |kind: u8| [kind, 1, 0, 0, 0];
        let mut host = setup.ready().await;
        if flavor == Flavor::Mysql {
            proxy.swap(&event(kind::ROWS_QUERY), &event(99));
            server.sql("INSERT INTO shop.t VALUES (1, 'a')");
            assert_eq!(host.until(1).await, ["c shop.t none > id=1,v=a"]);
            assert_eq!(host.events[0].known[1..], ["", ""]);
        }
        while host.place().in_tx.is_some() {
            host.batch().await;
        }
        let (position, before) = (host.position.clone(), host.events.len());
        for kind in [kind::XID, kind::WRITE_ROWS_V1, kind::WRITE_ROWS] {
            let is_its = match flavor {
                Flavor::Mysql => kind != kind::WRITE_ROWS_V1,
                Flavor::Mariadb => kind != kind::WRITE_ROWS,
            };
            if !is_its {
                continue;
            }
            proxy.swap(&event(kind), &event(199));
            server.sql("INSERT INTO shop.t VALUES (UUID_SHORT() % 1000000000, 'b')");
            let error = host.error().await;
            assert_eq!((error.code().0, error.class()), ("RT2705", Class::Fatal), "{error}");
            assert!(error.message().contains("type 199"), "{flavor:?} {kind}: {error}");
            assert!(host.events.len() <= before + 1);
            proxy.swap(&[], &[]);
            host = setup.clone().from(position.clone()).run();
            host.during(Duration::from_millis(500)).await;
        }
        // Nothing of them was skipped.
        assert_eq!(host.events.len(), 2, "{flavor:?}");
        host.stop().await;
    }
}

/// The source is none that a commit waits for.
#[tokio::test]
async fn m27_no_commit_waits_for_the_source() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let (on, clients) = match flavor {
            Flavor::Mysql => (
                "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';
                 SET GLOBAL rpl_semi_sync_source_timeout=200; SET GLOBAL rpl_semi_sync_source_enabled=ON",
                "SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'",
            ),
            Flavor::Mariadb => (
                "SET GLOBAL rpl_semi_sync_master_enabled=ON",
                "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'",
            ),
        };
        server.sql(on);
        let mut host = Setup::new(&server).ready().await;
        server.sql("INSERT INTO shop.t VALUES (1, 'a')");
        host.until(1).await;
        let clients = server.sql(clients);
        assert_eq!(clients.split_whitespace().last(), Some("0"), "{flavor:?}");
        host.stop().await;
    }
}

/// Where MariaDB encrypts its log, files begin with an event that no connection gets; files begin with the
/// GTIDs before them, and checkpoints stand between transactions.
#[tokio::test]
async fn m24_events_that_mariadb_alone_has_are_passed_over() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), format!("1;{}\n", "0123456789ABCDEF".repeat(2))).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(keys.path(), permissions).unwrap();
    let settings = [
        "plugin_load_add=file_key_management",
        &format!("loose_file_key_management_filename={}", keys.path().display()),
        "encrypt_binlog=ON",
        "binlog_annotate_row_events=ON",
    ];
    let Some(server) = server(Flavor::Mariadb, &settings) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server);
    let mut host = setup.ready().await;
    let mut expected = Vec::new();
    for round in 1..=3 {
        server.sql(&format!(
            "USE shop; INSERT INTO t VALUES ({round}, 'a') /*app='shop'*/; FLUSH BINARY LOGS;
             UPDATE t SET v = 'b' WHERE id = {round}"
        ));
        expected.push(format!("c shop.t none > id={round},v=a"));
        expected.push(format!("u shop.t id={round},v=a > id={round},v=b"));
        assert_eq!(host.until(expected.len()).await, expected);
        in_newest_file(&mut host, &server).await;
        let position = host.stop().await;
        host = setup.clone().from(position).run();
        expected.clear();
    }
    host.stop().await;
    let shown = server.sql("SHOW BINLOG EVENTS");
    for kind in
        ["Format_desc", "Start_encryption", "Gtid_list", "Binlog_checkpoint", "Annotate_rows"]
    {
        assert!(shown.contains(kind), "{kind}: {shown}");
    }
}
