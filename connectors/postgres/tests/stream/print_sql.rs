//! What `check --print-sql` finds when it runs, where the server could not be asked: by the same rules.

use rowtide_postgres::setup_sql;
use rowtide_sdk::{Provider, ReselectRules};
use rowtide_testkit::Postgres;
use serde_json::json;

use crate::check::as_role;
use crate::host::Setup;

/// Names that mean something in globs or in regular expressions.
const NAMES: &[&str] = &[
    "a", "ab", "abc", "a_b", "a.b", "A", "a[b", "a{b", "x,y", "-", "a-c", "é", "a\\b", "a\nb",
    "a*b", "b$", "(a|b)", "a]",
];

const PATTERNS: &[&str] = &[
    "a*",
    "?",
    "a?b",
    "[ab]",
    "[!a]*",
    "[a-c]",
    "{a,ab}",
    "{a,x\\,y}",
    "a\\*b",
    "a[.]b",
    "*[[]b",
    "[]-]",
    "é",
    "a[^b]*",
    "{a,b}*",
    "(a|b)",
    "*$",
    "[a-]*",
    "a]",
];

/// The block that finds tables when it runs takes the same tables as the selection itself.
#[tokio::test]
async fn printed_sql_takes_the_tables_that_the_patterns_match() {
    let Some(server) = Postgres::start("18", &["--auth", "scram-sha-256"]) else { return };
    let admin = server.client("postgres").await;
    for name in NAMES {
        let name = name.replace('"', "\"\"");
        admin
            .batch_execute(&format!("CREATE TABLE \"{name}\" (id int PRIMARY KEY)"))
            .await
            .unwrap();
    }
    for pattern in PATTERNS {
        let selection = json!({ "include": [format!("public.{pattern}")] });
        let setup = Setup::new(&server, "postgres").set("tables", selection);
        // A login without a password is refused, so that the server cannot be asked.
        let nothing = ReselectRules { lookup: &|_, _| false, rules: &[] };
        let script = setup_sql(&setup.source(), "shop", Provider::SelfRun, nothing).await;
        assert!(!script.contains("GRANT SELECT"), "{script}");
        let block =
            script.split("\n\n").find(|part| part.contains("CREATE PUBLICATION %I")).unwrap();
        admin.batch_execute("DROP PUBLICATION IF EXISTS postgres").await.unwrap();
        admin.batch_execute(block).await.unwrap_or_else(|error| panic!("{pattern}: {error:?}"));
        let taken: Vec<String> = admin
            .query("SELECT tablename::text FROM pg_publication_tables", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let filter = setup.source_config().tables.filter().unwrap();
        // To the selection a `?` is one byte.
        let is_alike = |name: &&str| *name != "é" || pattern != &"?";
        let wanted = NAMES.iter().copied().filter(|name| filter.matches("public", name));
        let mut wanted: Vec<&str> = wanted.filter(is_alike).collect();
        let mut taken: Vec<&str> = taken.iter().map(String::as_str).filter(is_alike).collect();
        wanted.sort_unstable();
        taken.sort_unstable();
        assert_eq!(taken, wanted, "{pattern}");
    }
}

/// The block that grants what is read back takes the same tables as the settings of tables do.
#[tokio::test]
async fn printed_sql_grants_the_tables_that_are_read_back() {
    let Some(server) = Postgres::start("18", &["--auth", "scram-sha-256"]) else { return };
    let admin = server.client("postgres").await;
    for name in NAMES {
        let name = name.replace('"', "\"\"");
        admin
            .batch_execute(&format!("CREATE TABLE \"{name}\" (id int PRIMARY KEY)"))
            .await
            .unwrap();
    }
    admin.batch_execute("CREATE ROLE \"c'dc\" LOGIN REPLICATION").await.unwrap();
    let setup = as_role(Setup::new(&server, "postgres"), &server, "c%27dc", "postgres")
        .set("tables", json!({ "include": ["public.*"], "exclude": ["public.abc"] }));
    for pattern in PATTERNS {
        // Exact names come first, wherever they stand; then the order counts.
        let rules = [(format!("public.{pattern}"), true), ("*".to_owned(), false)];
        let rules = [rules.as_slice(), &[("public.ab".to_owned(), false)]].concat();
        let unknown = ReselectRules { lookup: &|_, _| panic!("nothing is known"), rules: &rules };
        let script = setup_sql(&setup.source(), "shop", Provider::SelfRun, unknown).await;
        let block = script.split("\n\n").find(|part| part.contains("GRANT SELECT")).unwrap();
        admin
            .batch_execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM \"c'dc\"")
            .await
            .unwrap();
        admin.batch_execute(block).await.unwrap_or_else(|error| panic!("{pattern}: {error:?}"));
        let granted = "SELECT relname::text FROM pg_class WHERE relkind = 'r'
            AND relnamespace = 'public'::regnamespace
            AND has_table_privilege('c''dc', oid, 'SELECT')";
        let rows = admin.query(granted, &[]).await.unwrap();
        let granted: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let selection = json!({ "include": [format!("public.{pattern}")],
            "exclude": ["public.abc", "public.ab"] });
        let filter =
            setup.clone().set("tables", selection).source_config().tables.filter().unwrap();
        // To the settings a `?` is one byte.
        let is_alike = |name: &&str| *name != "é" || pattern != &"?";
        let wanted = NAMES.iter().copied().filter(|name| filter.matches("public", name));
        let mut wanted: Vec<&str> = wanted.filter(is_alike).collect();
        let mut granted: Vec<&str> = granted.iter().map(String::as_str).filter(is_alike).collect();
        wanted.sort_unstable();
        granted.sort_unstable();
        assert_eq!(granted, wanted, "{pattern}");
    }
}
