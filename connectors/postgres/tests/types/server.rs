//! Real servers: what pgoutput sends and what the catalog says.

use rowtide_postgres::catalog::TypeCatalog;
use rowtide_postgres::decode;
use rowtide_postgres::relation::{
    RelationColumn, RelationMessage, TableFacts, build_table, load_facts, needs_catalog,
};
use rowtide_sdk::{Form, Identity, StringKind, Table};
use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::golden::{Row, rows};
use crate::json;

/// The settings that the connector pins, and the user types of the data.
const SET_UP: &str = "
SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C';
CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext; CREATE EXTENSION cube;
CREATE EXTENSION isn;
CREATE TYPE cdc_mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN cdc_posint AS int CHECK (value > 0);
CREATE DOMAIN cdc_posint2 AS cdc_posint CHECK (value < 100);
CREATE TYPE cdc_addr AS (street text, city text, n int);
CREATE TYPE cdc_frange AS RANGE (subtype = float8);
CREATE DOMAIN cdc_email AS citext;
CREATE DOMAIN cdc_intarr AS int[];
CREATE DOMAIN cdc_code AS varchar(3);
CREATE TYPE \"Odd Name\" AS (\"A\" cdc_posint2, \"a\" cdc_code[], moods cdc_mood[], deep cdc_addr[]);
";

/// Runs a test once per server version.
pub(crate) fn on_each_version<F: Future<Output = ()>>(test: impl Fn(u32, Client) -> F) {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { continue };
        let number = version.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = server.client("postgres").await;
            client.batch_execute(SET_UP).await.unwrap();
            test(number, client).await;
        });
    }
}

/// The rows of a query, as the server's text.
pub(crate) async fn texts(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages =
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// A Relation with these columns, all of one table that is no longer there.
pub(crate) fn relation(types: &[(u32, i32)]) -> RelationMessage {
    let column = |(at, &(type_oid, typmod)): (usize, &(u32, i32))| RelationColumn {
        is_identity: at == 0,
        name: format!("c{at}"),
        type_oid,
        typmod,
    };
    RelationMessage {
        oid: 4_000_000_000,
        schema: "public".to_owned(),
        name: "gone".to_owned(),
        identity: b'd',
        columns: types.iter().enumerate().map(column).collect(),
    }
}

/// Reads pgoutput's messages with nothing of the connector's own parser.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap();
        let text = String::from_utf8(self.take(end).to_vec()).unwrap();
        self.take(1);
        text
    }

    fn oid(&mut self) -> u32 {
        u32::try_from(self.number(4)).unwrap()
    }

    fn relation(&mut self) -> RelationMessage {
        let (oid, schema, name) = (self.oid(), self.text(), self.text());
        let identity = self.take(1)[0];
        let columns = (0..self.number(2))
            .map(|_| RelationColumn {
                is_identity: self.number(1) == 1,
                name: self.text(),
                type_oid: self.oid(),
                typmod: i32::from_be_bytes(self.take(4).try_into().unwrap()),
            })
            .collect();
        RelationMessage { oid, schema, name, identity, columns }
    }

    /// The values of the tuple of an insert.
    fn tuple(&mut self) -> Vec<Option<&'a [u8]>> {
        let count = self.number(2);
        let value = |wire: &mut Self| match wire.take(1)[0] {
            b'n' => None,
            b't' => {
                let length = usize::try_from(wire.number(4)).unwrap();
                Some(wire.take(length))
            }
            other => panic!("tuple kind {other}"),
        };
        (0..count).map(|_| value(self)).collect()
    }
}

/// What a slot with pgoutput sends after these statements: each insert's Relation and values.
async fn inserts(
    client: &Client,
    statements: &str,
) -> Vec<(RelationMessage, Vec<Option<Vec<u8>>>)> {
    client.batch_execute("CREATE PUBLICATION p FOR ALL TABLES").await.unwrap();
    client
        .execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')", &[])
        .await
        .unwrap();
    client.batch_execute(statements).await.unwrap();
    let messages = client
        .query(
            "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, \
             'proto_version', '1', 'publication_names', 'p')",
            &[],
        )
        .await
        .unwrap();
    client.batch_execute("DROP PUBLICATION p").await.unwrap();
    client.execute("SELECT pg_drop_replication_slot('s')", &[]).await.unwrap();
    let mut relations = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for message in &messages {
        let data: &[u8] = message.get(0);
        let mut wire = Wire(&data[1..]);
        match data[0] {
            b'R' => {
                let relation = wire.relation();
                relations.insert(relation.oid, relation);
            }
            b'I' => {
                let oid = wire.oid();
                assert_eq!(wire.take(1), b"N");
                let tuple = wire.tuple();
                let tuple = tuple.into_iter().map(|value| value.map(<[u8]>::to_vec)).collect();
                found.push((relations[&oid].clone(), tuple));
            }
            _ => {}
        }
    }
    found
}

/// Whether a server of this version can hold the row's value.
pub(crate) fn is_known(row: &Row, version: u32) -> bool {
    match row.type_name.as_str() {
        "vector(3)" | "halfvec(2)" | "geometry(Point,4326)" | "geography" => false,
        "interval" => version >= 17 || row.literal != "'infinity'",
        "\"char\"" => version >= 16,
        "numeric(3,-2)" | "numeric(2,4)" => version >= 15,
        _ => true,
    }
}

#[test]
fn every_row_of_the_type_data_arrives_with_its_true_value() {
    on_each_version(|version, client| async move {
        let has_xml = client.batch_execute("SELECT '<a/>'::xml").await.is_ok();
        let rows: Vec<_> = rows()
            .into_iter()
            .filter(|(row, _)| is_known(row, version) && (row.type_name != "xml" || has_xml))
            .collect();
        let statements: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(at, (row, _))| {
                let Row { type_name, literal, .. } = row;
                format!(
                    "CREATE TABLE t{at} (id int PRIMARY KEY, v {type_name}); \
                     INSERT INTO t{at} VALUES (1, {literal});"
                )
            })
            .collect();
        let inserts = inserts(&client, &statements.concat()).await;
        assert_eq!(inserts.len(), rows.len());
        for ((row, expected), (relation, values)) in rows.iter().zip(&inserts) {
            let raw = std::str::from_utf8(values[1].as_deref().unwrap()).unwrap();
            assert_eq!(raw, row.out, "{} {}", row.type_name, row.literal);
            let facts = load_facts(&client, relation).await.unwrap();
            let table = build_table("postgres", relation, &facts);
            assert_eq!(table.primary_key, [0]);
            let column = &table.columns[1];
            assert_ne!(column.type_name, "unknown", "{}", row.type_name);
            let mut out = rowtide_sdk::JsonWriter::default();
            column.decode.write(raw.as_bytes(), &mut out).unwrap();
            let written = String::from_utf8(out.into_inner()).unwrap();
            assert_eq!(&written, expected, "{version}: {} {}", row.type_name, row.literal);
        }
    });
}

#[test]
fn every_type_of_the_server_is_known_by_its_own_name() {
    on_each_version(|version, client| async move {
        let all = texts(
            &client,
            "SELECT t.oid, format_type(t.oid, -1), t.typarray, t.typlen = -1 AND t.typstorage <> 'p',
                    coalesce(e.typdelim::text, ''), t.typtype
             FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
             WHERE t.typtype <> 'p' ORDER BY t.oid",
        )
        .await;
        assert!(all.len() > 500, "{}", all.len());
        let types: Vec<(u32, i32)> =
            all.iter().map(|row| (row[0].as_ref().unwrap().parse().unwrap(), -1)).collect();
        let relation = relation(&types);
        let facts = load_facts(&client, &relation).await.unwrap();
        let table = build_table("postgres", &relation, &facts);
        for (row, column) in all.iter().zip(&table.columns) {
            let [oid, name, _, toastable, delimiter, typtype] =
                [0, 1, 2, 3, 4, 5].map(|at| row[at].as_deref().unwrap());
            let oid: u32 = oid.parse().unwrap();
            let bare = column.type_name.strip_prefix("public.").unwrap_or(&column.type_name);
            assert_eq!(bare, name, "{version}: {oid}");
            assert_eq!(column.may_be_unchanged, toastable == "t", "{version}: {name}");
            let is_array = matches!(column.form, Form::Array(_));
            // A domain over an array is one in JSON.
            assert_eq!(
                is_array,
                !delimiter.is_empty() || name == "cdc_intarr",
                "{version}: {name}"
            );
            assert_eq!(matches!(column.form, Form::Object(_)), typtype == "c", "{version}: {name}");
            if oid < 10_000 && matches!(typtype, "b" | "r" | "m") && !name.starts_with("pg_") {
                assert!(decode::is_builtin(oid), "{version}: {name}");
            }
        }
        // All built-in types exist in every version, so that none was mistyped.
        for oid in decode::builtin_scalars().chain(decode::builtin_arrays()) {
            assert!(types.iter().any(|(known, _)| *known == oid), "{version}: {oid}");
        }
    });
}

/// Columns with modifiers of every kind.
const DECLARED: &[&str] = &[
    "varchar(3)",
    "varchar(3)[]",
    "char(5)",
    "char(5)[]",
    "bpchar",
    "numeric(10,2)",
    "numeric(38,18)",
    "numeric(1000,0)",
    "numeric(5,3)[]",
    "bit(8)",
    "bit",
    "bit varying(10)",
    "varbit",
    "time(0)",
    "time(6)",
    "timetz(3)",
    "timestamp(3)",
    "timestamptz(0)",
    "timestamptz(3)[]",
    "interval(2)",
    "interval year",
    "interval month",
    "interval day",
    "interval hour",
    "interval minute",
    "interval second",
    "interval second(1)",
    "interval year to month",
    "interval day to hour",
    "interval day to minute",
    "interval day to second(3)",
    "interval hour to minute",
    "interval hour to second",
    "interval minute to second",
    "\"char\"",
    "name",
    "cdc_addr[]",
    "cdc_code",
    "\"Odd Name\"",
    "\"Odd Name\"[]",
];

#[test]
fn modifiers_are_printed_as_the_server_prints_them() {
    on_each_version(|version, client| async move {
        let mut declared: Vec<&str> = DECLARED.to_vec();
        if version >= 15 {
            declared.extend([
                "numeric(3,-2)",
                "numeric(2,4)",
                "numeric(3,-1000)",
                "numeric(3,1000)",
            ]);
        }
        let columns: Vec<String> =
            declared.iter().enumerate().map(|(at, name)| format!("c{at} {name}")).collect();
        client.batch_execute(&format!("CREATE TABLE m ({})", columns.join(","))).await.unwrap();
        let printed = texts(
            &client,
            "SELECT atttypid, atttypmod, format_type(atttypid, atttypmod) FROM pg_attribute
             WHERE attrelid = 'm'::regclass AND attnum > 0 ORDER BY attnum",
        )
        .await;
        let number = |text: &Option<String>| text.as_ref().unwrap().parse::<i64>().unwrap();
        let types: Vec<(u32, i32)> = printed
            .iter()
            .map(|row| {
                (u32::try_from(number(&row[0])).unwrap(), i32::try_from(number(&row[1])).unwrap())
            })
            .collect();
        let relation = relation(&types);
        let facts = load_facts(&client, &relation).await.unwrap();
        let table = build_table("postgres", &relation, &facts);
        for (row, column) in printed.iter().zip(&table.columns) {
            let bare = column.type_name.replace("public.", "");
            assert_eq!(Some(&bare), row[2].as_ref(), "{version}");
        }
        assert_eq!(table.columns[0].form, Form::String(StringKind::Text { max_chars: Some(3) }));
        assert_eq!(table.columns[37].form, Form::String(StringKind::Text { max_chars: Some(3) }));
    });
}

#[test]
fn h29_h30_the_key_comes_from_the_flags_or_the_catalog() {
    on_each_version(|_, client| async move {
        let tables = "
            CREATE TABLE k (x text, b int, a int, PRIMARY KEY (a, b));
            INSERT INTO k VALUES ('x', 1, 2);
            ALTER TABLE k REPLICA IDENTITY FULL;
            INSERT INTO k VALUES ('x', 2, 2);
            CREATE UNIQUE INDEX k_x ON k (x, b);
            DELETE FROM k WHERE b = 1; ALTER TABLE k ALTER x SET NOT NULL;
            ALTER TABLE k REPLICA IDENTITY USING INDEX k_x;
            INSERT INTO k VALUES ('x', 3, 2);
            ALTER TABLE k REPLICA IDENTITY NOTHING;
            INSERT INTO k VALUES ('x', 4, 2);
            CREATE TABLE n (x text); INSERT INTO n VALUES ('x');
            CREATE TABLE gone (x cdc_mood, y int PRIMARY KEY); ALTER TABLE gone REPLICA IDENTITY FULL;
            INSERT INTO gone VALUES ('sad', 1); DROP TABLE gone;";
        let inserts = inserts(&client, tables).await;
        let mut built: Vec<(bool, Table)> = Vec::new();
        for (relation, _) in &inserts {
            let facts = load_facts(&client, relation).await.unwrap();
            assert!(facts.describes(relation));
            // Frozen facts give the same table, and belong to this Relation alone.
            let frozen = TableFacts::from_json(&facts.to_json()).unwrap();
            assert_eq!(frozen, facts);
            assert_eq!(frozen.to_json(), facts.to_json());
            for (other, _) in &inserts {
                assert_eq!(facts.describes(other), relation == other);
            }
            built.push((needs_catalog(relation), build_table("db", relation, &facts)));
        }
        let seen: Vec<(bool, Identity, Vec<usize>, Vec<bool>)> = built
            .iter()
            .map(|(asked, table)| {
                let flags = table.columns.iter().map(|column| column.is_identity).collect();
                (*asked, table.identity, table.primary_key.clone(), flags)
            })
            .collect();
        let expected = [
            (false, Identity::Default, vec![1, 2], vec![false, true, true]),
            (true, Identity::Full, vec![1, 2], vec![true, true, true]),
            (true, Identity::Index, vec![1, 2], vec![true, true, false]),
            (false, Identity::Nothing, vec![], vec![false, false, false]),
            (false, Identity::Default, vec![], vec![false]),
            (true, Identity::Full, vec![], vec![true, true]),
        ];
        assert_eq!(seen, expected);
        // The type of a table that is gone is still known.
        assert_eq!(built[5].1.columns[0].type_name, "public.cdc_mood");
        assert_ne!(built[0].1.facts, built[1].1.facts);
    });
}

#[test]
fn what_users_define_cannot_stand_in_for_the_catalog() {
    on_each_version(|_, client| async move {
        client
            .batch_execute(
                "CREATE SCHEMA evil;
                 CREATE FUNCTION evil.format_type(oid, int) RETURNS text LANGUAGE sql
                   AS $$ SELECT 'evil' $$;
                 CREATE FUNCTION evil.eq(oid, oid) RETURNS bool LANGUAGE sql AS $$ SELECT false $$;
                 CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq);
                 CREATE TABLE evil.pg_type (oid oid);
                 SET search_path = evil, public, pg_catalog;",
            )
            .await
            .unwrap();
        let oid =
            texts(&client, "SELECT 'public.cdc_addr'::pg_catalog.regtype::pg_catalog.oid").await;
        let oid: u32 = oid[0][0].as_ref().unwrap().parse().unwrap();
        let relation = relation(&[(oid, -1)]);
        let table = build_table("db", &relation, &load_facts(&client, &relation).await.unwrap());
        assert_eq!(table.columns[0].type_name, "public.cdc_addr");
        assert!(matches!(&table.columns[0].form, Form::Object(fields) if fields.len() == 3));
        // The setting was the query's alone.
        let path = texts(&client, "SHOW search_path").await;
        assert_eq!(path[0][0].as_deref(), Some("evil, public, pg_catalog"));
    });
}

#[test]
fn facts_from_a_broken_file_end_in_text() {
    use rowtide_postgres::catalog::{TypeFact, TypeKind};
    let fact = |oid, kind| TypeFact { oid, name: format!("t{oid}"), toastable: true, kind };
    // A domain over itself, a composite of itself twice.
    let attributes =
        vec![crate::user_types::attribute("a", 90_001), crate::user_types::attribute("b", 90_001)];
    let catalog = TypeCatalog::new(
        [
            fact(90_000, TypeKind::Domain { base: 90_000, typmod: -1 }),
            fact(90_001, TypeKind::Composite { attributes }),
            fact(90_002, TypeKind::Array { element: 90_002, delimiter: ',' }),
        ],
        [],
    );
    assert_eq!(json(&catalog.resolve(90_000, -1), "x"), "\"x\"");
    assert!(matches!(catalog.resolve(90_001, -1).form, Form::Object(_)));
    assert!(matches!(catalog.resolve(90_002, -1).form, Form::Array(_)));
}
