//! Whole streams: what becomes of events one behind the other.

use rowtide_mysql::MyPosition;
use rowtide_mysql::binlog::event::{HEADER, kind};
use rowtide_mysql::decode::Decoding;
use rowtide_mysql::replay::replay;
use rowtide_sdk::{Batch, Cell, Entry, Image, Limits};

use super::values::decodes;
use super::{checks, recorded_of};
use crate::frame::Target;

/// A seed is about this long.
const LENGTH: usize = 2000;

pub(crate) fn target() -> Target {
    let mut seeds = Vec::new();
    for (server, choice) in [("mysql", 0), ("mariadb", 1)] {
        let mut seed = vec![choice];
        for event in recorded_of(server) {
            let begins = matches!(
                event[4],
                kind::GTID | kind::GTID_TAGGED | kind::MARIADB_GTID | kind::FORMAT_DESCRIPTION
            );
            if begins && seed.len() > LENGTH {
                seeds.push(std::mem::replace(&mut seed, vec![choice]));
            }
            seed.extend(u16::try_from(event.len()).unwrap().to_le_bytes());
            seed.extend(event);
        }
        seeds.push(seed);
    }
    Target { checks: checks(&[stream]), seeds }
}

/// The events of an input, of which each is as long as it states.
fn events(input: &[u8]) -> Vec<Vec<u8>> {
    let (mut events, mut rest) = (Vec::new(), input);
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let (event, after) = tail.split_at(tail.len().min(u16::from_le_bytes(*len).into()));
        let mut event = event.to_vec();
        let size = u32::try_from(event.len()).unwrap();
        if event.len() >= HEADER {
            event[9..13].copy_from_slice(&size.to_le_bytes());
        }
        events.push(event);
        rest = after;
    }
    events
}

/// Whatever comes: batches within the limits, then the end or a refusal, and every value inside its batch
/// and as its column says.
fn stream(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else { return };
    let events = events(input);
    let tight = Limits { batch_bytes: 512, batch_rows: 4, max_event: 256, ..Limits::default() };
    for limits in [Limits::default(), tight] {
        let mut batches = Vec::new();
        let all = events.iter().map(Vec::as_slice);
        let _refused = replay(all, choice & 1 == 1, limits, &mut batches);
        let changes: usize = batches.iter().map(|batch| batch.entries.len()).sum();
        // Something packed may be many times as long.
        let is_packed = events.iter().any(|event| event.get(4).is_some_and(|kind| *kind >= 40));
        assert!(is_packed || changes <= 2 * input.len(), "changes of nothing");
        batches.iter().for_each(is_whole);
    }
}

fn is_whole(batch: &Batch) {
    MyPosition::parse(batch.resume.as_ref().unwrap()).unwrap();
    for span in
        batch.txs.iter().flat_map(|tx| [tx.id, tx.commit, tx.log, tx.traceparent, tx.annotation])
    {
        assert!((span.start + span.len) as usize <= batch.text.len());
    }
    for entry in &batch.entries {
        let Entry::Change(change) = entry else { continue };
        assert!((change.tx as usize) < batch.txs.len());
        let images = [change.before, change.after];
        images.iter().flatten().for_each(|image| is_of_its_table(batch, change.table, image));
    }
}

fn is_of_its_table(batch: &Batch, table: u32, image: &Image) {
    let table = &batch.tables[table as usize];
    let first = image.first_cell as usize;
    let cells = &batch.cells[first..first + table.columns.len()];
    for (cell, column) in cells.iter().zip(&table.columns) {
        let Cell::Value(span) = cell else { continue };
        let decode = column.decode.clone();
        decodes(&Decoding { form: column.form.clone(), decode }, span.of(&batch.bytes));
    }
}
