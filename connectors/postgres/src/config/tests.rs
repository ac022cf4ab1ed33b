//! URLs, names and patterns, good and bad.

use std::path::Path;

use rowtide_sdk::{Code, Finding, Secret};

use super::{
    ChannelBinding, ConnectOptions, PostgresConfig, Roots, SessionAttrs, SslMode, TableSelection,
    Target,
};
use crate::error::codes;

fn config(url: &str) -> PostgresConfig {
    serde_json::from_value(serde_json::json!({
        "url": url, "slot": "rowtide_shop", "publication": "rowtide_shop"
    }))
    .unwrap()
}

fn options(url: &str) -> ConnectOptions {
    config(url).connect_options(Path::new("/etc/rowtide")).unwrap()
}

fn codes_of(findings: &[Finding]) -> Vec<Code> {
    findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn a_full_url_is_read() {
    let read = options(
        "postgres://row%40tide:p%2Fw@db.internal:6432/sh%C3%B6p?sslmode=verify-full\
         &sslrootcert=ca.crt&sslcert=/c.crt&sslkey=/c.key&application_name=cdc&connect_timeout=3\
         &channel_binding=require",
    );
    assert_eq!(read.target, Target::Tcp { host: "db.internal".to_owned(), port: 6432 });
    assert_eq!((read.user.as_str(), read.database.as_str()), ("row@tide", "shöp"));
    assert_eq!(read.password, Some(Secret::new("p/w")));
    assert_eq!(read.tls.mode, SslMode::VerifyFull);
    assert_eq!(read.tls.roots, Roots::File("/etc/rowtide/ca.crt".into()));
    assert_eq!(read.tls.client, Some(("/c.crt".into(), "/c.key".into())));
    assert_eq!(read.tls.channel_binding, ChannelBinding::Require);
    assert_eq!(read.application_name, "cdc");
    assert_eq!(read.connect_timeout.as_secs(), 3);
    assert!(!format!("{read:?}").contains("p/w"));
}

#[test]
fn sockets_addresses_and_defaults() {
    let socket = Target::Unix { folder: "/var/run/postgresql".into(), port: 5432 };
    assert_eq!(options("postgres://u@/db?host=/var/run/postgresql").target, socket);
    assert_eq!(options("postgres:///db?host=/var/run/postgresql&user=u").target, socket);
    assert_eq!(options("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db").target, socket);
    let read = options("postgres://u@[::1]:6000/db");
    assert_eq!(read.target, Target::Tcp { host: "::1".to_owned(), port: 6000 });
    assert_eq!(read.target.to_string(), "[::1]:6000");
    assert_eq!(read.tls.mode, SslMode::Prefer);
    assert_eq!(read.application_name, "rowtide");
    assert_eq!(read.connect_timeout.as_secs(), 10);
}

#[test]
fn several_hosts_are_read_as_libpq_does() {
    let places = |url: &str| options(url).places();
    assert_eq!(places("postgres://u@a,b:6000,[::1]:7000/db"), "a:5432,b:6000,[::1]:7000");
    assert_eq!(places("postgres://u@a,b/db?port=6000"), "a:6000,b:6000");
    assert_eq!(places("postgres://u@/db?host=/run/pg,b&port=1,2"), "/run/pg/.s.PGSQL.1,b:2");
    assert_eq!(places("postgres://u@x/db?host=a,b"), "a:5432,b:5432");
    let read = options("postgres://u@a,b/db?target_session_attrs=prefer-standby");
    assert_eq!(read.session_attrs, SessionAttrs::PreferStandby);
    assert_eq!(read.target.to_string(), "a:5432");
    assert_eq!(options("postgres://u@a/db").session_attrs, SessionAttrs::Any);
}

#[test]
fn require_with_a_root_verifies_the_chain_as_libpq_does() {
    let read = options("postgres://u@h/db?sslmode=require&sslrootcert=/ca.crt");
    assert_eq!(read.tls.mode, SslMode::VerifyCa);
    assert_eq!(options("postgres://u@h/db?sslmode=require").tls.mode, SslMode::Require);
    let system = options("postgres://u@h/db?sslrootcert=system");
    assert_eq!((system.tls.mode, system.tls.roots), (SslMode::VerifyFull, Roots::System));
}

#[test]
fn bad_urls_are_refused_with_their_code_and_without_the_password() {
    let table = [
        ("mysql://u:geheim@h/db", codes::URL),
        ("postgres://u:geheim@h1,/db", codes::SEVERAL_HOSTS),
        ("postgres://u:geheim@/db?host=h1,h2,h3&port=1,2", codes::SEVERAL_HOSTS),
        ("postgres://u:geheim@h1,h2:0/db", codes::URL),
        ("postgres://u:geheim@h/db?target_session_attrs=best", codes::URL_PARAMETER),
        ("postgres://u:geheim@h:99999/db", codes::URL),
        ("postgres://u:geheim@h:0/db", codes::URL),
        ("postgres://:geheim@h/db", codes::URL),
        ("postgres://u:geheim@h", codes::URL),
        ("postgres://u:geheim@/db", codes::URL),
        ("postgres://u:geheim@h h/db", codes::URL),
        ("postgres://u:geheim%FF@h/db", codes::URL),
        ("postgres://u:geheim@h/db?sslmode=allow", codes::URL_PARAMETER),
        ("postgres://u:geheim@h/db?gssencmode=prefer", codes::URL_PARAMETER),
        ("postgres://u:geheim@h/db?connect_timeout=never", codes::URL_PARAMETER),
        ("postgres://u:geheim@h/db?sslcert=/c", codes::SETTING),
        ("postgres://u:geheim@h/db?sslmode=disable&sslrootcert=/c", codes::SETTING),
        ("postgres://u:geheim@h/db?sslmode=prefer&sslrootcert=/c", codes::SETTING),
    ];
    for (url, code) in table {
        let problems = config(url).problems(Path::new("."));
        assert_eq!(codes_of(&problems), [code], "{url}: {problems:?}");
        assert!(!format!("{problems:?}").contains("geheim"));
    }
}

#[test]
fn streamed_messages_are_refused() {
    let settings = |messages: bool, streaming: &str| {
        let mut settings = serde_json::json!({
            "url": "postgres://u@h/db", "slot": "s", "publication": "p", "streaming": streaming
        });
        if messages {
            settings["messages"] = serde_json::json!({});
        }
        serde_json::from_value::<PostgresConfig>(settings).unwrap().problems(Path::new("."))
    };
    assert_eq!(codes_of(&settings(true, "on")), [crate::stream::codes::STREAMED_MESSAGES]);
    assert!(settings(true, "off").is_empty() && settings(false, "on").is_empty());
}

#[test]
fn all_problems_are_returned_together() {
    let config: PostgresConfig = serde_json::from_value(serde_json::json!({
        "url": "postgres://h:x/?sslmode=no", "slot": "Bad-Slot", "publication": "",
        "tables": {"include": ["orders", "public.[a"]}, "connect_timeout_seconds": 0,
        "logical_decoding_work_mem": "lots",
    }))
    .unwrap();
    let problems = config.problems(Path::new("."));
    let expected = [
        codes::SETTING,
        codes::SETTING,
        codes::URL_PARAMETER,
        codes::URL,
        codes::URL,
        codes::URL,
        codes::NAME,
        codes::NAME,
        codes::TABLE_PATTERN,
        codes::TABLE_PATTERN,
    ];
    assert_eq!(codes_of(&problems), expected, "{problems:#?}");
}

#[test]
fn two_passwords_are_one_too_many() {
    let mut config = config("postgres://u:a@h/db");
    config.password = Some(Secret::new("b"));
    assert_eq!(codes_of(&config.problems(Path::new("."))), [codes::SETTING]);
    assert!(!format!("{config:?}").contains("u:a@"), "{config:?}");
}

#[test]
fn unknown_fields_are_refused_and_the_schema_says_so() {
    let unknown = serde_json::json!({"url": "", "slot": "s", "publication": "p", "slto": 1});
    assert!(serde_json::from_value::<PostgresConfig>(unknown).is_err());
    let schema = schemars::schema_for!(PostgresConfig);
    assert_eq!(schema.get("additionalProperties"), Some(&serde_json::json!(false)));
    assert_eq!(schema.get("required"), Some(&serde_json::json!(["url", "slot", "publication"])));
}

#[test]
fn patterns_match_schema_and_table_apart() {
    let selection = TableSelection {
        include: vec!["public.*".to_owned(), "s[.]x.{a,b}?".to_owned()],
        exclude: vec!["public.tmp_*".to_owned()],
    };
    let filter = selection.filter().unwrap();
    let table = [
        ("public", "orders", true),
        ("public", "Orders.2026", true),
        ("public.orders", "x", false),
        ("public", "tmp_1", false),
        ("publicity", "orders", false),
        ("s.x", "a1", true),
        ("s.x", "c1", false),
        ("sx", "a1", false),
    ];
    for (schema, name, expected) in table {
        assert_eq!(filter.matches(schema, name), expected, "{schema}.{name}");
    }
    assert!(TableSelection::default().filter().unwrap().matches("public", "x"));
}

#[test]
fn an_escape_that_is_none_is_refused_by_its_part() {
    for (url, part) in [
        ("postgres://u:50%off@h/db", "the password has a % that is not followed by"),
        ("postgres://u%2:x@h/db", "the user has a % that"),
        ("postgres://u@h/d%FFb", "the database's name has escapes (such as %FF) that are no UTF-8"),
        ("postgres://u@h/db?application_name=a%00", "the parameter `application_name` has %00"),
    ] {
        let problems = config(url).connect_options(Path::new("/")).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.message.contains(part) && problem.remedy.is_some(), "{problem:?}");
        let says = |text: &str| problem.remedy.as_deref().unwrap_or_default().contains(text);
        assert_eq!(says("into `password`"), part.starts_with("the password"), "{problem:?}");
        assert!(!format!("{problem:?}").contains("off"), "{problem:?}");
    }
}

/// A password that was not percent-encoded is never taken for a host or a name, which messages show.
#[test]
fn h70_a_login_that_is_not_encoded_is_refused_and_nothing_of_it_shown() {
    for url in ["postgres://u:geh@eim/42@h/db", "postgres://u:ge?heim@h/db"] {
        let problems = config(url).connect_options(Path::new("/")).unwrap_err();
        assert_eq!(codes_of(&problems), [codes::URL], "{problems:?}");
        let said = format!("{problems:?}");
        assert!(!said.contains("eim") && said.contains("%40"), "{said}");
    }
    let read = options("postgres://a@h/db?application_name=x@y");
    assert_eq!(read.application_name, "x@y");
}
