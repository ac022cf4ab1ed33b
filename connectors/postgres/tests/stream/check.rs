//! What `check` finds on real servers, each finding with its place and without a side effect.

use rowtide_sdk::{Finding, Severity};
use rowtide_testkit::{Postgres, not_applicable, postgres_versions};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{PATIENCE, Setup};

/// The findings of a code, as `level place: message`.
pub(crate) fn of(findings: &[Finding], code: &str) -> Vec<String> {
    let of_code = findings.iter().filter(|finding| finding.code.0 == code);
    of_code
        .map(|found| {
            let place = found.place.as_deref().unwrap_or_default();
            format!("{} {place}: {}", found.severity.name(), found.message)
        })
        .collect()
}

/// The only finding of a code.
pub(crate) fn one(findings: &[Finding], code: &str) -> String {
    let found = of(findings, code);
    assert_eq!(found.len(), 1, "{code}: {findings:#?}");
    found.into_iter().next().unwrap()
}

fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

/// Everything that `check` might have changed, as text.
async fn state(sql: &Client) -> String {
    let query = "SELECT (SELECT string_agg(p::text, ';') FROM pg_publication p)
        || '|' || (SELECT count(*) FROM pg_publication_rel)
        || '|' || (SELECT count(*) FROM pg_replication_slots)
        || '|' || (SELECT count(*) FROM pg_stat_replication)
        || '|' || (SELECT string_agg(r::text, ';' ORDER BY oid) FROM pg_roles r)
        || '|' || (SELECT count(*) FROM pg_class)";
    sql.query_one(query, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

async fn major(sql: &Client) -> i32 {
    let query = "SELECT current_setting('server_version_num')::int / 10000";
    sql.query_one(query, &[]).await.unwrap().get(0)
}

/// A set-up whose role is not a superuser.
pub(crate) fn as_role(setup: Setup, server: &Postgres, role: &str, database: &str) -> Setup {
    let url = format!("postgres://{role}@127.0.0.1:{}/{database}", server.port());
    setup.set("url", json!(url))
}

const MESSY: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, amount numeric, ratio float8, note text, hidden text,
        price numeric(10,2), country char(2), flags bit(3),
        g text GENERATED ALWAYS AS (note || '!') STORED);
    CREATE TABLE secret (id int PRIMARY KEY);
    ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
    CREATE TABLE keyless (v text);
    CREATE TABLE whole (id int PRIMARY KEY, note text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
    CREATE VIEW v AS SELECT 1 AS one;
    CREATE MATERIALIZED VIEW mv AS SELECT 1 AS one;
    CREATE ROLE cdc LOGIN REPLICATION CONNECTION LIMIT 2 VALID UNTIL '2001-01-01';
    ALTER ROLE cdc SET statement_timeout = '5s';
    ALTER DATABASE shop SET lock_timeout = '3s';
    CREATE PUBLICATION shop FOR TABLE t, secret, whole WITH (publish = 'insert, update')";

#[tokio::test]
async fn everything_that_hurts_is_listed_in_one_pass() {
    for version in postgres_versions() {
        let mut settings = vec!["max_slot_wal_keep_size=64MB", "wal_sender_timeout=1s"];
        let is_18 = version.as_str() >= "18";
        if is_18 {
            settings.push("idle_replication_slot_timeout=1d");
        }
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", MESSY).await;
        sql.batch_execute("SELECT pg_create_physical_replication_slot('standby', true)")
            .await
            .unwrap();
        let setup = as_role(Setup::new(&server, "shop"), &server, "cdc", "shop");
        let before = state(&sql).await;
        let findings = setup.check().await;
        assert_eq!(state(&sql).await, before, "{version}");

        assert_eq!(errors(&findings).len(), 1, "{findings:#?}");
        assert!(one(&findings, "RT2221").starts_with("error publication shop: "));
        assert!(one(&findings, "RT2209").starts_with("warning table public.keyless: "));
        let budget = one(&findings, "RT2378");
        assert!(budget.contains("1 of 20") && budget.contains("standby (idle, holds back"));
        assert!(one(&findings, "RT2119").starts_with("info slot shop: "));
        let settings = of(&findings, "RT2217");
        assert!(settings[0].starts_with("warning setting wal_sender_timeout: "), "{settings:?}");
        assert!(settings[1].contains("max_slot_wal_keep_size is 64 MB"), "{settings:?}");
        let idle = settings.get(2).is_some_and(|found| {
            found.starts_with("warning setting idle_replication_slot_timeout: ")
                && found.contains("is 1d")
        });
        assert_eq!(idle, is_18, "{settings:?}");
        let role = of(&findings, "RT2377");
        let wanted = ["2 connections", "has ended", "lock_timeout = 3s", "statement_timeout = 5s"];
        assert_eq!(role.len(), wanted.len(), "{role:?}");
        for (found, words) in role.iter().zip(wanted) {
            assert!(found.contains(" role cdc: ") && found.contains(words), "{found}");
        }
        assert!(one(&findings, "RT2371").starts_with("warning table public.secret: "));
        let precision = one(&findings, "RT2373");
        for words in
            ["info table public.t: ", "id (integers", "amount, price (decimals", "ratio (floats"]
        {
            assert!(precision.contains(words), "{precision}");
        }
        let unchanged = of(&findings, "RT2372");
        // Not the table without an identity, whose updates are not logged.
        assert_eq!(unchanged.len(), 1, "{unchanged:?}");
        let unchanged = &unchanged[0];
        assert!(
            unchanged.starts_with("info table public.t: ") && unchanged.ends_with(": amount, note")
        );
        assert!(one(&findings, "RT2374").ends_with("public.t are not in the log: g"));
        let unlogged = of(&findings, "RT2370");
        assert_eq!(unlogged.len(), 3, "{unlogged:?}");
        assert!(errors(&findings).iter().all(|found| found.remedy.is_some()));
    }
}

/// Slots and senders that others hold, and a transaction that a slot would wait for.
#[tokio::test]
async fn slots_and_open_transactions_of_others_are_named() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["max_replication_slots=1"]) else { return };
        let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop");
        let other = server.client("postgres").await;
        other.batch_execute("BEGIN; CREATE TABLE x ()").await.unwrap();
        let blocked = one(&setup.check().await, "RT2206");
        assert!(
            blocked.starts_with("warning slot shop: ") && blocked.contains("pid "),
            "{blocked}"
        );
        other.batch_execute("COMMIT").await.unwrap();
        assert!(of(&setup.check().await, "RT2206").is_empty());

        sql.batch_execute("SELECT pg_create_physical_replication_slot('standby')").await.unwrap();
        let findings = setup.check().await;
        let taken = one(&findings, "RT2117");
        assert!(taken.starts_with("error server: ") && taken.contains("standby (idle)"), "{taken}");
    }
}

#[tokio::test]
async fn h28_a_table_without_an_identity_is_never_published_by_us() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "
            CREATE TABLE t (id int PRIMARY KEY, v int);
            CREATE TABLE keyless (v int);
            CREATE TABLE nothing (id int PRIMARY KEY, v int);
            ALTER TABLE nothing REPLICA IDENTITY NOTHING;
            CREATE TABLE part (id int, v int) PARTITION BY LIST (id);
            CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
            ALTER TABLE part REPLICA IDENTITY FULL";
        let sql = database(&server, "shop", schema).await;
        let setup = Setup::new(&server, "shop");
        let findings = setup.check().await;
        assert!(errors(&findings).is_empty(), "{findings:#?}");
        let places: Vec<_> = findings
            .iter()
            .filter(|found| found.code.0 == "RT2209")
            .map(|found| (found.severity, found.place.clone().unwrap(), found.remedy.clone()))
            .collect();
        let names: Vec<&str> = places.iter().map(|(_, place, _)| place.as_str()).collect();
        assert_eq!(names, ["table public.keyless", "table public.nothing", "table public.part"]);
        assert!(places[2].2.as_ref().unwrap().contains("public.part_1 REPLICA IDENTITY FULL"));

        let mut host = setup.run();
        host.ready().await;
        // The application goes on.
        for table in ["keyless", "nothing", "part"] {
            let statements = format!(
                "INSERT INTO {table} VALUES (1, 1); UPDATE {table} SET v = 2; DELETE FROM {table}"
            )
            .replace("keyless VALUES (1, 1)", "keyless VALUES (1)");
            sql.batch_execute(&statements).await.unwrap();
        }
        sql.batch_execute("INSERT INTO t VALUES (1, 1)").await.unwrap();
        assert_eq!(host.until(1).await, ["c public.t none > id=1,v=1"], "{version}");

        // What the remedies say makes them captured, old rows whole.
        for (_, _, remedy) in &places {
            let remedy = remedy.as_deref().unwrap().split(", or ").last().unwrap().to_owned();
            sql.batch_execute(&remedy).await.unwrap();
        }
        let published = tokio::time::timeout(PATIENCE, async {
            loop {
                let count = "SELECT count(*) FROM pg_publication_rel";
                if sql.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 4 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        published.await.expect("the tables were not published");
        sql.batch_execute(
            "INSERT INTO part VALUES (1, 1); UPDATE part SET v = 2; DELETE FROM part",
        )
        .await
        .unwrap();
        assert_eq!(
            host.until(4).await[1..],
            [
                "c public.part none > id=1,v=1",
                "u public.part id=1,v=1 > id=1,v=2",
                "d public.part id=1,v=2 > none",
            ],
            "{version}"
        );
        host.stop().await;
    }
}

/// A publication that others made may break the application already: said, for partitions too. One
/// whose old rows would be untrue is refused.
#[tokio::test]
async fn h28_a_publication_of_others_is_looked_through() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "
            CREATE TABLE keyless (v int);
            CREATE TABLE part (id int PRIMARY KEY, v int) PARTITION BY LIST (id);
            CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
            CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
            ALTER TABLE part_2 REPLICA IDENTITY NOTHING;
            CREATE PUBLICATION shop FOR TABLE keyless, part
                WITH (publish_via_partition_root = true)";
        let sql = database(&server, "shop", schema).await;
        let setup = Setup::new(&server, "shop").set("publication_management", json!("external"));
        let found = of(&setup.check().await, "RT2209");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("warning table public.keyless: "), "{found:?}");
        assert!(found[1].starts_with("warning table public.part: "), "{found:?}");
        sql.batch_execute("UPDATE keyless SET v = 2").await.unwrap_err();
        sql.batch_execute("INSERT INTO part VALUES (2, 1)").await.unwrap();
        sql.batch_execute("UPDATE part SET v = 2 WHERE id = 2").await.unwrap_err();

        // The table's identity does not become its partitions'.
        sql.batch_execute(
            "ALTER TABLE part_2 REPLICA IDENTITY DEFAULT; ALTER TABLE part REPLICA IDENTITY FULL",
        )
        .await
        .unwrap();
        let findings = setup.check().await;
        let untrue = one(&findings, "RT2379");
        assert!(untrue.starts_with("error table public.part: "), "{untrue}");
        assert!(untrue.ends_with("public.part_1, public.part_2"), "{untrue}");
        assert_eq!(setup.refusal().await.code().0, "RT2379");
        let remedy = errors(&findings)[0].remedy.clone().unwrap();
        sql.batch_execute(&remedy).await.unwrap();
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("UPDATE part SET v = 3").await.unwrap();
        assert_eq!(host.until(1).await, ["u public.part id=2,v=1 > id=2,v=3"], "{version}");
        host.stop().await;
    }
}

#[tokio::test]
async fn h35_row_filters_and_column_lists_are_told() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "
            CREATE TABLE f (id int PRIMARY KEY, region int, v text);
            CREATE TABLE c (id int PRIMARY KEY, region int, v text)";
        let sql = database(&server, "shop", schema).await;
        if major(&sql).await < 15 {
            not_applicable("publications have filters and column lists from PostgreSQL 15 on");
            continue;
        }
        sql.batch_execute("CREATE PUBLICATION shop FOR TABLE f WHERE (region = 1), c (region, v)")
            .await
            .unwrap();
        let setup = Setup::new(&server, "shop").set("publication_management", json!("external"));
        let findings = setup.check().await;
        assert!(errors(&findings).is_empty(), "{findings:#?}");
        let left_out = of(&findings, "RT2208");
        assert!(
            left_out[0].starts_with("warning table public.c: ")
                && left_out[0].contains("columns id")
        );
        assert!(
            left_out[1].starts_with("warning table public.f: ") && left_out[1].contains("rows, by")
        );
        let broken = of(&findings, "RT2375");
        assert!(
            broken[0].contains("public.c fail") && broken[0].contains("lacks id"),
            "{broken:?}"
        );
        assert!(broken[1].contains("public.f fail") && broken[1].contains("reads region"));
        sql.batch_execute("INSERT INTO f VALUES (1, 1); INSERT INTO c VALUES (1, 1)")
            .await
            .unwrap();
        sql.batch_execute("UPDATE f SET v = 'x'").await.unwrap_err();
        sql.batch_execute("UPDATE c SET v = 'x'").await.unwrap_err();

        sql.batch_execute(
            "ALTER TABLE f REPLICA IDENTITY FULL;
             ALTER PUBLICATION shop SET TABLE f WHERE (region = 1), c (id, region)",
        )
        .await
        .unwrap();
        let findings = setup.check().await;
        assert!(of(&findings, "RT2375").is_empty(), "{findings:#?}");
        // What the check describes is what the log has.
        let tables = rowtide_postgres::tables(&setup.source()).await.unwrap();
        let names = |at: usize| -> Vec<&str> {
            tables[at].columns.iter().map(|column| column.name.as_str()).collect()
        };
        assert_eq!((names(0), names(1)), (vec!["id", "region"], vec!["id", "region", "v"]));

        let mut host = setup.run();
        host.ready().await;
        // A row that enters or leaves the filter comes and goes; the column list hides a column.
        sql.batch_execute(
            "INSERT INTO f VALUES (2, 2, 'a'); UPDATE f SET region = 1 WHERE id = 2;
             UPDATE f SET v = 'b' WHERE id = 2; UPDATE f SET region = 2 WHERE id = 2;
             UPDATE c SET v = 'hidden'; UPDATE c SET region = 7",
        )
        .await
        .unwrap();
        assert_eq!(
            host.until(5).await,
            [
                "c public.f none > id=2,region=1,v=a",
                "u public.f id=2,region=1,v=a > id=2,region=1,v=b",
                "d public.f id=2,region=1,v=b > none",
                "u public.c none > id=1,region=1",
                "u public.c none > id=1,region=7",
            ],
            "{version}"
        );
        host.stop().await;
    }
}

#[tokio::test]
async fn h38_operations_that_are_left_out_are_refused_or_mended() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (id int PRIMARY KEY);
            CREATE PUBLICATION shop FOR TABLE t WITH (publish = 'insert, truncate')";
        let sql = database(&server, "shop", schema).await;
        let external = Setup::new(&server, "shop").set("publication_management", json!("external"));
        let findings = external.check().await;
        let lacking = one(&findings, "RT2221");
        assert!(lacking.starts_with("error publication shop: "), "{lacking}");
        assert!(lacking.contains("update, delete"), "{lacking}");
        assert_eq!(external.refusal().await.code().0, "RT2221");
        // A stated choice is no surprise.
        let stated = external.clone().set("publication_operations", json!(["insert"]));
        assert!(errors(&stated.check().await).is_empty());
        // The SQL that comes with it mends it.
        let remedy = errors(&findings)[0].remedy.clone().unwrap();
        let statement =
            remedy.split("as its owner: ").nth(1).unwrap().split("; or").next().unwrap();
        sql.batch_execute(statement).await.unwrap();
        assert!(errors(&external.check().await).is_empty());
        let mut host = external.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1); DELETE FROM t; TRUNCATE t").await.unwrap();
        assert_eq!(
            host.until(3).await,
            ["c public.t none > id=1", "d public.t id=1 > none", "t public.t none > none"]
        );
        // Ours is mended without a word from anybody.
        host.stop().await;
        sql.batch_execute(
            "ALTER PUBLICATION shop SET (publish = 'insert');
             SELECT pg_drop_replication_slot('shop')",
        )
        .await
        .unwrap();
        let auto = Setup::new(&server, "shop");
        assert!(one(&auto.check().await, "RT2221").starts_with("info publication shop: "));
        let mut host = auto.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1); DELETE FROM t").await.unwrap();
        assert_eq!(host.until(2).await[1], "d public.t id=1 > none", "{version}");
        host.stop().await;
    }
}

const NOT_LOGGED: &str = "
    CREATE TABLE t (id int PRIMARY KEY, blob oid);
    CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
    CREATE VIEW v AS SELECT * FROM t;
    CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
    CREATE SEQUENCE s;
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
    CREATE FOREIGN TABLE ft (id int) SERVER elsewhere;
    CREATE TABLE part (id int PRIMARY KEY) PARTITION BY LIST (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
    CREATE UNLOGGED TABLE part_2 PARTITION OF part FOR VALUES IN (2)";

#[tokio::test]
async fn h49_what_the_log_never_carries_is_told() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", NOT_LOGGED).await;
        sql.batch_execute("CREATE TEMP TABLE tmp (id int PRIMARY KEY)").await.unwrap();
        let setup =
            Setup::new(&server, "shop").set("tables", json!({ "include": ["*.*", "public.v"] }));
        let findings = setup.check().await;
        assert!(errors(&findings).is_empty(), "{findings:#?}");
        let mut told = of(&findings, "RT2370");
        told.sort_unstable();
        let ends = |at: usize, start: &str, end: &str| {
            assert!(told[at].starts_with(start) && told[at].ends_with(end), "{at}: {told:#?}");
        };
        assert_eq!(told.len(), 6, "{told:#?}");
        ends(0, "info foreign tables: ", "these: public.ft");
        ends(1, "info materialized views: ", "these: public.mv");
        ends(2, "info temporary tables: ", ".tmp");
        ends(3, "info unlogged tables: ", "these: public.scratch");
        ends(4, "warning unlogged tables: ", "these: public.part_2");
        ends(5, "warning views: ", "these: public.v");

        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO scratch VALUES (1); INSERT INTO tmp VALUES (1); SELECT nextval('s');
             INSERT INTO part VALUES (1), (2); REFRESH MATERIALIZED VIEW mv;
             CREATE TABLE later (id int PRIMARY KEY); CREATE INDEX ON t (blob);
             SELECT lo_from_bytea(0, 'x');
             INSERT INTO v (id, blob) VALUES (1, lo_from_bytea(0, 'y'))",
        )
        .await
        .unwrap();
        let texts = host.until(2).await;
        assert_eq!(texts[0], "c public.part none > id=1", "{version}");
        assert!(texts[1].starts_with("c public.t none > id=1,blob="), "{version}: {texts:?}");
        sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        assert_eq!(host.until(3).await[2], "c public.t none > id=2,blob=-", "{version}");
        host.stop().await;
    }
}

#[tokio::test]
async fn h71_row_security_is_told_and_does_not_hold_for_the_log() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "
            CREATE TABLE t (id int PRIMARY KEY, tenant int);
            ALTER TABLE t ENABLE ROW LEVEL SECURITY;
            CREATE ROLE cdc LOGIN REPLICATION;
            CREATE POLICY mine ON t USING (tenant = 1);
            GRANT SELECT ON t TO cdc;
            CREATE PUBLICATION shop FOR TABLE t";
        let sql = database(&server, "shop", schema).await;
        let setup = as_role(Setup::new(&server, "shop"), &server, "cdc", "shop");
        let told = one(&setup.check().await, "RT2371");
        assert!(told.starts_with("warning table public.t: "), "{told}");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1, 1), (2, 2)").await.unwrap();
        assert_eq!(host.until(2).await[1], "c public.t none > id=2,tenant=2", "{version}");
        host.stop().await;
        // A read of the table is never given a part for the whole.
        let client = rowtide_postgres::wire::sql_client(&setup.options()).await.unwrap();
        let refused = client.query("SELECT * FROM public.t", &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{version}");

        sql.batch_execute("ALTER ROLE cdc BYPASSRLS").await.unwrap();
        assert!(one(&setup.check().await, "RT2371").starts_with("info table public.t: "));
        assert_eq!(client.query("SELECT * FROM public.t", &[]).await.unwrap().len(), 2);
    }
}

/// Where the message that announces a process for cancel requests ends.
fn announced(bytes: &[u8]) -> Option<usize> {
    let head = b"K\0\0\0\x0c";
    bytes.windows(head.len()).position(|window| window == head).map(|at| at + head.len())
}

/// A stand-in for a pooler that lets replication through: it announces a process of its own.
async fn relay(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((mut ask, mut answer), (mut server, mut client)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut ask, &mut client).await });
                let mut login = Vec::new();
                let end = loop {
                    if server.read_buf(&mut login).await.unwrap_or(0) == 0 {
                        let _refused = answer.write_all(&login).await;
                        return;
                    }
                    match announced(&login) {
                        Some(at) if login.len() >= at + 8 => break at,
                        _ if login.len() < 4 => {
                            // The answer to a request for TLS.
                            answer.write_all(&login).await.unwrap();
                            login.clear();
                        }
                        _ => {}
                    }
                };
                login[end..end + 4].copy_from_slice(&[0, 0, 0, 1]);
                answer.write_all(&login).await.unwrap();
                let _ended = tokio::io::copy(&mut server, &mut answer).await;
            });
        }
    });
    local
}

#[tokio::test]
async fn h73_a_pooler_in_between_is_told() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let _sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let setup = Setup::new(&server, "shop");
        assert!(of(&setup.check().await, "RT2107").is_empty(), "{version}");
        let port = relay(server.port()).await;
        let url = format!("postgres://postgres@127.0.0.1:{port}/shop?sslmode=disable");
        let findings = setup.clone().set("url", json!(url)).check().await;
        assert!(one(&findings, "RT2107").starts_with("warning url: "), "{version}");
        assert!(errors(&findings).is_empty(), "{version}: {findings:#?}");
    }
}

/// A slot that somebody made, before the first position is saved.
#[tokio::test]
async fn a_slot_without_a_saved_position_is_told() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE t";
        let sql = database(&server, "shop", schema).await;
        sql.batch_execute("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
            .await
            .unwrap();
        let setup = Setup::new(&server, "shop");
        let findings = setup.check().await;
        let told = one(&findings, "RT2207");
        let confirmed = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots";
        let confirmed: String = sql.query_one(confirmed, &[]).await.unwrap().get(0);
        assert!(told.starts_with("warning slot shop: ") && told.contains(&confirmed), "{told}");
        assert!(errors(&findings).is_empty(), "{findings:#?}");
        let mut host = setup.run();
        host.ready().await;
        let saved = setup.clone().from(host.stop().await);
        assert!(of(&saved.check().await, "RT2207").is_empty(), "{version}");
        // One of another kind is refused, and nothing would start at it.
        sql.batch_execute(
            "SELECT pg_drop_replication_slot('shop');
             SELECT pg_create_physical_replication_slot('shop')",
        )
        .await
        .unwrap();
        let findings = setup.check().await;
        assert!(of(&findings, "RT2207").is_empty() && !of(&findings, "RT2205").is_empty());
    }
}
