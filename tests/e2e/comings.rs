//! Servers that come and go, and secrets that are exchanged while a process runs.

use std::fs;

use rowtide_testkit::{Postgres, postgres_versions};

use crate::host::{Options, Setup, sql, value};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";
/// Ends every connection of the process, as a failover or a proxy does.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'rowtide'";

/// A password that is changed at the server first and in its file later: refused for a while, and
/// taken up without a restart of the process.
#[test]
fn h75_an_exchanged_password_is_taken_up() {
    for version in postgres_versions() {
        let arguments = ["--auth", "scram-sha-256", "--password", "old"];
        let Some(server) = Postgres::start(&version, &arguments) else { return };
        sql(&server, TABLE);
        let setup = Setup::new();
        fs::write(setup.path("password"), "old\n").unwrap();
        setup.write(&Options {
            url: server.url(),
            source: "      password: ${file:password}\n",
            sink: setup.jsonl(),
            connector: "",
        });
        let mut host = setup.first_start();
        sql(&server, "INSERT INTO t VALUES (1)");
        host.until("the first event is there", || setup.count() == 1);
        sql(&server, "ALTER ROLE postgres PASSWORD 'new'; INSERT INTO t VALUES (2)");
        host.until("a stream goes on with its old login", || setup.count() == 2);
        sql(&server, CUT);
        host.until_logged("RT2104");
        sql(&server, "INSERT INTO t VALUES (3)");
        fs::write(setup.path("password"), "new\n").unwrap();
        host.until("the new password is taken up", || setup.count() == 3);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        let log = host.log();
        assert!(!log.contains("\"old\"") && !log.contains("\"new\""), "{log}");
    }
}

/// The same for the authorities that the server's certificate is checked against, and for our own
/// certificate.
#[test]
fn h75_exchanged_certificates_are_taken_up() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["--tls", "--client-cert"]) else { return };
        sql(&server, TABLE);
        let setup = Setup::new();
        let place = |from: &str, to: &str| {
            fs::copy(from, setup.path(to)).unwrap();
        };
        place(server.ca(), "ca.crt");
        place(server.client_cert(), "client.crt");
        place(server.client_key(), "client.key");
        let url = format!(
            "postgres://postgres@localhost:{}/postgres?sslmode=verify-full&sslrootcert=ca.crt\
             &sslcert=client.crt&sslkey=client.key",
            server.port()
        );
        setup.write(&Options { url: &url, source: "", sink: setup.jsonl(), connector: "" });
        let mut host = setup.first_start();
        place(server.other_ca(), "ca.crt");
        sql(&server, CUT);
        host.until_logged("RT2103");
        fs::write(setup.path("client.crt"), "torn").unwrap();
        place(server.ca(), "ca.crt");
        host.until_logged("RT2006");
        place(server.client_cert(), "client.crt");
        sql(&server, "INSERT INTO t VALUES (1)");
        host.until("the renewed files are taken up", || setup.count() == 1);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
    }
}

/// What was never good is refused at once, and not tried for ever.
#[test]
fn h75_a_password_that_was_never_good_ends_the_connector() {
    let Some(server) = Postgres::start("18", &["--auth", "scram-sha-256"]) else { return };
    let setup = Setup::new();
    fs::write(setup.path("password"), "wrong\n").unwrap();
    setup.write(&Options {
        url: server.url(),
        source: "      password: ${file:password}\n",
        sink: setup.jsonl(),
        connector: "",
    });
    let (status, log) = setup.run_to_end();
    assert!(status == Some(3) && log.contains("RT2104"), "{log}");
}

/// Hazard 16: two processes for one slot: the second waits, names the first, and takes over from it
/// where it was killed.
#[test]
fn h16_a_second_process_waits_for_the_slot_and_takes_over() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["wal_sender_timeout=5s"]) else { return };
        sql(&server, TABLE);
        let (first, second) = (Setup::to_files(&server), Setup::to_files(&server));
        let mut host = first.first_start();
        sql(&server, "INSERT INTO t VALUES (1)");
        host.until("the first event is there", || first.count() == 1);
        let waiting = "SELECT count(*) FROM pg_replication_slots WHERE active";
        let reader = "SELECT active_pid FROM pg_replication_slots";
        let pid = value(&server, reader);
        let mut waits = second.start();
        waits.until_logged("RT2118");
        waits.until_logged(&format!("process {pid}"));
        sql(&server, "INSERT INTO t VALUES (2)");
        host.until("the first goes on", || first.count() == 2);
        let position =
            "SELECT confirmed_flush_lsn = pg_current_wal_lsn() FROM pg_replication_slots";
        host.until("all is confirmed", || value(&server, position) == "t");
        assert_eq!((second.count(), value(&server, waiting).as_str()), (0, "1"), "{version}");
        host.kill();
        sql(&server, "INSERT INTO t VALUES (3)");
        waits.until("the second took over", || second.count() == 1);
        assert_ne!(value(&server, reader), pid);
        let ids: Vec<_> =
            second.events()["shop.public.t"].iter().map(|e| e["after"]["id"].clone()).collect();
        assert_eq!(ids, [3], "{version}");
        assert_eq!(waits.stop(), Some(0), "{}", waits.log());
    }
}
