//! `rowtide check --print-sql` and `--format json`: what is printed works as it stands.

use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::Value;

use crate::host::{Options, Setup, sql, value};

const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, note text);
    CREATE TABLE \"Odd \"\"Name\" (id int PRIMARY KEY);
    CREATE TABLE keyless (v int);
    CREATE TABLE tmp_x (id int PRIMARY KEY);
    CREATE TABLE part (id int PRIMARY KEY) PARTITION BY LIST (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
    CREATE VIEW v AS SELECT 1 AS one";

/// The statements of a script: what stands between empty lines, without comments.
fn statements(script: &str) -> Vec<String> {
    let code = |part: &str| -> String {
        let lines = part.lines().filter(|line| !line.trim_start().starts_with("--"));
        lines.collect::<Vec<_>>().join("\n")
    };
    script.split("\n\n").map(code).filter(|part| !part.trim().is_empty()).collect()
}

fn print(setup: &Setup, provider: &str) -> String {
    let output = setup.output(&["check", "--print-sql", provider]);
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{script}");
    assert!(!script.contains("hunter2"), "{script}");
    script
}

fn run(server: &Postgres, script: &str) {
    for statement in statements(script) {
        sql(server, &statement);
    }
}

fn write(setup: &Setup, server: &Postgres, management: &str) {
    let url = format!("postgres://cdc@127.0.0.1:{}/postgres", server.port());
    let source =
        format!("      password: hunter2hunter2\n      publication_management: {management}\n");
    setup.write(&Options { url: &url, source: &source, sink: setup.jsonl(), connector: "" });
    let path = setup.path("rowtide.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    let tables = "{ include: [\"public.*\"] }";
    let excluding = "{ include: [\"public.*\"], exclude: [\"public.tmp_*\"] }";
    std::fs::write(&path, config.replace(tables, excluding)).unwrap();
}

const PUBLISHED: &str = "SELECT string_agg(tablename, ',' ORDER BY tablename COLLATE \"C\") \
    FROM pg_publication_tables WHERE pubname = 'e2e'";

/// On a fresh server: nothing is prepared, not even the role, so that it cannot be asked.
#[test]
fn the_printed_sql_prepares_a_fresh_server() {
    for version in postgres_versions() {
        let arguments = ["--auth", "scram-sha-256", "wal_level=replica"];
        let Some(mut server) = Postgres::start(&version, &arguments) else { continue };
        sql(&server, TABLES);
        let setup = Setup::new();
        write(&setup, &server, "external");
        let (status, text) = checked(&setup);
        assert_eq!(status, Some(3), "{text}");

        let script = print(&setup, "self");
        assert!(script.contains("RT2104") && script.contains("wal_level"), "{script}");
        run(&server, &script);
        run(&server, &script);
        assert_eq!(value(&server, PUBLISHED), "Odd \"Name,orders,part");
        sql(&server, "ALTER PUBLICATION e2e DROP TABLE orders");
        run(&server, &script);
        server.halt(false);
        server.resume();
        sql(&server, "ALTER ROLE cdc PASSWORD 'hunter2hunter2'");
        assert_eq!(value(&server, PUBLISHED), "Odd \"Name,orders,part");
        let (status, text) = checked(&setup);
        assert_eq!(status, Some(0), "{version}: {text}");
        assert!(text.contains("warning RT2209") && text.contains("public.keyless"), "{text}");

        let mut host = setup.first_start();
        sql(
            &server,
            "INSERT INTO orders VALUES (1, 'a'); INSERT INTO part VALUES (1);
             INSERT INTO \"Odd \"\"Name\" VALUES (1); UPDATE keyless SET v = 1; DELETE FROM orders",
        );
        host.until("every event is there", || setup.count() == 4);
        assert_eq!(host.stop(), Some(0), "{}", host.log());

        // Now that it can be asked, it is not told to make what is there.
        let script = print(&setup, "self");
        assert!(script.contains("It is there, and sends what is needed"), "{script}");
        assert!(!script.contains("CREATE PUBLICATION"), "{script}");
        run(&server, &script);
        sql(
            &server,
            "ALTER PUBLICATION e2e SET (publish = 'insert', publish_via_partition_root = false);
             ALTER PUBLICATION e2e DROP TABLE orders",
        );
        let lacking = print(&setup, "self");
        run(&server, &lacking);
        run(&server, &lacking);
        assert_eq!(value(&server, PUBLISHED), "Odd \"Name,orders,part");
        let sent = "SELECT concat_ws(',', pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot)
            FROM pg_publication WHERE pubname = 'e2e'";
        assert_eq!(value(&server, sent), "t,t,t,t,t");
        let failover = "-- SELECT pg_create_logical_replication_slot(E'e2e', 'pgoutput', false, \
                        false, true);";
        assert_eq!(script.contains(failover), version.as_str() >= "17", "{script}");

        // Where it is not, the tables are named.
        sql(&server, "DROP PUBLICATION e2e");
        let script = print(&setup, "self");
        assert!(script.contains("It does: wal_level is logical"), "{script}");
        assert!(script.contains("ONLY \"public\".\"Odd \"\"Name\""), "{script}");
        assert!(script.contains("-- ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL"));
        run(&server, &script);
        run(&server, &script);
        assert_eq!(value(&server, PUBLISHED), "Odd \"Name,orders,part");
        privileges(&server);
    }
}

const READ_BACK: &str = "
    CREATE SCHEMA app;
    CREATE TABLE app.part (id int PRIMARY KEY, note text) PARTITION BY LIST (id);
    CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES IN (1);
    CREATE TABLE app.secured (id int PRIMARY KEY, note text);
    CREATE TABLE app.other (id int PRIMARY KEY, note text);
    CREATE TABLE app.tmp_x (id int PRIMARY KEY, note text);
    CREATE TABLE app.keyless (id int, note text);
    CREATE TABLE app.whole (id int PRIMARY KEY, note text);
    ALTER TABLE app.whole REPLICA IDENTITY FULL;
    CREATE TABLE \"Odd \"\"Name\" (id int PRIMARY KEY, note text);
    CREATE TABLE orders (id int PRIMARY KEY, note text)";

/// What is read back is granted, and nothing beside it, whether or not the server can be asked.
#[test]
fn the_printed_sql_grants_what_is_read_back() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["--auth", "scram-sha-256"]) else {
            continue;
        };
        sql(&server, READ_BACK);
        let setup = Setup::new();
        let url = format!("postgres://cdc@127.0.0.1:{}/postgres", server.port());
        let source = "      password: hunter2hunter2\n      publication_management: external\n";
        let connector = "    tables:\n      app.*: { unchanged: reselect }\n      \
                         app.other: { unchanged: omit }\n      public.Odd*: { unchanged: reselect }\n";
        setup.write(&Options { url: &url, source, sink: setup.jsonl(), connector });
        let path = setup.path("rowtide.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        let tables = "{ include: [\"public.*\"] }";
        let selected = "{ include: [\"*.*\"], exclude: [\"*.tmp_*\"] }";
        std::fs::write(&path, config.replace(tables, selected)).unwrap();
        let readable = "SELECT string_agg(relname, ',' ORDER BY relname COLLATE \"C\")
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname IN ('app', 'public') AND relkind IN ('r', 'p')
            AND has_schema_privilege('cdc', n.oid, 'USAGE')
            AND has_table_privilege('cdc', c.oid, 'SELECT')";
        let read_back = "Odd \"Name,part,secured";

        // The role does not exist yet.
        let script = print(&setup, "self");
        assert!(!script.contains("no row of any table is granted"), "{script}");
        run(&server, &script);
        run(&server, &script);
        sql(&server, "ALTER ROLE cdc PASSWORD 'hunter2hunter2'");
        assert_eq!(value(&server, readable), read_back, "{version}");
        let (status, text) = checked(&setup);
        assert!(status == Some(0) && !text.contains("RT2323"), "{version}: {text}");

        sql(&server, "DROP OWNED BY cdc; DROP PUBLICATION e2e");
        let (status, text) = checked(&setup);
        assert!(status == Some(3) && text.matches("error RT2323").count() == 3, "{text}");
        let script = print(&setup, "self");
        for part in [
            "\nGRANT USAGE ON SCHEMA \"app\", \"public\" TO \"cdc\";\n",
            "\n-- REVOKE USAGE ON SCHEMA \"app\", \"public\" FROM \"cdc\";\n",
            "step 3), and no other row is granted to it.\n",
        ] {
            assert!(script.contains(part), "{part} is not in\n{script}");
        }
        assert!(!script.contains("BYPASSRLS"), "{script}");
        run(&server, &script);
        assert_eq!(value(&server, readable), read_back, "{version}");
        let (status, text) = checked(&setup);
        assert!(status == Some(0) && !text.contains("RT2323"), "{version}: {text}");

        // Of a table that the publication does not send nothing is read back.
        sql(
            &server,
            "REVOKE SELECT ON app.secured FROM cdc; ALTER PUBLICATION e2e DROP TABLE app.secured",
        );
        let (_, text) = checked(&setup);
        assert!(!text.contains("RT2323"), "{version}: {text}");
        sql(
            &server,
            "GRANT SELECT ON app.secured TO cdc; ALTER PUBLICATION e2e ADD TABLE ONLY app.secured",
        );

        // What would let the role read past row security holds for more: it is only named.
        sql(&server, "ALTER TABLE app.secured ENABLE ROW LEVEL SECURITY");
        let script = print(&setup, "self");
        assert!(script.contains("hides rows of \"app\".\"secured\" from"), "{script}");
        let line = script.lines().find(|line| line.contains("BYPASSRLS")).unwrap();
        sql(&server, line.strip_prefix("-- ").unwrap());
        let (_, text) = checked(&setup);
        assert!(!text.contains("RT2323"), "{version}: {text}");
        // What takes it back does.
        let back = script.split("with Rowtide stopped:\n").nth(1).unwrap();
        for line in back.lines().filter(|line| !line.contains("replication_slot")) {
            sql(&server, line.strip_prefix("-- ").unwrap());
        }
        assert_eq!(value(&server, "SELECT count(*) FROM pg_roles WHERE rolname = 'cdc'"), "0");
    }
}

/// The role can do nothing but what the stream needs.
fn privileges(server: &Postgres) {
    let rights = "SELECT concat_ws(',', rolsuper, rolcreatedb, rolcreaterole, rolbypassrls,
        has_database_privilege('cdc', 'postgres', 'CREATE'),
        has_table_privilege('cdc', 'orders', 'SELECT'),
        has_table_privilege('cdc', 'orders', 'INSERT'),
        pg_has_role('cdc', 'pg_monitor', 'MEMBER')) FROM pg_roles WHERE rolname = 'cdc'";
    assert_eq!(value(server, rights), "f,f,f,f,f,f,f,f");
}

/// Where the role would look after the publication, one that it does not own is still enough.
#[test]
fn the_printed_sql_is_enough_for_a_publication_that_stays_as_it_is() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, TABLES);
    let setup = Setup::new();
    write(&setup, &server, "auto");
    run(&server, &print(&setup, "self"));
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(0), "{text}");
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO orders VALUES (1, 'a')");
    host.until("the event is there", || setup.count() == 1);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
}

/// The same where a provider runs the server, as far as SQL goes.
#[test]
fn the_printed_sql_of_providers_runs() {
    for (provider, words) in [
        ("rds", "rds.logical_replication = 1"),
        ("cloudsql", "cloudsql.logical_decoding"),
        ("azure", "azure.replication_support"),
    ] {
        let Some(server) = Postgres::start("15", &["wal_level=replica"]) else { return };
        sql(&server, TABLES);
        let setup = Setup::new();
        write(&setup, &server, "external");
        let script = print(&setup, provider);
        assert!(script.contains(words) && !script.contains("ALTER SYSTEM"), "{script}");
        sql(&server, "CREATE ROLE rds_replication");
        run(&server, &script);
        assert_eq!(value(&server, PUBLISHED), "Odd \"Name,orders,part");
        let right = "SELECT rolreplication OR pg_has_role('cdc', 'rds_replication', 'MEMBER') \
                     FROM pg_roles WHERE rolname = 'cdc'";
        assert_eq!(value(&server, right), "t", "{provider}");
    }
}

fn checked(setup: &Setup) -> (Option<i32>, String) {
    let output = setup.output(&["check"]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn json(setup: &Setup) -> (Option<i32>, Value) {
    let output = setup.output(&["check", "--format", "json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn findings_are_one_json_document() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    sql(&server, TABLES);
    let setup = Setup::to_files(&server);
    let (status, found) = json(&setup);
    assert_eq!((status, &found["exit"], &found["errors"]), (Some(0), &0.into(), &0.into()));
    let findings = found["findings"].as_array().unwrap();
    let keyless = findings.iter().find(|found| found["code"] == "RT2209").unwrap();
    assert_eq!(keyless["where"], "table public.keyless");
    assert_eq!((&keyless["connector"], &keyless["side"]), (&"shop".into(), &"source".into()));
    assert_eq!(keyless["level"], "warning");
    assert!(keyless["remedy"].as_str().unwrap().contains("ALTER TABLE"));

    sql(&server, "CREATE PUBLICATION e2e FOR TABLE orders WITH (publish = 'insert')");
    let external = Setup::new();
    write(&external, &server, "external");
    sql(&server, "CREATE ROLE cdc LOGIN REPLICATION");
    let (status, found) = json(&external);
    assert_eq!((status, &found["exit"], &found["errors"]), (Some(3), &3.into(), &1.into()));

    // Problems of the configuration have the same form.
    let path = external.path("rowtide.yaml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("slot: e2e", "slot: E2E")).unwrap();
    let (status, found) = json(&external);
    assert_eq!((status, &found["exit"]), (Some(2), &2.into()));
    assert_eq!(found["findings"][0]["where"], "connectors.shop.source.slot");
}
