//! Reads values back that the log did not carry: large columns that an update left as they were.
//!
//! The row is found by its identity on a connection of its own, with the session settings that the
//! log's text comes from. Its value is taken only where the row still is as the event left it: it must
//! agree in every column that the log carried, or an unbroken chain of later updates in the same
//! batch, which left the column as it was, must lead to one that agrees. So the value is never older
//! than the event, and newer only where since then the very columns that are read were changed and
//! nothing else. Where it cannot be had the column stays unchanged, and the event says why.
//!
//! `needs` finds what to read, `query` asks, `cut` puts it in place and cuts a batch whose values
//! would take too much memory.

mod cut;
mod needs;
mod query;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rowtide_sdk::{
    Batch, Cell, Entry, Error, JsonWriter, Limits, NotReselected, Origin, Reselection, Result,
    Span, Table,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use self::cut::{Outcome, Place, Read};
use self::needs::Wanted;
use self::query::{Bounds, State, Target};
use crate::config::ConnectOptions;
use crate::error::{codes as refusals, from_sql};
use crate::lsn::Lsn;
use crate::publication::CatalogTable;
use crate::sql::unexpected;
use crate::wire::{SqlClient, sql_client};

pub(crate) use self::needs::Needs;
pub(crate) use self::query::may_not_read;

/// Whether values of a table can be read back at all: where the log carries whole rows it lacks none, and
/// without an identity no row is found. The stream decides by the same of what the log describes.
pub(crate) fn is_read_back(table: &CatalogTable) -> bool {
    table.identity != 'f' && !table.identity_columns.is_empty()
}

const DOING: &str = "reading values back";
/// Rows asked for at a time.
const ROWS: usize = 100;
/// How long a change may take to become visible to other sessions after it was sent.
const VISIBLE_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks.
const VISIBLE_STEP: Duration = Duration::from_millis(10);
/// The settings of the session beside those of every one: each statement has a snapshot of its own,
/// nothing is written, rows that a policy hides are an error, and nothing waits for ever.
const SESSION: &str = "SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = on; SET row_security = off; SET jit = off;
    SET statement_timeout = '60s'";

/// Reads values back.
pub(crate) struct Reselector {
    options: ConnectOptions,
    reselection: Reselection,
    /// Bytes of values that one batch may gain; a single row may have more.
    budget: usize,
    /// Bytes of one row's large columns at most.
    row_max: usize,
    /// Whether the log shows every change of a row.
    follows: bool,
    client: Option<SqlClient>,
    /// By the address of a table version, which is held so that it stays its own.
    known: HashMap<usize, Known>,
}

/// A batch was cut.
pub(crate) struct Cut {
    /// The place after what leaves.
    pub(crate) place: Place,
    /// What must wait.
    pub(crate) rest: Batch,
}

/// A table version.
struct Known {
    table: Arc<Table>,
    wanted: Option<Wanted>,
    /// How it can be read; looked up on first use.
    target: Option<Option<Target>>,
}

/// What the server said of one row.
enum Answer {
    Outcome(Result<Read, NotReselected>),
    Wait,
    Later,
}

/// Which rows of a batch are asked for at a time.
struct Asked<'a> {
    needs: &'a Needs,
    /// Indexes into the needs' rows, all of one table version.
    rows: Vec<usize>,
    table: Arc<Table>,
    wanted: Wanted,
    bounds: Bounds,
}

impl Reselector {
    /// `follows` says whether the log shows every change of a row.
    pub(crate) fn new(
        options: ConnectOptions,
        reselection: Reselection,
        limits: Limits,
        follows: bool,
    ) -> Self {
        Self {
            options,
            reselection,
            budget: limits.batch_bytes.max(1),
            row_max: limits.max_event / 2,
            follows,
            client: None,
            known: HashMap::new(),
        }
    }

    /// What a batch needs; `None` where that is nothing.
    pub(crate) fn needs(&mut self, batch: &Batch) -> Option<Needs> {
        let wanted: Vec<Option<Wanted>> =
            batch.tables.iter().map(|table| self.wanted(table).cloned()).collect();
        if wanted.iter().all(Option::is_none) {
            return None;
        }
        let needs = needs::find(batch, &wanted, self.follows);
        (!needs.needs.is_empty()).then_some(needs)
    }

    fn wanted(&mut self, table: &Arc<Table>) -> Option<&Wanted> {
        let address = Arc::as_ptr(table).addr();
        if !self.known.contains_key(&address) {
            // Versions that nobody else holds any more will not be seen again.
            self.known.retain(|_, known| Arc::strong_count(&known.table) > 1);
        }
        let known = self.known.entry(address).or_insert_with(|| Known {
            table: Arc::clone(table),
            wanted: Wanted::new(table, &(self.reselection)(table)),
            target: None,
        });
        known.wanted.as_ref()
    }

    /// Reads what a batch needs and puts it in place. Where that would take too much memory, the
    /// batch is cut, and lacks its position: the second one has what must wait. `from` is the place before it.
    ///
    /// # Errors
    /// Those of the connection, transient; fatal where the role may not read the table.
    pub(crate) async fn read(
        &mut self,
        mut batch: Batch,
        needs: &Needs,
        from: Place,
    ) -> Result<(Batch, Option<Cut>)> {
        let raw = batch.bytes.len();
        let outcomes = self.outcomes(&mut batch, needs).await?;
        let ready = cut::ready(&batch, needs, &outcomes, self.budget);
        let cut = (ready < batch.entries.len()).then(|| {
            let rest = cut::split(&mut batch, ready, raw);
            Cut { place: cut::place(&batch, from), rest }
        });
        cut::apply(&mut batch, needs, &outcomes);
        Ok((batch, cut))
    }

    /// Reads rows in the order in which they are needed, as far as memory goes.
    async fn outcomes(&mut self, batch: &mut Batch, needs: &Needs) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = vec![None; needs.rows.len()];
        let deadline = Instant::now() + VISIBLE_WITHIN;
        let mut left = self.budget;
        while left > 0
            && let Some(first) = outcomes.iter().position(Option::is_none)
        {
            let Some(asked) = self.asked(batch, needs, &outcomes, first, left) else { break };
            let before = batch.bytes.len();
            let answers = self.ask(batch, &asked).await?;
            left = left.saturating_sub(batch.bytes.len().saturating_sub(before));
            let is_late = Instant::now() >= deadline;
            let mut waits = false;
            for (&row, answer) in asked.rows.iter().zip(answers) {
                let Some(outcome) = outcomes.get_mut(row) else { continue };
                match answer {
                    Answer::Outcome(known) => *outcome = Some(known),
                    Answer::Wait if is_late => *outcome = Some(Err(NotReselected::NotVisible)),
                    Answer::Wait => waits = true,
                    Answer::Later => left = 0,
                }
            }
            if waits {
                sleep(VISIBLE_STEP).await;
            }
        }
        Ok(outcomes)
    }

    /// The rows to ask for next: those of one table version, from the first that is not known.
    fn asked<'a>(
        &mut self,
        batch: &Batch,
        needs: &'a Needs,
        outcomes: &[Outcome],
        first: usize,
        all: usize,
    ) -> Option<Asked<'a>> {
        let of = needs.rows.get(first)?.table;
        let table = Arc::clone(batch.tables.get(of)?);
        let wanted = self.wanted(&table)?.clone();
        let is_asked = |&row: &usize| {
            outcomes.get(row).is_some_and(Option::is_none)
                && needs.rows.get(row).is_some_and(|row| row.table == of)
        };
        let rows = (first..needs.rows.len()).filter(is_asked).take(ROWS).collect();
        Some(Asked { needs, rows, table, wanted, bounds: Bounds { row: self.row_max, all } })
    }

    /// Asks for rows; an answer for each. Where the table turns out to be another than it was when
    /// it was looked up, it is looked up once more.
    async fn ask(&mut self, batch: &mut Batch, asked: &Asked<'_>) -> Result<Vec<Answer>> {
        for is_again in [false, true] {
            let Some(target) = self.target(asked, is_again).await? else { break };
            let rows: Vec<_> =
                asked.rows.iter().filter_map(|&row| asked.needs.rows.get(row)).collect();
            let statement = query::statement(batch, &target, &asked.wanted, &rows, asked.bounds);
            let Some(statement) = statement else { break };
            let before = batch.bytes.len();
            let Some(client) = &self.client else { break };
            match fetch(client, &statement, batch, asked).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) => {}
                Err(Failure::Sql(error)) if query::tells_of_change(&error) => {}
                Err(Failure::Sql(error)) if query::tells_of_rights(&error) => {
                    let Table { schema, name, .. } = &*asked.table;
                    return Err(may_not_read(schema, name).with_source(error));
                }
                Err(Failure::Sql(error)) => return Err(failed(error)),
                Err(Failure::Other(error)) => return Err(error),
            }
            batch.bytes.truncate(before);
        }
        let altered = || Answer::Outcome(Err(NotReselected::Altered));
        Ok(asked.rows.iter().map(|_| altered()).collect())
    }

    /// How the table can be read; `None` where it is not what it was.
    async fn target(&mut self, asked: &Asked<'_>, is_again: bool) -> Result<Option<Target>> {
        let address = Arc::as_ptr(&asked.table).addr();
        let known = self.known.get(&address).and_then(|known| known.target.clone());
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let client = Box::pin(sql_client(&self.options)).await?;
                client.batch_execute(SESSION).await.map_err(|error| from_sql(error, DOING))?;
                client
            }
        };
        let target = match known.filter(|_| !is_again) {
            Some(target) => target,
            None => query::look(&mut &*client, &asked.table, &asked.wanted).await?,
        };
        self.client = Some(client);
        if let Some(known) = self.known.get_mut(&address) {
            known.target = Some(target.clone());
        }
        Ok(target)
    }
}

/// Why rows could not be fetched.
enum Failure {
    Sql(tokio_postgres::Error),
    Other(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

/// A statement that took too long is tried again, as what holds it up passes.
fn failed(error: tokio_postgres::Error) -> Error {
    let is_timeout = error.as_db_error().is_some_and(|error| error.code().code() == "57014");
    if !is_timeout {
        return from_sql(error, DOING);
    }
    let message = "reading values back took longer than 60 s, perhaps behind a lock of the table";
    Error::transient(Origin::Source, refusals::UNAVAILABLE, message).with_source(error)
}

/// Fetches rows, appending their values to the batch. `None` where the name is another table's now.
async fn fetch(
    client: &SqlClient,
    statement: &str,
    batch: &mut Batch,
    asked: &Asked<'_>,
) -> Result<Option<Vec<Answer>>, Failure> {
    let stream = client.simple_query_raw(statement).await?;
    tokio::pin!(stream);
    let mut place: Option<(Lsn, Span)> = None;
    let mut answers: Vec<Answer> = asked.rows.iter().map(|_| Answer::Wait).collect();
    let unread = || Failure::Other(unexpected(DOING));
    while let Some(message) = stream.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let Some((lsn, position)) = place else {
            let lsn: Lsn =
                row.try_get(0)?.and_then(|lsn: &str| lsn.parse().ok()).ok_or_else(unread)?;
            place = Some((lsn, write_place(batch, lsn).ok_or_else(unread)?));
            continue;
        };
        let number: usize =
            row.try_get(0)?.and_then(|n: &str| n.parse().ok()).ok_or_else(unread)?;
        let state = row.try_get(1)?.and_then(State::parse).ok_or_else(unread)?;
        if row.try_get(2)? != Some("t") {
            return Ok(None);
        }
        let answer = match state {
            State::Wait => Answer::Wait,
            State::Later => Answer::Later,
            State::Not(reason) => Answer::Outcome(Err(reason)),
            State::Read => {
                let of = asked.rows.get(number).copied().ok_or_else(unread)?;
                taken(batch, asked, of, &row, lsn, position).ok_or_else(unread)?
            }
        };
        *answers.get_mut(number).ok_or_else(unread)? = answer;
    }
    Ok(Some(answers))
}

/// Renders the place of a read; `None` where the batch's text is full.
fn write_place(batch: &mut Batch, lsn: Lsn) -> Option<Span> {
    let start = batch.text.len();
    let mut out = JsonWriter::new(std::mem::take(&mut batch.text));
    out.raw(b"{\"lsn\":");
    out.quoted(lsn.text().as_bytes());
    out.byte(b'}');
    batch.text = out.into_inner();
    crate::stream::span(start, batch.text.len()).ok()
}

/// Takes the wanted values of a row that was read, where it is the event's own version. `None` where
/// the batch contradicts itself or is full.
fn taken(
    batch: &mut Batch,
    asked: &Asked<'_>,
    of: usize,
    row: &SimpleQueryRow,
    lsn: Lsn,
    position: Span,
) -> Option<Answer> {
    let entry = asked.needs.rows.get(of)?.entry;
    let needed = &asked.needs.needs.iter().find(|need| need.entry == entry)?.columns;
    let Some(Entry::Change(change)) = batch.entries.get(entry) else { return None };
    let commit = batch.txs.get(change.tx as usize)?.commit.of(&batch.text);
    let commit: Lsn = std::str::from_utf8(commit).ok()?.parse().ok()?;
    if lsn < commit {
        // A standby that is behind the one that the change came from.
        return Some(Answer::Wait);
    }
    let columns = &asked.table.columns;
    let count = columns.len();
    let after = batch.image(change.after?, count).to_vec();
    let before = change.before.map(|image| batch.image(image, count).to_vec()).unwrap_or_default();
    let changed = Some(Answer::Outcome(Err(NotReselected::Changed)));
    let mut values = Vec::new();
    for (index, cell) in after.into_iter().enumerate() {
        // The columns follow number, state and identity.
        let Ok(now) = row.try_get(index.saturating_add(3)) else { return changed };
        let filled = match (cell, before.get(index)) {
            (Cell::Unchanged, Some(old @ (Cell::Value(_) | Cell::Null))) => *old,
            _ => cell,
        };
        let is_same = |span: Span, now: &str| {
            let text = columns.get(index).map(|column| column.decode.text(span.of(&batch.bytes)));
            text.as_deref() == Some(now.as_bytes())
        };
        let column = u32::try_from(index).ok()?;
        match (filled, now) {
            (Cell::Value(span), Some(now)) if is_same(span, now) => {}
            (Cell::Null, None) | (Cell::Absent, _) => {}
            (Cell::Unchanged, Some(now)) if needed.contains(&column) => {
                let start = batch.bytes.len();
                batch.bytes.extend_from_slice(now.as_bytes());
                values.push((column, crate::stream::span(start, batch.bytes.len()).ok()?));
            }
            (Cell::Unchanged, _) if !needed.contains(&column) => {}
            _ => return changed,
        }
    }
    Some(Answer::Outcome(Ok(Read { values, position })))
}
