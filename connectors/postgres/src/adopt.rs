//! Positions made by hand, for `rowtide position show|adopt|set`.

use rowtide_sdk::{Error, Origin, Position, Result};

use crate::error::codes as refusals;
use crate::lsn::Lsn;
use crate::position::PgPosition;
use crate::publication;
use crate::server::{self, Server};
use crate::slot::{self, Slot};
use crate::source::PostgresSource;
use crate::sql::{Sql as _, ident, literal};
use crate::stream::codes;
use crate::wire::ReplicationConnection;

/// A position in words, for people.
///
/// # Errors
/// `RT2201` where it is not a position of this source.
pub fn describe(position: &Position) -> Result<String> {
    let PgPosition { confirm, in_tx, history, slot, .. } = PgPosition::parse(position)?;
    let inside = match in_tx {
        Some(in_tx) => format!(
            ", and the first {} changes of the transaction that commits at LSN {}",
            in_tx.next_index, in_tx.commit
        ),
        None => String::new(),
    };
    Ok(format!("every transaction before LSN {confirm}{inside}; slot \"{slot}\" of {history}"))
}

async fn position(source: &PostgresSource, lsn: Option<Lsn>) -> Result<(Slot, PgPosition)> {
    let name = &source.config.slot;
    let mut connection = ReplicationConnection::connect(&source.options).await?;
    let server = Server::ask(&mut connection).await?;
    check_publication(source, &mut connection, &server).await?;
    let history = server::history(connection.identity(), &server);
    if let Some(lsn) = lsn {
        server::check_not_ahead(lsn, &connection.identity().flushed)?;
    }
    let slot = slot::find(&mut connection, name).await?.ok_or_else(|| {
        Error::fatal(
            Origin::Source,
            codes::SLOT_GONE,
            format!("the slot \"{name}\" does not exist"),
        )
        .with_remedy(format!(
            "{}, after the publication",
            slot::creation(name, slot::is_for_failover(&server))
        ))
    })?;
    slot.check_kind(&server)?;
    let position = PgPosition {
        confirm: lsn.map_or_else(|| slot.confirmed(), Ok)?,
        in_tx: None,
        history,
        slot: name.clone(),
        stream: source.fingerprint(),
    };
    Ok((slot, position))
}

/// A slot decodes nothing that was logged before its publication: a position for it would be refused
/// by the next run, or be of a slot that can never move.
async fn check_publication(
    source: &PostgresSource,
    connection: &mut ReplicationConnection,
    server: &Server,
) -> Result<()> {
    let name = &source.config.publication;
    if publication::find(connection, name, server.major()).await?.is_some() {
        return Ok(());
    }
    let create = slot::creation(&source.config.slot, slot::is_for_failover(server));
    let primary = if server.in_recovery { " on the primary" } else { "" };
    Err(Error::fatal(
        Origin::Source,
        refusals::PUBLICATION_MISSING,
        format!("the publication \"{name}\" does not exist, and the slot must be newer than it"),
    )
    .with_remedy(format!(
        "1. create the publication{primary} (`rowtide check` prints the SQL); 2. SELECT \
         pg_drop_replication_slot({}), where there is one; 3. {create}; 4. this command again",
        literal(&source.config.slot)
    )))
}

/// The position at which the slot stands now: what `rowtide position adopt` saves. Reads only.
///
/// # Errors
/// Where the server cannot be asked, or the slot is missing or of another kind.
pub async fn position_at_slot(source: &PostgresSource) -> Result<Position> {
    position(source, None).await?.1.to_position()
}

/// The position at an LSN given by hand: what `rowtide position set --lsn` saves. Reads only.
///
/// Everything that committed before `lsn` will not be captured.
///
/// # Errors
/// As [`position_at_slot`]; `RT2203` where the slot is confirmed past `lsn` already, `RT2202` where
/// the server's log ends before it.
pub async fn position_at(source: &PostgresSource, lsn: Lsn) -> Result<Position> {
    let (slot, position) = position(source, Some(lsn)).await?;
    slot.check_position(&position)?;
    position.to_position()
}

/// Drops the source's slot and publication, where they exist. The slot must not be in use.
///
/// # Errors
/// What the server refuses.
pub async fn drop_slot_and_publication(source: &PostgresSource) -> Result<()> {
    let mut connection = ReplicationConnection::connect(&source.options).await?;
    let slot = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}",
        literal(&source.config.slot)
    );
    connection.rows(&slot, "dropping the slot").await?;
    let publication = format!("DROP PUBLICATION IF EXISTS {}", ident(&source.config.publication));
    connection.rows(&publication, "dropping the publication").await?;
    Ok(())
}
