//! The connection against real servers: every way to log in, every kind of TLS, the refusals, and
//! the stream's two halves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use rowtide_postgres::wire::{
    Frame, ReplicationConnection, connect_stream, frame_at, sql_client, stop, tag,
};
use rowtide_postgres::{ConnectOptions, PostgresConfig};
use rowtide_sdk::{Class, Error};
use rowtide_testkit::{Postgres, postgres_versions};

fn options(url: &str, password: Option<&str>) -> ConnectOptions {
    let config: PostgresConfig = serde_json::from_value(serde_json::json!({
        "url": url, "password": password, "slot": "s", "publication": "p",
        "connect_timeout_seconds": 5,
    }))
    .unwrap();
    config.connect_options(Path::new("/")).unwrap()
}

/// Logs in both ways, which must agree on success; the error is the replication connection's.
async fn login(url: &str, password: Option<&str>) -> Result<(), Error> {
    let options = options(url, password);
    let sql = sql_client(&options).await;
    let mut replication = ReplicationConnection::connect(&options).await;
    // The process of a login that was refused counts as a WAL sender until it has ended.
    while replication.as_ref().is_err_and(|error| error.code().0 == "RT2109") {
        tokio::time::sleep(Duration::from_millis(20)).await;
        replication = ReplicationConnection::connect(&options).await;
    }
    match (&sql, &replication) {
        (Ok(client), Ok(_)) => {
            let row = client.query_one("SELECT current_setting('TimeZone')", &[]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), "UTC");
        }
        (Err(sql), Err(replication)) => {
            assert_eq!(sql.code(), replication.code(), "{sql} / {replication}");
        }
        (sql, replication) => panic!("{url}: {sql:?} but {replication:?}"),
    }
    replication.map(drop)
}

async fn refused(url: &str, password: Option<&str>, code: &str, class: Class) -> Error {
    let error = login(url, password).await.unwrap_err();
    assert_eq!((error.code().0, error.class()), (code, class), "{url}: {error}");
    assert!(!error.to_string().contains("geheim"), "{error}");
    error
}

#[tokio::test]
async fn h55_trust_over_tcp_and_unix_socket_with_pinned_settings() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let admin = server.client("postgres").await;
        admin.batch_execute("CREATE DATABASE shop").await.unwrap();
        admin
            .batch_execute(
                "ALTER DATABASE shop SET datestyle = 'SQL, DMY';
                 ALTER DATABASE shop SET timezone = 'Asia/Tokyo';
                 ALTER DATABASE shop SET intervalstyle = 'sql_standard';
                 ALTER DATABASE shop SET bytea_output = 'escape';
                 ALTER DATABASE shop SET extra_float_digits = -15;
                 ALTER ROLE postgres SET client_encoding = 'LATIN1';
                 ALTER ROLE postgres SET search_path = 'public'",
            )
            .await
            .unwrap();
        let tcp = format!("postgres://postgres@127.0.0.1:{}/shop", server.port());
        let (socket, port) = (server.socket(), server.port());
        let unix = format!("postgres://postgres@/shop?host={socket}&port={port}");
        for url in [tcp, unix] {
            login(&url, None).await.unwrap();
            let mut connection =
                ReplicationConnection::connect(&options(&url, None)).await.unwrap();
            let identity = connection.identity().clone();
            assert_eq!(identity.database, "shop");
            assert_eq!(identity.server_version / 10_000, version.parse::<u32>().unwrap());
            assert!(identity.system.parse::<u64>().is_ok() && identity.timeline == 1);
            let sql = "SELECT 0.1::float4 + 0.2::float4, '\\x01'::bytea, now(), NULL, \
                       interval '1 mon -2 days 03:04', 'orders'::regclass";
            // The table is not on the path and the answer must say so; the connection survives.
            let error = connection.simple_query(sql).await.unwrap_err();
            assert_eq!(error.code().0, "RT2199", "{error}");
            let sql = sql.replace("'orders'", "'pg_class'");
            let row = connection.simple_query(&sql).await.unwrap().remove(0);
            assert_eq!(row[0].as_deref(), Some("0.3"));
            assert_eq!(row[1].as_deref(), Some("\\x01"));
            assert!(row[2].as_deref().unwrap().ends_with("+00"), "{row:?}");
            assert_eq!(row[3], None);
            assert_eq!(row[4].as_deref(), Some("1 mon -2 days +03:04:00"));
        }
    }
}

#[tokio::test]
async fn passwords_by_md5_and_scram() {
    for auth in ["md5", "scram-sha-256", "password"] {
        let Some(server) =
            Postgres::start("15", &["--auth", auth, "--password", "ge:h/eim p%40ss"])
        else {
            return;
        };
        let url = server.url();
        login(url, Some("ge:h/eim p%40ss")).await.unwrap();
        let in_url = url.replace("postgres@", "postgres:ge%3Ah%2Feim%20p%2540ss@");
        login(&in_url, None).await.unwrap();
        refused(url, Some("geheim"), "RT2104", Class::Fatal).await;
        refused(url, None, "RT2104", Class::Fatal).await;
        let bound = format!("{url}?channel_binding=require");
        refused(&bound, Some("ge:h/eim p%40ss"), "RT2106", Class::Fatal).await;
    }
}

#[tokio::test]
async fn tls_is_verified_as_far_as_sslmode_says() {
    for version in postgres_versions() {
        let args = ["--tls", "--auth", "scram-sha-256", "--password", "geheim"];
        let Some(server) = Postgres::start(&version, &args) else { return };
        let (port, ca, other) = (server.port(), server.ca(), server.other_ca());
        let url =
            |host: &str, query: &str| format!("postgres://postgres@{host}:{port}/postgres?{query}");
        let password = Some("geheim");
        for (host, query) in [
            ("127.0.0.1", "sslmode=prefer".to_owned()),
            ("127.0.0.1", "sslmode=require".to_owned()),
            ("127.0.0.1", "sslmode=require&channel_binding=require".to_owned()),
            ("127.0.0.1", "sslmode=require&channel_binding=disable".to_owned()),
            ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
            ("127.0.0.2", format!("sslmode=verify-ca&sslrootcert={ca}")),
            ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}")),
            ("localhost", format!("sslmode=verify-full&sslrootcert={ca}&channel_binding=require")),
        ] {
            // The server listens on 127.0.0.1 alone; any other name of it is reached through a
            // proxy.
            let via = if host == "127.0.0.2" { proxy(port).await } else { port };
            let url = url(host, &query).replace(&port.to_string(), &via.to_string());
            login(&url, password).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for query in [
            format!("sslmode=verify-full&sslrootcert={other}"),
            format!("sslmode=verify-ca&sslrootcert={other}"),
            format!("sslmode=require&sslrootcert={other}"),
            "sslmode=verify-full".to_owned(),
        ] {
            let error = refused(&url("localhost", &query), password, "RT2103", Class::Fatal).await;
            assert!(error.remedy().unwrap().contains("sslrootcert"), "{error}");
        }
        // The certificate names localhost and 127.0.0.1.
        let via = proxy(port).await;
        let elsewhere = format!(
            "postgres://postgres@127.0.0.2:{via}/postgres?sslmode=verify-full&sslrootcert={ca}"
        );
        let error = refused(&elsewhere, password, "RT2103", Class::Fatal).await;
        assert!(error.remedy().unwrap().contains("subjectAltName"), "{error}");
        refused(&url("127.0.0.1", "sslmode=disable"), password, "RT2105", Class::Fatal).await;
        refused(&url("127.0.0.1", ""), Some("geheim2"), "RT2104", Class::Fatal).await;
        let no_file = url("localhost", "sslmode=verify-full&sslrootcert=/nonexistent.crt");
        refused(&no_file, password, "RT2006", Class::Fatal).await;
        // A server that presents exactly the trusted certificate is trusted.
        let own = server.data().join("server.crt");
        std::fs::copy(&own, server.folder().join("own.crt")).unwrap();
        let own = server.folder().join("own.crt");
        let pinned =
            url("localhost", &format!("sslmode=verify-full&sslrootcert={}", own.display()));
        login(&pinned, password).await.unwrap();
    }
}

/// Gives the server a self-signed certificate; the path of a copy.
async fn replace_certificate(server: &Postgres, how: &[&str]) -> String {
    let (cert, key) = (server.folder().join("own.crt"), server.folder().join("own.key"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "3", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(how)
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Written in place, so that owner and mode stay as the server demands them.
    std::fs::write(server.data().join("server.crt"), std::fs::read(&cert).unwrap()).unwrap();
    std::fs::write(server.data().join("server.key"), std::fs::read(&key).unwrap()).unwrap();
    let admin = server.client("postgres").await;
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The postmaster reads the files on its own time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cert.to_string_lossy().into_owned()
}

#[tokio::test]
async fn channel_binding_hashes_as_the_certificates_signature_does() {
    let args = ["--tls", "--auth", "scram-sha-256", "--password", "geheim"];
    let Some(server) = Postgres::start("15", &args) else { return };
    let base = format!("postgres://postgres@localhost:{}/postgres?sslmode=", server.port());
    for digest in ["-sha384", "-sha512"] {
        let root = replace_certificate(&server, &["-newkey", "rsa:2048", digest]).await;
        let url = format!("{base}verify-full&sslrootcert={root}&channel_binding=require");
        login(&url, Some("geheim")).await.unwrap_or_else(|error| panic!("{digest}: {error}"));
    }
    // For Ed25519 no binding is defined.
    let root = replace_certificate(&server, &["-newkey", "ed25519"]).await;
    let url = format!("{base}verify-full&sslrootcert={root}");
    login(&url, Some("geheim")).await.unwrap();
    let required = format!("{url}&channel_binding=require");
    refused(&required, Some("geheim"), "RT2106", Class::Fatal).await;
}

/// A port of 127.0.0.2 that leads to the server's port of 127.0.0.1.
async fn proxy(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let local = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    local
}

#[tokio::test]
async fn a_client_certificate_is_sent_and_a_missing_one_is_refused() {
    let Some(server) = Postgres::start("15", &["--client-cert"]) else { return };
    let base = format!(
        "postgres://postgres@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}",
        server.port(),
        server.ca()
    );
    let (cert, key) = (server.client_cert(), server.client_key());
    login(&format!("{base}&sslcert={cert}&sslkey={key}"), None).await.unwrap();
    refused(&base, None, "RT2104", Class::Fatal).await;
    // A certificate and a key that do not belong together; and one of an unknown authority.
    let (ca, other) = (server.ca(), server.other_ca());
    refused(&format!("{base}&sslcert={ca}&sslkey={key}"), None, "RT2006", Class::Fatal).await;
    let other_key = other.replace(".crt", ".key");
    let url = format!("{base}&sslcert={other}&sslkey={other_key}");
    refused(&url, None, "RT2103", Class::Fatal).await;
}

#[tokio::test]
async fn refusals_before_and_after_the_login_have_their_codes() {
    let hba = "host all nohba 127.0.0.1/32 reject";
    let Some(mut server) = Postgres::start("15", &["--hba", hba, "max_wal_senders=1"]) else {
        return;
    };
    let admin = server.client("postgres").await;
    admin.batch_execute("CREATE ROLE plain LOGIN; CREATE ROLE nohba LOGIN").await.unwrap();
    let port = server.port();
    let url = |user: &str, database: &str| format!("postgres://{user}@127.0.0.1:{port}/{database}");
    refused(&url("nobody", "postgres"), None, "RT2104", Class::Fatal).await;
    refused(&url("nohba", "postgres"), None, "RT2105", Class::Fatal).await;
    refused(&url("postgres", "nowhere"), None, "RT2108", Class::Fatal).await;
    let no_tls = format!("{}?sslmode=require", url("postgres", "postgres"));
    refused(&no_tls, None, "RT2102", Class::Fatal).await;

    let plain = options(&url("plain", "postgres"), None);
    let error = ReplicationConnection::connect(&plain).await.unwrap_err();
    assert_eq!(error.code().0, "RT2114", "{error}");
    assert!(error.remedy().unwrap().contains("ALTER ROLE \"plain\" REPLICATION"), "{error}");

    let super_user = options(&url("postgres", "postgres"), None);
    let _first = ReplicationConnection::connect(&super_user).await.unwrap();
    let error = ReplicationConnection::connect(&super_user).await.unwrap_err();
    assert_eq!((error.code().0, error.class()), ("RT2109", Class::Transient), "{error}");

    drop(admin);
    server.halt(false);
    refused(&url("postgres", "postgres"), None, "RT2101", Class::Transient).await;
    let nowhere = "postgres://u@no-such-host.invalid/db";
    refused(nowhere, None, "RT2101", Class::Transient).await;
    refused("postgres://u@/db?host=/nonexistent", None, "RT2101", Class::Transient).await;
    for (folder, is_there) in [("/nonexistent", false), ("/", true)] {
        let socket = options(&format!("postgres://u@/db?host={folder}"), None);
        let error = ReplicationConnection::connect(&socket).await.unwrap_err();
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("unix_socket_directories"), "{remedy}");
        assert!(remedy.contains(".s.PGSQL.5432") && !remedy.contains("firewall"), "{remedy}");
        assert_eq!(remedy.ends_with("is there"), is_there, "{remedy}");
    }
}

#[tokio::test]
async fn slots_publications_and_wal_level_have_their_codes() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["max_replication_slots=2"]) else { return };
        let options = options(server.url(), None);
        let mut connection = ReplicationConnection::connect(&options).await.unwrap();
        let create = |slot: &str| format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput");
        connection.simple_query(&create("one")).await.unwrap();
        connection.simple_query(&create("two")).await.unwrap();
        let error = connection.simple_query(&create("three")).await.unwrap_err();
        assert_eq!(error.code().0, "RT2117", "{error}");
        let start = |slot: &str| {
            format!(
                "START_REPLICATION SLOT {slot} LOGICAL 0/0 \
                 (proto_version '1', publication_names 'gone')"
            )
        };
        let error = connection.start_replication(&start("none")).await.unwrap_err();
        assert_eq!(error.code().0, "RT2119", "{error}");

        let connection = ReplicationConnection::connect(&options).await.unwrap();
        let (mut reader, _writer) = connection.start_replication(&start("one")).await.unwrap();
        let second = ReplicationConnection::connect(&options).await.unwrap();
        let error = second.start_replication(&start("one")).await.unwrap_err();
        assert_eq!((error.code().0, error.class()), ("RT2118", Class::Transient), "{error}");
        assert!(error.message().contains("PID"), "{error}");

        // The publication is looked for when the first change is decoded.
        let admin = server.client("postgres").await;
        admin.batch_execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await.unwrap();
        let mut buffer = Vec::with_capacity(64 * 1024);
        let error = loop {
            if let Some(body) = first_of(&buffer, tag::ERROR) {
                break rowtide_postgres::wire::server_error(&body, "streaming");
            }
            match reader.read_into(&mut buffer).await {
                Ok(_) => {}
                Err(error) => break error,
            }
            // PostgreSQL 18 warns about a missing publication instead of ending.
            if version == "18" {
                return;
            }
        };
        assert_eq!(error.code().0, "RT2121", "{error}");
    }
}

#[tokio::test]
async fn a_server_without_logical_wal_is_refused() {
    let Some(server) = Postgres::start("15", &["wal_level=replica"]) else { return };
    let mut connection =
        ReplicationConnection::connect(&options(server.url(), None)).await.unwrap();
    let error =
        connection.simple_query("CREATE_REPLICATION_SLOT s LOGICAL pgoutput").await.unwrap_err();
    assert_eq!((error.code().0, error.class()), ("RT2116", Class::Fatal), "{error}");
}

/// The body of the first whole message with this tag.
fn first_of(buffer: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let mut at = 0;
    while let Frame::Complete { tag, body, next } = frame_at(buffer, at).unwrap() {
        if tag == wanted {
            return Some(buffer[body].to_vec());
        }
        at = next;
    }
    None
}

/// How many whole CopyData messages with this first byte are in the buffer.
fn count_of(buffer: &[u8], kind: u8) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Frame::Complete { tag, body, next } = frame_at(buffer, at).unwrap() {
        assert_eq!(tag, tag::COPY_DATA);
        // An XLogData message has 24 bytes of its own before pgoutput's.
        let payload = &buffer[body];
        count += usize::from(payload[0] == b'w' && payload[25] == kind);
        at = next;
    }
    count
}

#[tokio::test]
async fn changes_stream_feedback_is_taken_and_the_slot_is_let_go() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["--tls", "wal_sender_timeout=1s"]) else {
            return;
        };
        let admin = server.client("postgres").await;
        admin
            .batch_execute(
                "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t",
            )
            .await
            .unwrap();
        let unix = format!(
            "postgres://postgres@/postgres?host={}&port={}",
            server.socket(),
            server.port()
        );
        let tls = format!("{}?sslmode=require", server.url());
        for (slot, url) in [("unix_slot", unix), ("tls_slot", tls)] {
            let mut connection =
                ReplicationConnection::connect(&options(&url, None)).await.unwrap();
            let sql = format!("CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput");
            connection.simple_query(&sql).await.unwrap();
            let sql = format!(
                "START_REPLICATION SLOT {slot} LOGICAL 0/0 \
                 (proto_version '1', publication_names 'p')"
            );
            let (mut reader, mut writer) = connection.start_replication(&sql).await.unwrap();
            let insert = "TRUNCATE t; INSERT INTO t SELECT i, repeat('x', 100) \
                          FROM generate_series(1, 20000) i";
            admin.batch_execute(insert).await.unwrap();
            let mut buffer = Vec::with_capacity(8 * 1024 * 1024);
            let mut feedback = tokio::time::interval(Duration::from_millis(100));
            let began = Instant::now();
            // Longer than wal_sender_timeout: feedback alone keeps the connection up.
            while count_of(&buffer, b'I') < 20_000 || began.elapsed() < Duration::from_secs(2) {
                tokio::select! {
                    read = reader.read_into(&mut buffer) => drop(read.unwrap()),
                    _ = feedback.tick() => writer.send_status(1, 0, 0, false).await.unwrap(),
                }
            }
            assert_eq!(count_of(&buffer, b'C'), 1);
            let row = admin.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await;
            let end = lsn(&row.unwrap().get::<_, String>(0));
            writer.send_status(end, end, end, false).await.unwrap();
            stop(reader, writer, Vec::new(), Duration::from_secs(5)).await;
            let query = format!(
                "SELECT active, confirmed_flush_lsn::text FROM pg_replication_slots \
                 WHERE slot_name = '{slot}'"
            );
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                let row = admin.query_one(&query, &[]).await.unwrap();
                if !row.get::<_, bool>(0) {
                    assert_eq!(lsn(&row.get::<_, String>(1)), end, "{slot}");
                    break;
                }
                assert!(Instant::now() < deadline, "{slot} is still active");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

#[tokio::test]
async fn a_killed_walsender_and_a_dead_server_are_transient() {
    let Some(mut server) = Postgres::start("15", &[]) else { return };
    let admin = server.client("postgres").await;
    admin.batch_execute("CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t").await.unwrap();
    let options = options(server.url(), None);
    let mut connection = ReplicationConnection::connect(&options).await.unwrap();
    connection.simple_query("CREATE_REPLICATION_SLOT s LOGICAL pgoutput").await.unwrap();
    let start = "START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'p')";
    let (mut reader, _writer) = connection.start_replication(start).await.unwrap();
    let kill = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots";
    admin.batch_execute(kill).await.unwrap();
    let mut buffer = Vec::with_capacity(64 * 1024);
    let ended = loop {
        if let Err(error) = reader.read_into(&mut buffer).await {
            break error;
        }
    };
    assert_eq!((ended.code().0, ended.class()), ("RT2111", Class::Transient), "{ended}");
    let refusal = first_of(&buffer, tag::ERROR).unwrap();
    let refusal = rowtide_postgres::wire::server_error(&refusal, "streaming");
    assert_eq!((refusal.code().0, refusal.class()), ("RT2110", Class::Transient), "{refusal}");

    let client = sql_client(&options).await.unwrap();
    drop(admin);
    server.halt(true);
    assert!(client.simple_query("SELECT 1").await.is_err());
}

/// A server that answers the first message with fixed bytes and then says nothing more.
async fn impostor(answer: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _request = stream.read(&mut request).await;
            let _answer = stream.write_all(answer).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    format!("postgres://u@127.0.0.1:{port}/db?sslmode=disable&connect_timeout=1")
}

#[tokio::test]
async fn h73_what_is_not_postgresql_is_told_apart_from_what_is_slow() {
    let table: [(&[u8], &str, Class); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "RT2113", Class::Fatal),
        (b"R\0\0\0\x02", "RT2113", Class::Fatal),
        (b"", "RT2101", Class::Transient),
        (
            b"E\0\0\0\x3fSFATAL\0C08P01\0Munsupported startup parameter: replication\0\0",
            "RT2107",
            Class::Fatal,
        ),
        // A login without a word about its settings.
        (b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", "RT2112", Class::Fatal),
    ];
    for (answer, code, class) in table {
        let options = options(&impostor(answer).await, None);
        let error = ReplicationConnection::connect(&options).await.unwrap_err();
        assert_eq!((error.code().0, error.class()), (code, class), "{error}");
    }
    let url = impostor(b"HTTP").await.replace("sslmode=disable", "sslmode=prefer");
    let error = connect_stream(&options(&url, None)).await.unwrap_err();
    assert_eq!(error.code().0, "RT2113", "{error}");
}
