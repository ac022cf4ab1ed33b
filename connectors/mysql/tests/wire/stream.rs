//! The stream of the log.

use std::time::Instant;

use super::*;

/// Starts a server with a table.
fn start(flavor: Flavor, settings: &[&str]) -> Option<Mysql> {
    let server = Mysql::start(flavor, settings)?;
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v LONGBLOB)");
    Some(server)
}

fn gtid_kind(flavor: Flavor) -> u8 {
    match flavor {
        Flavor::Mysql => kind::GTID,
        Flavor::Mariadb => kind::MARIADB_GTID,
    }
}

/// Behind all that was written, by GTID.
fn gtids(server: &Mysql, flavor: Flavor) -> Start {
    match flavor {
        Flavor::Mysql => {
            let set = server.sql("SELECT @@GLOBAL.gtid_executed").replace('\n', "");
            Start::Gtids(set.parse().unwrap())
        }
        Flavor::Mariadb => {
            let position = server.sql("SELECT @@GLOBAL.gtid_binlog_pos");
            Start::MariaDbGtids(position.trim().parse().unwrap())
        }
    }
}

#[tokio::test]
async fn m18_the_log_is_read_by_gtids_and_by_position() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &[]) else { return };
        server.sql("INSERT INTO d.t VALUES (1, 'before')");
        for start in [gtids(&server, flavor), end_of_log(&server, flavor)] {
            server.sql("TRUNCATE d.t; INSERT INTO d.t VALUES (2, 'after')");
            let mut log = Log::open(&server, &Dump::new(7, start)).await.unwrap();
            let all = log.until(is(kind::XID)).await.unwrap();
            assert_eq!(all[0].kind(), kind::ROTATE);
            let found = kinds(&all);
            assert!(found.contains(&kind::FORMAT_DESCRIPTION), "{found:?}");
            let transactions = found.iter().filter(|found| **found == gtid_kind(flavor)).count();
            assert_eq!(transactions, 2, "the truncation and the row: {found:?}");
            let holds = |words: &[u8]| {
                let mut bodies = all.iter().filter_map(|next| match next {
                    Next::Event(_, body) => Some(body),
                    _ => None,
                });
                bodies.any(|body| body.windows(words.len()).any(|part| part == words))
            };
            assert!(holds(b"after") && !holds(b"before"));
        }
        // From the oldest file on, with the connection as one of the server's replicas.
        let first = Start::File { name: String::new(), position: 4 };
        let mut log = Log::open(&server, &Dump::new(77, first)).await.unwrap();
        log.until(is(kind::XID)).await.unwrap();
        let shown = match flavor {
            Flavor::Mysql => "SHOW REPLICAS",
            Flavor::Mariadb => "SHOW SLAVE HOSTS",
        };
        assert!(server.sql(shown).lines().any(|line| line.starts_with("77\t")));
    }
}

#[tokio::test]
async fn m20_an_idle_server_says_that_it_lives() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &[]) else { return };
        let start = end_of_log(&server, flavor);
        let dump = Dump { heartbeat: Duration::from_millis(500), ..Dump::new(7, start) };
        let mut log = Log::open(&server, &dump).await.unwrap();
        let is_heartbeat =
            |next: &Next| [kind::HEARTBEAT, kind::HEARTBEAT_V2].contains(&next.kind());
        log.until(is_heartbeat).await.unwrap();
        let began = Instant::now();
        for _ in 0..3 {
            log.until(is_heartbeat).await.unwrap();
        }
        let took = began.elapsed();
        assert!(took > Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    }
}

#[tokio::test]
async fn m26_large_events_are_joined_and_those_above_the_limit_passed() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &["max-allowed-packet=64M"]) else { return };
        let start = end_of_log(&server, flavor);
        server.sql(
            "INSERT INTO d.t VALUES (1, REPEAT('x', 40000000)); INSERT INTO d.t VALUES (2, 'small')",
        );
        let is_rows = |next: &Next| matches!(next.kind(), kind::WRITE_ROWS_V1 | kind::WRITE_ROWS);
        let mut log = Log::open(&server, &Dump::new(7, start.clone())).await.unwrap();
        let Some(Next::Event(header, body)) = log.until(is_rows).await.unwrap().pop() else {
            panic!("no rows");
        };
        assert!(header.size > 40_000_000 && body.len() > 40_000_000);
        assert_eq!(body.iter().filter(|byte| **byte == b'x').count(), 40_000_000);
        assert!(matches!(log.until(is_rows).await.unwrap().pop(), Some(Next::Event(..))));

        let dump = Dump { max_event: 1_000_000, ..Dump::new(8, start) };
        let mut log = Log::open(&server, &dump).await.unwrap();
        let Some(Next::Oversized(_, size)) = log.until(is_rows).await.unwrap().pop() else {
            panic!("it was held");
        };
        assert_eq!(size, u64::from(header.size));
        let small = log.until(is_rows).await.unwrap();
        assert_eq!(small[0].kind(), kind::XID, "what follows is in order");
    }
}

#[tokio::test]
async fn m19_a_second_reader_of_one_server_id_ends_the_first() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &[]) else { return };
        let start = end_of_log(&server, flavor);
        let dump = Dump { heartbeat: Duration::from_millis(200), ..Dump::new(7, start) };
        let mut first = Log::open(&server, &dump).await.unwrap();
        first.until(is(kind::FORMAT_DESCRIPTION)).await.unwrap();
        let mut second = Log::open(&server, &dump).await.unwrap();
        second.until(is(kind::FORMAT_DESCRIPTION)).await.unwrap();
        let error = first.error().await;
        assert_eq!((error.code().0, error.class()), ("RT2620", Class::Fatal), "{error}");
        server.sql("INSERT INTO d.t VALUES (1, 'second')");
        second.until(is(kind::XID)).await.unwrap();
    }
}

#[tokio::test]
async fn m10_m22_what_the_server_does_not_have_is_named() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &[]) else { return };
        let (by_gtid, by_file) = (gtids(&server, flavor), end_of_log(&server, flavor));
        server.sql("INSERT INTO d.t VALUES (1, ''); FLUSH BINARY LOGS; FLUSH BINARY LOGS");
        let last = server.binlogs().pop().unwrap();
        let last = last.file_name().unwrap().to_str().unwrap();
        // MariaDB keeps a file until its background thread has marked that nobody needs it.
        while server.binlogs().len() > 1 {
            server.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
        }
        let ahead = match flavor {
            Flavor::Mysql => {
                let uuid = server.sql("SELECT @@server_uuid");
                Start::Gtids(format!("{}:1-1000", uuid.trim()).parse().unwrap())
            }
            Flavor::Mariadb => Start::MariaDbGtids("0-1-1000".parse().unwrap()),
        };
        let at = |position| Start::File { name: last.to_owned(), position };
        for (start, code) in [
            (by_gtid, "RT2619"),
            (by_file, "RT2619"),
            (at(100_000_000), "RT2621"),
            (at(5_000_000_000), if flavor == Flavor::Mysql { "RT2621" } else { "RT2627" }),
            (ahead, "RT2622"),
        ] {
            let shown = format!("{start:?}");
            let error = match Log::open(&server, &Dump::new(7, start)).await {
                Ok(log) => log.error().await,
                Err(error) => error,
            };
            assert_eq!((error.code().0, error.class()), (code, Class::Fatal), "{shown}: {error}");
        }
    }
}

#[tokio::test]
async fn a_dump_that_ends_ends_and_a_log_without_checksums_is_read() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &["binlog-checksum=NONE"]) else { return };
        server.sql("INSERT INTO d.t VALUES (1, '')");
        let start = Start::File { name: String::new(), position: 4 };
        let dump = Dump { ends: true, ..Dump::new(7, start) };
        let mut log = Log::open(&server, &dump).await.unwrap();
        let all = log.until(|next| *next == Next::End).await.unwrap();
        assert!(kinds(&all).contains(&kind::XID), "{:?}", kinds(&all));
        assert_eq!(log.stream.read().await.unwrap(), 0);
        assert_eq!(log.stream.next().unwrap(), None);
    }
}

#[tokio::test]
async fn a_killed_stream_and_a_server_that_stops_are_transient() {
    for flavor in Flavor::ALL {
        let Some(server) = start(flavor, &[]) else { return };
        let url = server.url();
        let dump = Dump::new(7, end_of_log(&server, flavor));
        let connection = BinlogConnection::connect(&options(url)).await.unwrap();
        let id = connection.greeting().connection_id;
        let stream = connection.dump(&dump).await.unwrap();
        let format = Format::initial(true);
        let mut log = Log { stream, format };
        log.until(is(kind::FORMAT_DESCRIPTION)).await.unwrap();
        server.sql(&format!("KILL {id}"));
        let error = log.error().await;
        assert_eq!(error.class(), Class::Transient, "{error}");
        let mut log = Log::open(&server, &dump).await.unwrap();
        log.until(is(kind::FORMAT_DESCRIPTION)).await.unwrap();
        server.sql("SHUTDOWN");
        let error = log.error().await;
        assert_eq!(error.class(), Class::Transient, "{error}");
        let error = BinlogConnection::connect(&options(url)).await.unwrap_err();
        assert_eq!((error.code().0, error.class()), ("RT2601", Class::Transient), "{error}");
    }
}
