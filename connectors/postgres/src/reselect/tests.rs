//! Against a table that is simulated: whatever happens to rows, a value that is read back is no older
//! than the event, and newer only where nothing but it changed since the batch.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rowtide_sdk::{Change, Identity, Image, ImageKind, LogMessage, Op, Tx};

use super::cut::{apply, place, ready, split};
use super::needs::find;
use super::*;
use crate::position::InTx;
use crate::relation::{RelationColumn, RelationMessage, TableFacts, build_table};

/// `id`, `n`, `big`.
const COLUMNS: usize = 3;

fn table() -> Table {
    let column = |name: &str, type_oid, is_identity| RelationColumn {
        is_identity,
        name: name.to_owned(),
        type_oid,
        typmod: -1,
    };
    let message = RelationMessage {
        oid: 7,
        schema: "public".to_owned(),
        name: "t".to_owned(),
        identity: b'd',
        columns: vec![column("id", 23, true), column("n", 23, false), column("big", 25, false)],
    };
    build_table("shop", &message, &TableFacts::from_relation(&message))
}

/// A row: `n` and `big`.
type Value = (u32, u32);

/// What was done, and with it what the log shows.
struct Written {
    rows: BTreeMap<u8, Value>,
    batch: Batch,
    /// By entry: the value of `big` that an unchanged cell stands for.
    truth: Vec<Option<u32>>,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
enum Did {
    Insert(u8),
    SetN(u8),
    SetBig(u8),
    Move(u8, u8),
    MoveAndSetBig(u8, u8),
    Delete(u8),
    Truncate,
    Message,
}

fn did() -> impl Strategy<Value = Did> {
    let key = 0_u8..4;
    prop_oneof![
        3 => key.clone().prop_map(Did::Insert),
        6 => key.clone().prop_map(Did::SetN),
        2 => key.clone().prop_map(Did::SetBig),
        3 => (key.clone(), key.clone()).prop_map(|(a, b)| Did::Move(a, b)),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| Did::MoveAndSetBig(a, b)),
        2 => key.prop_map(Did::Delete),
        1 => Just(Did::Truncate),
        1 => Just(Did::Message),
    ]
}

impl Written {
    fn new(rows: BTreeMap<u8, Value>, next: u32) -> Self {
        let batch = Batch { tables: vec![Arc::new(table())], ..Batch::default() };
        Self { rows, batch, truth: Vec::new(), next }
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn cell(&mut self, value: u32) -> Cell {
        let start = u32::try_from(self.batch.bytes.len()).unwrap();
        let text = value.to_string();
        self.batch.bytes.extend_from_slice(text.as_bytes());
        Cell::Value(Span { start, len: u32::try_from(text.len()).unwrap() })
    }

    fn image(&mut self, kind: ImageKind, cells: [Cell; COLUMNS]) -> Option<Image> {
        let first_cell = u32::try_from(self.batch.cells.len()).unwrap();
        self.batch.cells.extend(cells);
        Some(Image { first_cell, kind })
    }

    fn key_image(&mut self, key: u8) -> Option<Image> {
        let id = self.cell(key.into());
        self.image(ImageKind::Key, [id, Cell::Absent, Cell::Absent])
    }

    fn row_image(&mut self, key: u8, value: Value, is_unchanged: bool) -> Option<Image> {
        let (id, n) = (self.cell(key.into()), self.cell(value.0));
        let big = if is_unchanged { Cell::Unchanged } else { self.cell(value.1) };
        self.image(ImageKind::Row, [id, n, big])
    }

    fn push(&mut self, op: Op, before: Option<Image>, after: Option<Image>, truth: Option<u32>) {
        let index = self.batch.entries.len() as u64;
        let change = Change { op, table: 0, tx: 0, offset: 0, index, part: None, before, after };
        self.batch.entries.push(Entry::Change(change));
        self.truth.push(truth);
    }

    fn update(&mut self, from: u8, to: u8, sets_n: bool, sets_big: bool) {
        let Some(mut value) = self.rows.get(&from).copied() else { return };
        if from != to && self.rows.contains_key(&to) {
            return;
        }
        if sets_n {
            value.0 = self.fresh();
        }
        if sets_big {
            value.1 = self.fresh();
        }
        self.rows.remove(&from);
        self.rows.insert(to, value);
        let before = if from == to { None } else { self.key_image(from) };
        let after = self.row_image(to, value, !sets_big);
        self.push(Op::Update, before, after, (!sets_big).then_some(value.1));
    }

    fn run(&mut self, did: Did) {
        match did {
            Did::Insert(key) if !self.rows.contains_key(&key) => {
                let value = (self.fresh(), self.fresh());
                self.rows.insert(key, value);
                let after = self.row_image(key, value, false);
                self.push(Op::Create, None, after, None);
            }
            Did::SetN(key) => self.update(key, key, true, false),
            Did::SetBig(key) => self.update(key, key, false, true),
            Did::Move(from, to) => self.update(from, to, false, false),
            Did::MoveAndSetBig(from, to) => self.update(from, to, false, true),
            Did::Delete(key) if self.rows.remove(&key).is_some() => {
                let before = self.key_image(key);
                self.push(Op::Delete, before, None, None);
            }
            Did::Truncate => {
                self.rows.clear();
                self.push(Op::Truncate, None, None, None);
            }
            Did::Message => {
                let change = Change {
                    op: Op::Message,
                    table: u32::MAX,
                    tx: 0,
                    offset: 0,
                    index: 0,
                    part: None,
                    before: None,
                    after: None,
                };
                let message = LogMessage {
                    change,
                    db: "shop".into(),
                    is_transactional: true,
                    prefix: Span::default(),
                    encoding: rowtide_sdk::ContentEncoding::Text,
                    content: Span::default(),
                };
                self.batch.entries.push(Entry::Message(Box::new(message)));
                self.truth.push(None);
            }
            Did::Insert(_) | Did::Delete(_) => {}
        }
    }
}

fn text(batch: &Batch, cell: Cell) -> String {
    match cell {
        Cell::Value(span) => String::from_utf8(span.of(&batch.bytes).to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

/// Reads the rows from what the table holds now, as the server would.
fn outcomes(batch: &mut Batch, needs: &Needs, rows: &BTreeMap<u8, Value>) -> Vec<Outcome> {
    let position = Span::default();
    let read = |batch: &mut Batch, entry: usize| -> Result<Read, NotReselected> {
        let Entry::Change(change) = &batch.entries[entry] else { panic!() };
        let cells = batch.image(change.after.unwrap(), COLUMNS).to_vec();
        let key: u8 = text(batch, cells[0]).parse().unwrap();
        let (n, big) = *rows.get(&key).ok_or(NotReselected::Gone)?;
        if text(batch, cells[1]) != n.to_string() {
            return Err(NotReselected::Changed);
        }
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(big.to_string().as_bytes());
        let span = crate::stream::span(start, batch.bytes.len()).unwrap();
        Ok(Read { values: vec![(2, span)], position })
    };
    needs.rows.iter().map(|row| Some(read(batch, row.entry))).collect()
}

fn wanted() -> Vec<Option<Wanted>> {
    let wanted = Wanted::new(&table(), &[2]);
    assert!(wanted.is_some());
    vec![wanted]
}

proptest! {
    #[test]
    fn h26_what_is_read_back_is_what_the_version_had_or_newer_than_the_batch(
        before in prop::collection::vec(did(), 0..6),
        in_batch in prop::collection::vec(did(), 0..30),
        later in prop::collection::vec(did(), 0..6),
        follows: bool,
    ) {
        let mut earlier = Written::new(BTreeMap::new(), 0);
        before.into_iter().for_each(|did| earlier.run(did));
        let mut written = Written::new(earlier.rows, earlier.next);
        in_batch.into_iter().for_each(|did| written.run(did));
        let quiet = later.is_empty();
        let mut table_now = Written::new(written.rows.clone(), written.next);
        later.into_iter().for_each(|did| table_now.run(did));

        let mut batch = written.batch;
        let needs = find(&batch, &wanted(), follows);
        let needing: Vec<usize> = needs.needs.iter().map(|need| need.entry).collect();
        let lacking = written.truth.iter().enumerate().filter(|(_, truth)| truth.is_some());
        prop_assert_eq!(&needing, &lacking.map(|(entry, _)| entry).collect::<Vec<_>>());
        let firsts: Vec<usize> = needs.rows.iter().map(|row| row.first).collect();
        prop_assert!(firsts.is_sorted());

        let outcomes = outcomes(&mut batch, &needs, &table_now.rows);
        apply(&mut batch, &needs, &outcomes);
        prop_assert_eq!(batch.reselected.len(), needing.len());
        for note in &batch.reselected {
            let entry = note.entry as usize;
            let Entry::Change(change) = &batch.entries[entry] else { panic!() };
            let cell = batch.image(change.after.unwrap(), COLUMNS)[2];
            match note.reason {
                None => {
                    // Values only ever grow.
                    let (value, truth) = (text(&batch, cell), written.truth[entry].unwrap());
                    let value: u32 = value.parse().unwrap();
                    let newer = if follows { written.next } else { truth };
                    prop_assert!(value == truth || value > newer, "entry {}", entry);
                }
                Some(_) => prop_assert_eq!(cell, Cell::Unchanged),
            }
        }
        // Where nothing happened since, the last version of each row has its value.
        if quiet {
            let rows = needs.rows.iter().zip(&outcomes);
            for (row, outcome) in rows {
                prop_assert!(!follows || matches!(outcome, Some(Ok(_))), "row {:?}", row);
            }
        }
    }
}

fn update(written: &mut Written, tx: u32, index: u64, key: u8) {
    written.rows.insert(key, (1, 1));
    written.update(key, key, true, false);
    let Some(Entry::Change(change)) = written.batch.entries.last_mut() else { panic!() };
    (change.tx, change.index) = (tx, index);
}

/// Three transactions with commit records at 10, 20 and 30.
fn three_transactions() -> Batch {
    let mut written = Written::new(BTreeMap::new(), 0);
    for (tx, index, key) in [(0, 5, 0), (0, 6, 1), (1, 0, 2), (2, 1, 3)] {
        update(&mut written, tx, index, key);
    }
    let mut batch = written.batch;
    batch.text = b"90/A0/140/1E".to_vec();
    let span = |start, len| Span { start, len };
    let id = span(0, 1);
    batch.txs = vec![
        Tx { id, commit: span(1, 3), ..Tx::default() },
        Tx { id, commit: span(4, 4), ..Tx::default() },
        Tx { id, commit: span(8, 4), ..Tx::default() },
    ];
    batch
}

#[test]
fn a_cut_batch_has_the_place_of_its_last_entry() {
    let expected = [
        (Lsn(7), Some((0xA, 6))),
        (Lsn(7), Some((0xA, 7))),
        (Lsn(0xB), Some((0x14, 1))),
        (Lsn(0x15), Some((0x1E, 2))),
    ];
    for (entries, (confirm, in_tx)) in (1..).zip(expected) {
        let mut batch = three_transactions();
        let raw = batch.bytes.len();
        let rest = split(&mut batch, entries, raw);
        assert_eq!((batch.entries.len(), rest.entries.len()), (entries, 4 - entries));
        assert_eq!(rest.bytes, batch.bytes);
        let in_tx = in_tx.map(|(commit, next_index)| InTx { commit: Lsn(commit), next_index });
        assert_eq!(place(&batch, (Lsn(7), None)), (confirm, in_tx));
    }
    // A piece that begins with the next transaction: the one before it is whole.
    let inside = |commit, next_index| Some(InTx { commit: Lsn(commit), next_index });
    let from = (Lsn(7), inside(0xA, 7));
    assert_eq!(place(&Batch::default(), from), from);
    let mut batch = three_transactions();
    batch.entries.drain(..2);
    batch.entries.truncate(1);
    assert_eq!(place(&batch, from), (Lsn(0xB), inside(0x14, 1)));
    let from = (Lsn(7), inside(0x14, 0));
    assert_eq!(place(&batch, from), (Lsn(7), inside(0x14, 1)));
}

#[test]
fn a_message_outside_transactions_is_a_place_of_its_own() {
    let mut batch = three_transactions();
    batch.entries.truncate(3);
    let mut written = Written::new(BTreeMap::new(), 0);
    written.run(Did::Message);
    let Some(Entry::Message(mut message)) = written.batch.entries.pop() else { panic!() };
    message.change.tx = 2;
    batch.txs[2].id = Span::default();
    batch.entries.push(Entry::Message(message));
    assert_eq!(place(&batch, (Lsn(7), None)), (Lsn(0x1E), None));
}

#[test]
fn values_above_the_budget_wait_but_for_the_first() {
    let batch = three_transactions();
    let needs = find(&batch, &wanted(), true);
    let outcome = |len| {
        let span = Span { start: 0, len };
        Some(Ok(Read { values: vec![(2, span)], position: Span::default() }))
    };
    let all = |len| vec![outcome(len), outcome(len), outcome(len), outcome(len)];
    assert_eq!(ready(&batch, &needs, &all(10), 100), 4);
    assert_eq!(ready(&batch, &needs, &all(40), 100), 2);
    assert_eq!(ready(&batch, &needs, &all(400), 100), 1);
    let mut unread = all(10);
    unread[2] = None;
    assert_eq!(ready(&batch, &needs, &unread, 100), 2);
    unread[2] = Some(Err(NotReselected::Gone));
    assert_eq!(ready(&batch, &needs, &unread, 100), 4);
}

#[test]
fn only_tables_that_log_a_key_are_read() {
    let wanted = |identity| Wanted::new(&Table { identity, ..table() }, &[2]).is_some();
    assert!(wanted(Identity::Default) && wanted(Identity::Index));
    assert!(!wanted(Identity::Full) && !wanted(Identity::Nothing));
    assert_eq!(Wanted::new(&table(), &[]), None);
    let mut keyless = table();
    keyless.columns.iter_mut().for_each(|column| column.is_identity = false);
    assert_eq!(Wanted::new(&keyless, &[2]), None);
}
