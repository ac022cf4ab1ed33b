//! Ordinary SQL over the same transports and with the same session settings, by tokio-postgres.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::ops::Deref;
use std::time::Duration;

use rowtide_sdk::{Error, Result};
use tokio_postgres::config::{ChannelBinding as SqlBinding, SslMode as SqlTls, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::auth;
use super::hosts::{Role, Search};
use super::session::{NO_TRANSACTION_TIMEOUT, check_reported, session_options};
use super::tls::connect_error;
use super::transport::{Transport, connect_stream, within};
use crate::config::{self, ConnectOptions, describe};
use crate::error::from_sql;
use crate::sql::{Sql as _, unexpected};

/// How long a dropped client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// An SQL connection. Dropped, it tells the server so and its task ends.
#[derive(Debug)]
pub struct SqlClient {
    client: Client,
    options: ConnectOptions,
    _task: DropGuard,
}

impl Deref for SqlClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl SqlClient {
    /// How to connect to the same server again.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// For the methods that need the client exclusively (transactions).
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Opens an SQL connection with the session settings of a replication connection, `search_path`
/// pinned to `pg_catalog` among them: name everything else with its schema.
///
/// # Errors
/// RT21xx, classified as for [`super::ReplicationConnection::connect`].
pub async fn sql_client(options: &ConnectOptions) -> Result<SqlClient> {
    let mut search = Search::begin(options).await;
    while let Some((at, wanted)) = search.next() {
        match within(&at, Box::pin(open(&at, true))).await {
            Ok((client, role)) => {
                if search.accepts(&at, wanted, role) {
                    return Ok(client);
                }
            }
            Err(error) => search.failed(error),
        }
    }
    Err(search.error())
}

/// What the database's own `lc_monetary` stores an amount of 1 as: 100 where it has two decimals.
/// `options` names one server. Asked on a connection whose settings are the database's, as what is stored was written on such.
///
/// # Errors
/// RT21xx, classified.
pub(crate) async fn money_units(options: &ConnectOptions) -> Result<i64> {
    const DOING: &str = "asking how money is stored";
    let (client, _) = within(options, Box::pin(open(options, false))).await?;
    let statement = "SELECT ('x' || pg_catalog.encode(pg_catalog.cash_send(1::pg_catalog.money), \
        'hex'))::pg_catalog.bit(64)::pg_catalog.int8::pg_catalog.text";
    let mut sql = &*client;
    let rows = sql.rows(statement, DOING).await?;
    let text = rows.into_iter().flatten().flatten().next();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| unexpected(DOING))
}

/// Opens a connection, with the pinned settings or with the database's own.
async fn open(options: &ConnectOptions, is_pinned: bool) -> Result<(SqlClient, Role)> {
    let transport = connect_stream(options).await?;
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .options(if is_pinned { session_options(options) } else { String::new() })
        .channel_binding(match options.tls.channel_binding {
            config::ChannelBinding::Disable => SqlBinding::Disable,
            config::ChannelBinding::Prefer => SqlBinding::Prefer,
            config::ChannelBinding::Require => SqlBinding::Require,
        });
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    // TLS is spoken already; tokio-postgres is told so in order to take its channel binding.
    if transport.is_encrypted() {
        config.ssl_mode(SqlTls::Require).ssl_negotiation(SslNegotiation::Direct);
    } else {
        config.ssl_mode(SqlTls::Disable);
    }
    let connected = config.connect_raw(transport, Encrypted).await;
    let (client, connection) = connected.map_err(|error| login_error(options, error))?;
    if is_pinned {
        check_reported(|name| connection.parameter(name))?;
    }
    let role = Role::reported(|name| connection.parameter(name));

    let gone = CancellationToken::new();
    let ending = gone.clone();
    tokio::spawn(async move {
        tokio::pin!(connection);
        let result = tokio::select! {
            result = &mut connection => Some(result),
            () = ending.cancelled() => tokio::time::timeout(GOODBYE, connection).await.ok(),
        };
        if let Some(Err(error)) = result {
            // Whoever waits for an answer is told so; this is for a connection that nobody used.
            tracing::debug!(%error, "an SQL connection ended");
        }
    });
    let client = SqlClient { client, options: options.clone(), _task: gone.drop_guard() };
    if is_pinned {
        let statement = format!("SELECT {NO_TRANSACTION_TIMEOUT}");
        (&*client).rows(&statement, "setting up the session").await?;
    }
    Ok((client, role))
}

/// The same error that a replication connection has for the same cause.
fn login_error(options: &ConnectOptions, error: tokio_postgres::Error) -> Error {
    if error.as_db_error().is_some() {
        return from_sql(error, &format!("logging in to {}", describe(options)));
    }
    if options.password.is_none() && error.to_string().starts_with("invalid configuration") {
        return auth::no_password();
    }
    if error.to_string().starts_with("authentication error") {
        return auth::refused("the login could not be completed").with_source(error);
    }
    let text = error.to_string();
    match error.into_source().map(|source| source.downcast::<io::Error>()) {
        Some(Ok(error)) => connect_error(options, *error),
        Some(Err(other)) => auth::refused(text).with_source(other),
        None => connect_error(options, io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Hands a stream that speaks TLS already to tokio-postgres.
struct Encrypted;

impl TlsConnect<Transport> for Encrypted {
    type Stream = Transport;
    type Error = Infallible;
    type Future = Ready<std::result::Result<Transport, Infallible>>;

    fn connect(self, stream: Transport) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        match self.end_point_binding() {
            Some(binding) => ChannelBinding::tls_server_end_point(binding.to_vec()),
            None => ChannelBinding::none(),
        }
    }
}
