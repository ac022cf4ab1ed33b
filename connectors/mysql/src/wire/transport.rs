//! Connecting, and what its failures mean in this connector's words.

use std::io;

use rowtide_net::{Refusal, TlsError, TlsSettings, Transport, Verify};
use rowtide_sdk::{Error, Origin, Result};
use tokio::time::timeout;

use crate::config::{ConnectOptions, SslMode, Target, TlsOptions};
use crate::error::codes;

/// Gives a part of connecting the configured time.
pub(super) async fn within<T>(
    options: &ConnectOptions,
    connecting: impl Future<Output = Result<T>>,
) -> Result<T> {
    let seconds = options.connect_timeout.as_secs();
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {seconds} s"));
    match timeout(options.connect_timeout, connecting).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(options, late())),
    }
}

/// Opens the stream to the one place of the options, in clear.
pub(super) async fn open(options: &ConnectOptions) -> Result<Transport> {
    let connected = match (options.address, options.targets.first()) {
        (Some(address), _) => rowtide_net::connect_to(address).await.map(Transport::Tcp),
        (None, Some(Target::Tcp { host, port })) => {
            rowtide_net::tcp(host, *port, options.connect_timeout).await.map(Transport::Tcp)
        }
        (None, Some(Target::Unix(path))) => Transport::unix(path).await,
        (None, None) => Err(io::Error::new(io::ErrorKind::NotFound, "there is no place")),
    };
    connected.map_err(|error| unreachable(options, error))
}

/// That the server cannot be reached.
pub(super) fn unreachable(options: &ConnectOptions, cause: io::Error) -> Error {
    let remedy = match options.targets.first() {
        Some(Target::Unix(_)) => {
            "check `socket` in `url` against the server's variable of that name, and that this user \
             may open the file"
        }
        _ => "check host and port in `url`, the server's bind_address and firewalls",
    };
    let message = format!("cannot connect to {}", options.describe());
    Error::transient(Origin::Source, codes::UNREACHABLE, message)
        .with_source(cause)
        .with_remedy(remedy)
}

/// What a handshake must fulfil.
pub(super) fn settings(tls: &TlsOptions) -> TlsSettings {
    let verify = match tls.mode {
        SslMode::Disabled | SslMode::Preferred | SslMode::Required => Verify::Nothing,
        SslMode::VerifyCa => Verify::Chain,
        SslMode::VerifyIdentity => Verify::ChainAndName,
    };
    TlsSettings { verify, roots: tls.roots.clone(), client: tls.client.clone() }
}

/// What a failed handshake means.
pub(super) fn handshake_error(place: &str, error: TlsError) -> Error {
    let unusable = |message: String| Error::fatal(Origin::Config, codes::TLS_FILE, message);
    let message = error.to_string();
    match error {
        TlsError::File { .. } => unusable(message)
            .with_remedy("it must be a readable PEM file; an encrypted key is not supported"),
        TlsError::NoAuthorities => unusable(message)
            .with_remedy("install ca-certificates, or name an authority with ssl-ca"),
        TlsError::Settings(cause) => unusable(message).with_source(cause),
        TlsError::Refused(cause) => failed(place, cause),
        TlsError::Ended(cause) => connect_error(place, cause),
    }
}

/// What a broken connection means while it is being made: what TLS itself refuses is fatal, and a
/// stream that just ended is transient.
pub(super) fn connect_error(place: &str, error: io::Error) -> Error {
    if Refusal::of(&error).is_some() {
        return failed(place, error);
    }
    let message = format!("{place} ended the connection before the login was complete");
    Error::transient(Origin::Source, codes::UNREACHABLE, message).with_source(error)
}

fn failed(place: &str, error: io::Error) -> Error {
    let remedy = match Refusal::of(&error) {
        Some(Refusal::Untrusted) => {
            "put the authority that signed the server's certificate into the file of ssl-ca"
        }
        Some(Refusal::WrongName) => {
            "use a host name that stands in the certificate's subjectAltName, or ssl-mode=VERIFY_CA; \
             the certificates that MySQL makes for itself name no host"
        }
        Some(Refusal::Expired) => "renew the server's certificate",
        Some(Refusal::Certificate) => {
            "replace the server's certificate, or trust exactly this one through ssl-ca"
        }
        Some(Refusal::ByServer) => {
            "the server refused the handshake: check ssl-cert and ssl-key against its ssl_ca"
        }
        Some(Refusal::Other) | None => "check that the server speaks TLS 1.2 or 1.3",
    };
    let message = format!("TLS with {place} failed");
    Error::fatal(Origin::Source, codes::TLS, message).with_source(error).with_remedy(remedy)
}
