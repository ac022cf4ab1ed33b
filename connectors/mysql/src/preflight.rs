//! `rowtide check`: everything that blocks or will hurt, in one pass, without side effects.

use rowtide_sdk::{Error, Finding, Preflight, Result};

use crate::position::MyPosition;
use crate::server::Server;
use crate::source::{MysqlSource, resumed};
use crate::wire::{BinlogConnection, sql_conn};

/// The preflight of a source: connects, looks, changes nothing.
pub async fn check(source: &MysqlSource, known: Preflight<'_>) -> Vec<Finding> {
    match look(source, known).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::from(&error)],
    }
}

async fn look(source: &MysqlSource, known: Preflight<'_>) -> Result<Vec<Finding>> {
    let connection = BinlogConnection::connect(&source.options).await?;
    let greeting = connection.greeting().clone();
    connection.close().await;
    let options = source.options.at(&greeting.target, greeting.address);
    let mut conn = sql_conn(&options).await?;
    let server = Server::ask(&mut conn, &greeting).await?;
    let mut errors: Vec<Error> = server.obstacles();
    if errors.is_empty() {
        errors.extend(server.log_end(&mut conn).await.err());
    }
    if let Some(position) = known.resume {
        let position = MyPosition::parse(position);
        let fits = position.and_then(|position| resumed(position, &server, &source.shape()));
        errors.extend(fits.err());
    }
    Ok(errors.iter().map(Finding::from).collect())
}
