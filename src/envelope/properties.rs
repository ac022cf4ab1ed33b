//! What the encoder promises, on chosen and on arbitrary rows.

use std::sync::Arc;

use proptest::prelude::*;
use rowtide_sdk::{
    BufferPool, Entry, Error, Form, Identity, ImageKind, JsonWriter, NotReselected, Op, Reselected,
    SourceInfo, Span, StringKind, Table, TopicInfo,
};
use serde_json::{Value, json};

use super::testing::{
    BatchBuilder, JsonDecode, TestCell, TextDecode, column, integer_column, table, text_column,
    value,
};
use super::{ENVELOPE_SCHEMA_JSON, Encoded, Encoder, Plan, PlanContext, TableRoute};
use crate::config::{
    Headers, Mask, OnViolation, Routing, TableConfig, Tombstones, Unchanged, Validation,
};
use crate::schema::{HostState, RowSchema, Versions};

fn write_position(
    out: &mut JsonWriter,
    tx: &rowtide_sdk::Tx,
    change: &rowtide_sdk::Change,
    text: &[u8],
) {
    out.raw(b"{\"lsn\":\"0/16B3748\",\"commit_lsn\":\"");
    out.raw(tx.commit.of(text));
    out.raw(b"\",\"index\":");
    out.u64(change.index);
    out.byte(b'}');
}

struct Bench {
    encoder: Encoder,
    row: Value,
    key_image: Value,
}

fn bench(table: &Arc<Table>, config: &TableConfig, validation: Validation) -> Bench {
    let (plan, schema) = plan(table, config);
    let mut encoder = Encoder::new(
        "shop",
        write_position,
        Headers::All,
        validation,
        1 << 20,
        "shop.dead_letter".into(),
    )
    .unwrap();
    encoder.learn(plan);
    Bench { encoder, row: schema.row, key_image: schema.key_image }
}

fn plan(table: &Arc<Table>, config: &TableConfig) -> (Plan, RowSchema) {
    let routing = Routing {
        topic_template: String::new(),
        headers: Headers::All,
        tombstones: Tombstones::Always,
    };
    let info = SourceInfo { connector: "postgres", write_position };
    let cx = PlanContext { name: "shop", info, config, routing: &routing };
    let projection = Plan::projection(table, config, true).unwrap();
    let schema = RowSchema::derive("shop.public.t", table, &projection);
    let route = TableRoute {
        topic: "shop.public.t".into(),
        info: TopicInfo { compacts: false },
        schema_changes: None,
    };
    let subject = super::subject("shop", table);
    let mut versions = Versions::new(HostState::default()).unwrap();
    let assigned = versions.assign(&subject, table, &projection, None).unwrap();
    (Plan::new(&cx, Arc::clone(table), &projection, &assigned, route).unwrap(), schema)
}

/// Makes every object of the schema refuse fields it does not name: the closed twin.
fn close(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.contains_key("properties") && !object.contains_key("const") {
            object.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            properties.values_mut().for_each(close);
        }
    }
}

fn assert_valid(schema: &Value, instance: &Value) {
    let validator = jsonschema::options().build(schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(instance)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:?}\n{instance:#}");
}

/// The values of the batch's records, each checked in full by the independent validators.
fn documents(bench: &Bench, encoded: &Encoded) -> Vec<Value> {
    let mut envelope: Value = serde_json::from_str(ENVELOPE_SCHEMA_JSON).unwrap();
    close(&mut envelope);
    let slice =
        |range: &std::ops::Range<u32>| &encoded.data[range.start as usize..range.end as usize];
    let mut documents = Vec::new();
    for record in &encoded.records {
        let Some(range) = &record.value else { continue };
        let document: Value = serde_json::from_slice(slice(range)).unwrap();
        assert_eq!(encoded.data[range.end as usize], b'\n');
        if encoded.topics[record.topic as usize].ends_with("dead_letter") {
            documents.push(document);
            continue;
        }
        assert_valid(&envelope, &document);
        if document["after"].is_object() {
            assert_valid(&bench.row, &document["after"]);
        }
        if document["before"].is_object() {
            let names = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
            let whole = names(&bench.row["properties"]);
            let schema =
                if names(&document["before"]) == whole { &bench.row } else { &bench.key_image };
            assert_valid(schema, &document["before"]);
        }
        let headers = record.headers.as_ref().unwrap();
        assert_eq!(slice(&headers.id), document["id"].as_str().unwrap().as_bytes());
        match &record.key {
            Some(key) => {
                let key: Value = serde_json::from_slice(slice(key)).unwrap();
                assert_eq!(key, document["key"]);
            }
            None => assert!(document["key"].is_null()),
        }
        documents.push(document);
    }
    documents
}

fn orders() -> Table {
    table(
        "orders",
        vec![
            integer_column("id"),
            text_column("note"),
            column("doc", Form::Json, Arc::new(JsonDecode)),
            column(
                "code",
                Form::String(StringKind::Text { max_chars: Some(3) }),
                Arc::new(TextDecode),
            ),
        ],
    )
}

fn encode(bench: &mut Bench, batch: &BatchBuilder) -> Result<Vec<Value>, Error> {
    let encoded = bench.encoder.encode(&batch.0, &BufferPool::default())?;
    Ok(documents(bench, &encoded))
}

#[test]
fn an_insert_is_the_documented_envelope() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let row = [value("1"), value("a\"b"), value("{\"k\":1.0}"), TestCell::Null];
    let batch = BatchBuilder::new(&table).change(Op::Create, None, Some(&row));
    let encoded = bench.encoder.encode(&batch.0, &BufferPool::default()).unwrap();
    documents(&bench, &encoded);
    assert_eq!(
        String::from_utf8(encoded.data).unwrap(),
        concat!(
            r#"{"v":"1.1","id":"shop:0/16B3800:0","op":"c","key":{"id":1},"before":null,"#,
            r#""after":{"id":1,"note":"a\"b","doc":{"k":1.0},"code":null},"#,
            r#""schema":{"subject":"shop.public.orders","version":"1.0"},"#,
            r#""source":{"connector":"postgres","name":"shop","db":"shop","schema":"public","#,
            r#""table":"orders","position":{"lsn":"0/16B3748","commit_lsn":"0/16B3800","index":0},"#,
            r#""ts_us":1763657833123456,"snapshot":"false"},"#,
            r#""transaction":{"id":"901","index":0},"ts_us":1763657833125001}"#,
            "\n"
        )
    );
}

#[test]
fn h26_unchanged_values_are_listed_and_never_null() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let row = [value("1"), TestCell::Unchanged, TestCell::Unchanged, value("x")];
    let batch = BatchBuilder::new(&table).change(Op::Update, None, Some(&row));
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(documents[0]["after"], json!({"id": 1, "code": "x"}));
    assert_eq!(documents[0]["unchanged"], json!(["note", "doc"]));
}

fn with_placeholder(text: &str) -> TableConfig {
    TableConfig { unchanged: Unchanged::Placeholder(text.to_owned()), ..TableConfig::default() }
}

#[test]
fn h26_a_placeholder_stands_for_text_and_json_and_is_listed_all_the_same() {
    let array = column("tags", Form::Array(Box::new(Form::Boolean)), Arc::new(JsonDecode));
    let mut columns = orders().columns;
    columns.push(array);
    let table = Arc::new(Table { columns, ..orders() });
    // Longer than `code` may be, and no JSON Schema pattern would let it pass by chance.
    let config = with_placeholder("not \"logged\"");
    let mut bench = bench(&table, &config, Validation::Always);
    let unchanged = || TestCell::Unchanged;
    let row = [value("1"), unchanged(), unchanged(), unchanged(), unchanged()];
    let batch = BatchBuilder::new(&table).change(Op::Update, None, Some(&row));
    let documents = encode(&mut bench, &batch).unwrap();
    let text = "not \"logged\"";
    assert_eq!(documents[0]["after"], json!({"id": 1, "note": text, "doc": text, "code": text}));
    assert_eq!(documents[0]["unchanged"], json!(["note", "doc", "code", "tags"]));
    // A value is still held to its column's own schema.
    let long = [value("1"), value("n"), value("{}"), value("much too long"), value("[]")];
    let batch = BatchBuilder::new(&table).change(Op::Update, None, Some(&long));
    let error = encode(&mut bench, &batch).unwrap_err();
    assert_eq!(error.code().0, "RT5002", "{error}");
}

#[test]
fn h26_a_masked_column_has_the_placeholder_and_a_contract_sees_it() {
    let contract = json!({ "required": ["note", "doc", "code"] });
    let config = TableConfig {
        mask: vec![("note".to_owned(), Mask::Sha256)],
        contract: Some(Arc::new(contract)),
        ..with_placeholder("-")
    };
    let table = Arc::new(orders());
    let mut bench = bench(&table, &config, Validation::Always);
    let row = [value("1"), TestCell::Unchanged, TestCell::Unchanged, value("x")];
    let batch = BatchBuilder::new(&table).change(Op::Update, None, Some(&row));
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(documents[0]["after"], json!({"id": 1, "note": "-", "doc": "-", "code": "x"}));
}

/// A key change of a row with a value the log did not carry: the create under the new key says what
/// it lacks, and from where it could be had.
#[test]
fn h27_a_key_change_never_loses_a_value_without_saying_so() {
    let policies = [(TableConfig::default(), None), (with_placeholder("-"), Some("-"))];
    for (config, stands) in policies {
        let table = Arc::new(orders());
        let mut bench = bench(&table, &config, Validation::Always);
        let old = [value("1"), TestCell::Absent, TestCell::Absent, TestCell::Absent];
        let new = [value("2"), TestCell::Unchanged, value("3"), value("x")];
        let batch =
            BatchBuilder::new(&table).change(Op::Update, Some((ImageKind::Key, &old)), Some(&new));
        let encoded = bench.encoder.encode(&batch.0, &BufferPool::default()).unwrap();
        let documents = documents(&bench, &encoded);
        assert_eq!(documents[0]["before"], json!({"id": 1}));
        assert!(documents[0].get("unchanged").is_none());
        assert_eq!(documents[1]["unchanged"], json!(["note"]));
        assert_eq!(documents[1]["previous_key"], json!({"id": 1}));
        assert_eq!(documents[1]["after"].get("note").and_then(Value::as_str), stands);
    }
}

/// A partition may log more of an old row than the identity of its table says: the event has what the
/// identity holds, and the rest fills what the log left out.
#[test]
fn h33_an_old_key_with_more_than_the_identity_is_the_key() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let old = [value("1"), value("old"), value("3"), TestCell::Absent];
    let new = [value("1"), TestCell::Unchanged, value("4"), value("x")];
    let batch = BatchBuilder::new(&table)
        .change(Op::Update, Some((ImageKind::Key, &old)), Some(&new))
        .change(Op::Delete, Some((ImageKind::Key, &old)), None);
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(documents[0]["before"], json!({"id": 1}));
    assert_eq!(documents[0]["after"]["note"], "old");
    assert_eq!(documents[1]["before"], json!({"id": 1}));
}

/// The update, and the create of a key change, say what was read back, or why nothing was.
#[test]
fn h27_what_was_read_back_is_told() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let old = [value("1"), TestCell::Absent, TestCell::Absent, TestCell::Absent];
    let new = [value("2"), value("read back"), value("3"), value("x")];
    let lacking = [value("2"), TestCell::Unchanged, value("3"), value("y")];
    let mut batch = BatchBuilder::new(&table)
        .change(Op::Update, Some((ImageKind::Key, &old)), Some(&new))
        .change(Op::Update, None, Some(&lacking));
    let start = u32::try_from(batch.0.text.len()).unwrap();
    batch.0.text.extend_from_slice(br#"{"lsn":"0/16B3A10"}"#);
    let position = Span { start, len: 19 };
    batch.0.reselected = vec![
        Reselected { entry: 0, columns: vec![1], position, reason: None },
        Reselected {
            entry: 1,
            columns: Vec::new(),
            position: Span::default(),
            reason: Some(NotReselected::Gone),
        },
    ];
    let documents = encode(&mut bench, &batch).unwrap();
    let (delete, create, update) = (&documents[0], &documents[1], &documents[2]);
    assert!(delete.get("reselected").is_none());
    assert_eq!(create["after"]["note"], "read back");
    let told = json!({"columns": ["note"], "position": {"lsn": "0/16B3A10"}});
    assert_eq!(create["reselected"], told);
    assert!(create.get("unchanged").is_none());
    assert_eq!(update["reselected"], json!({"columns": [], "reason": "gone"}));
    assert_eq!(update["unchanged"], json!(["note"]));
}

#[test]
fn h26_a_full_identity_fills_unchanged_values_from_the_old_row() {
    let table = Arc::new(Table { identity: Identity::Full, ..orders() });
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let old = [value("1"), value("big"), TestCell::Null, value("x")];
    let new = [value("1"), TestCell::Unchanged, TestCell::Unchanged, value("y")];
    let batch =
        BatchBuilder::new(&table).change(Op::Update, Some((ImageKind::Row, &old)), Some(&new));
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(documents[0]["after"], json!({"id": 1, "note": "big", "doc": null, "code": "y"}));
    assert_eq!(documents[0]["before"]["code"], "x");
    assert!(documents[0].get("unchanged").is_none());
}

#[test]
fn h27_a_key_change_is_a_delete_a_tombstone_and_a_create() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let old = [value("1"), TestCell::Absent, TestCell::Absent, TestCell::Absent];
    let new = [value("2"), TestCell::Unchanged, value("3"), value("x")];
    let batch =
        BatchBuilder::new(&table).change(Op::Update, Some((ImageKind::Key, &old)), Some(&new));
    let encoded = bench.encoder.encode(&batch.0, &BufferPool::default()).unwrap();
    let documents = documents(&bench, &encoded);
    assert_eq!(documents[0]["op"], "d");
    assert_eq!(documents[0]["id"], "shop:0/16B3800:0.0");
    assert_eq!(documents[0]["before"], json!({"id": 1}));
    assert_eq!(documents[1]["op"], "c");
    assert_eq!(documents[1]["id"], "shop:0/16B3800:0.1");
    assert_eq!(documents[1]["previous_key"], json!({"id": 1}));
    assert_eq!(documents[1]["key"], json!({"id": 2}));
    assert_eq!(documents[1]["unchanged"], json!(["note"]));
    let values: Vec<bool> = encoded.records.iter().map(|r| r.value.is_some()).collect();
    assert_eq!(values, [true, false, true]);
}

/// A sink writes topic by topic.
#[test]
fn versions_of_a_table_that_take_turns_have_one_topic() {
    let tables = [Arc::new(orders()), Arc::new(orders())];
    let mut bench = bench(&tables[0], &TableConfig::default(), Validation::Always);
    bench.encoder.learn(plan(&tables[1], &TableConfig::default()).0);
    let row = [value("1"), TestCell::Null, TestCell::Null, value("x")];
    let mut batch = BatchBuilder::new(&tables[0]);
    for _ in 0..3 {
        batch = batch.change(Op::Create, None, Some(&row));
    }
    batch.0.tables.push(Arc::clone(&tables[1]));
    if let Entry::Change(change) = &mut batch.0.entries[1] {
        change.table = 1;
    }
    let encoded = bench.encoder.encode(&batch.0, &BufferPool::default()).unwrap();
    assert_eq!(encoded.topics.len(), 1);
    assert_eq!(documents(&bench, &encoded).len(), 3);
}

#[test]
fn raw_json_stands_as_text_in_both_images() {
    let table = Arc::new(Table { identity: Identity::Full, ..orders() });
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let old = [value("1"), value("n"), value("{\"a\":1}"), value("x")];
    let new = [value("1"), value("n"), value("\"\\ud800\""), value("x")];
    let batch =
        BatchBuilder::new(&table).change(Op::Update, Some((ImageKind::Row, &old)), Some(&new));
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(documents[0]["raw_json"], json!(["doc"]));
    assert_eq!(documents[0]["before"]["doc"], "{\"a\":1}");
    assert_eq!(documents[0]["after"]["doc"], "\"\\ud800\"");
}

#[test]
fn h32_a_truncate_has_no_images_and_goes_to_every_partition() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let batch = BatchBuilder::new(&table).change(Op::Truncate, None, None);
    let encoded = bench.encoder.encode(&batch.0, &BufferPool::default()).unwrap();
    let documents = documents(&bench, &encoded);
    assert_eq!(documents[0]["key"], Value::Null);
    assert!(encoded.records[0].to_all_partitions);
}

#[test]
fn excluded_columns_leave_and_masked_ones_are_hashed() {
    let table = Arc::new(orders());
    let config = TableConfig {
        exclude: vec!["doc".to_owned()],
        mask: vec![("note".to_owned(), Mask::Sha256), ("code".to_owned(), Mask::Redact)],
        ..TableConfig::default()
    };
    let mut bench = bench(&table, &config, Validation::Always);
    let row = [value("1"), value("abc"), value("{}"), value("x")];
    let batch = BatchBuilder::new(&table).change(Op::Create, None, Some(&row));
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(
        documents[0]["after"],
        json!({
            "id": 1,
            "note": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "code": "***"
        })
    );
}

fn contract() -> TableConfig {
    TableConfig {
        contract: Some(Arc::new(json!({
            "type": "object",
            "required": ["id"],
            "properties": { "id": { "minimum": 0 }, "note": { "type": "string", "minLength": 2 } }
        }))),
        ..TableConfig::default()
    }
}

#[test]
fn a_broken_contract_stops_without_showing_the_value() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &contract(), Validation::Always);
    let row = [value("1"), value("§"), value("{}"), value("x")];
    let batch = BatchBuilder::new(&table).change(Op::Create, None, Some(&row));
    let error = encode(&mut bench, &batch).unwrap_err().to_string();
    assert!(error.starts_with("RT5003: event shop:0/16B3800:0 of shop.public.orders"), "{error}");
    assert!(error.contains("/note") && !error.contains('§'), "{error}");
}

fn dead_letter_schema() -> jsonschema::Validator {
    let schema: Value =
        serde_json::from_str(include_str!("../../schemas/dead-letter/v1/dead-letter.schema.json"))
            .unwrap();
    let envelope: Value = serde_json::from_str(ENVELOPE_SCHEMA_JSON).unwrap();
    let resource = jsonschema::Registry::new()
        .add("urn:rowtide:envelope:1", envelope)
        .unwrap()
        .prepare()
        .unwrap();
    jsonschema::options().with_registry(&resource).build(&schema).unwrap()
}

#[test]
fn dead_letters_carry_the_reason_and_the_event() {
    let table = Arc::new(orders());
    let config = TableConfig { on_violation: OnViolation::DeadLetter, ..contract() };
    let mut bench = bench(&table, &config, Validation::Always);
    let short = [value("1"), value("x"), value("{}"), value("x")];
    let undecodable = [value("one"), TestCell::Value(vec![0xff]), TestCell::Null, value("x")];
    let good = [value("2"), value("xx"), value("{}"), value("x")];
    let batch = BatchBuilder::new(&table)
        .change(Op::Create, None, Some(&short))
        .change(Op::Create, None, Some(&undecodable))
        .change(Op::Create, None, Some(&good));
    let documents = encode(&mut bench, &batch).unwrap();
    let validator = dead_letter_schema();
    for letter in &documents[..2] {
        assert!(validator.is_valid(letter), "{letter:#}");
    }
    assert_eq!(documents[0]["reason"]["code"], "RT5003");
    assert_eq!(documents[0]["event"]["after"]["note"], "x");
    assert_eq!(documents[1]["reason"]["code"], "RT5001");
    assert_eq!(documents[1]["raw"]["after"]["id"], "one");
    assert_eq!(documents[1]["raw"]["after"]["note"], json!({"hex": "ff"}));
    assert_eq!(documents[2]["op"], "c");
}

#[test]
fn text_that_is_no_utf8_is_told_from_where_it_comes() {
    let table = Arc::new(orders());
    let mut bench = bench(&table, &TableConfig::default(), Validation::Always);
    let row = [value("1"), TestCell::Value(vec![0xff]), TestCell::Null, value("x")];
    let error = encode(&mut bench, &BatchBuilder::new(&table).change(Op::Create, None, Some(&row)));
    let error = error.unwrap_err();
    assert_eq!(error.code().0, "RT5001");
    assert!(error.message().ends_with("column note: not valid UTF-8"), "{error}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("SQL_ASCII") && remedy.contains("on_violation"), "{remedy}");
    let wrong = [value("one"), value("x"), TestCell::Null, value("x")];
    let error =
        encode(&mut bench, &BatchBuilder::new(&table).change(Op::Create, None, Some(&wrong)));
    assert!(!error.unwrap_err().remedy().unwrap().contains("SQL_ASCII"));
}

#[test]
fn a_key_outside_the_identity_is_refused_with_the_statement_that_mends_it() {
    let config = TableConfig { key: Some(vec!["note".to_owned()]), ..TableConfig::default() };
    let error = Plan::projection(&orders(), &config, true).unwrap_err();
    assert_eq!(error.code().0, "RT5006");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY"), "{remedy}");
    assert!(remedy.contains("take `key` out") && remedy.contains("dead_letter"), "{remedy}");
}

/// Whose old key is not logged is put aside where the table's policy says so.
#[test]
fn a_key_outside_the_identity_leaves_updates_and_deletes_to_the_dead_letters() {
    let table = Arc::new(orders());
    let config = TableConfig {
        key: Some(vec!["note".to_owned()]),
        on_violation: OnViolation::DeadLetter,
        ..TableConfig::default()
    };
    let mut bench = bench(&table, &config, Validation::Always);
    let row = [value("1"), value("x"), value("{}"), value("x")];
    let old = [value("1"), TestCell::Absent, TestCell::Absent, TestCell::Absent];
    let batch = BatchBuilder::new(&table)
        .change(Op::Create, None, Some(&row))
        .change(Op::Update, None, Some(&row))
        .change(Op::Delete, Some((ImageKind::Key, &old)), None);
    let documents = encode(&mut bench, &batch).unwrap();
    assert_eq!(documents[0]["key"], json!({"note": "x"}));
    for letter in &documents[1..] {
        assert!(dead_letter_schema().is_valid(letter), "{letter:#}");
        assert_eq!(letter["reason"]["code"], "RT5006");
    }
    assert_eq!(documents[1]["raw"]["after"]["note"], "x");
    assert_eq!(documents[2]["raw"]["before"]["id"], "1");
}

fn arbitrary_cell() -> impl Strategy<Value = TestCell> {
    prop_oneof![
        Just(TestCell::Null),
        Just(TestCell::Unchanged),
        "-?[0-9]{1,11}".prop_map(|text| value(&text)),
        "[a-zé\"\\\\\u{1}]{0,5}".prop_map(|text| value(&text)),
        Just(value("{\"a\":[1,\"x\"]}")),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(TestCell::Value),
    ]
}

fn arbitrary_id() -> impl Strategy<Value = TestCell> {
    prop_oneof![
        8 => (-5..1000_i32).prop_map(|id| value(&id.to_string())),
        1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(TestCell::Value),
    ]
}

/// What the independent validators say of an event's row.
fn judge(bench: &Bench, config: &TableConfig, document: &Value) -> bool {
    let valid = |schema: &Value, instance: &Value| {
        jsonschema::options().build(schema).unwrap().is_valid(instance)
    };
    let envelope: Value = serde_json::from_str(ENVELOPE_SCHEMA_JSON).unwrap();
    valid(&envelope, document)
        && valid(&bench.row, &document["after"])
        && config.contract.as_ref().is_none_or(|contract| valid(contract, &document["after"]))
}

proptest! {
    /// The plan elides what decoders prove. Its verdict on any row must be that of the full
    /// validators on the same event parsed into a tree.
    #[test]
    fn the_elided_plan_and_the_full_validators_agree(
        rows in prop::collection::vec(
            (arbitrary_id(), arbitrary_cell(), arbitrary_cell(), arbitrary_cell()), 1..6),
        is_update in any::<bool>(),
    ) {
        let table = Arc::new(orders());
        let config = contract();
        let mut checked = bench(&table, &config, Validation::Always);
        let mut unchecked = bench(&table, &config, Validation::Off);
        for (id, note, doc, code) in rows {
            let cells = [id, note, doc, code];
            let op = if is_update { Op::Update } else { Op::Create };
            let batch = || BatchBuilder::new(&table).change(op, None, Some(&cells));
            let verdict = checked.encoder.encode(&batch().0, &BufferPool::default());
            let plain = unchecked.encoder.encode(&batch().0, &BufferPool::default());
            let Ok(plain) = plain else {
                // No event could be written at all: both must say so.
                prop_assert!(verdict.is_err());
                continue;
            };
            let document: Value = serde_json::from_slice(
                &plain.data[..plain.data.len() - 1]).unwrap();
            prop_assert_eq!(
                verdict.is_ok(), judge(&checked, &config, &document), "{:?} {:#}", verdict, document);
            if let Ok(verdict) = verdict {
                prop_assert_eq!(verdict.data, plain.data);
            }
        }
    }
}
