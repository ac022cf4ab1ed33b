//! What is asked of TLS by `sslmode`, and what its failures mean.

use std::io;

use rowtide_net::{Refusal, TlsError, TlsSettings, Verify};
use rowtide_sdk::{Error, Origin};

use crate::config::{ConnectOptions, SslMode, TlsOptions};
use crate::error::codes;

/// What a handshake must fulfil.
pub(super) fn settings(tls: &TlsOptions) -> TlsSettings {
    let verify = match tls.mode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => Verify::Nothing,
        SslMode::VerifyCa => Verify::Chain,
        SslMode::VerifyFull => Verify::ChainAndName,
    };
    TlsSettings { verify, roots: tls.roots.clone(), client: tls.client.clone() }
}

/// What a failed handshake means.
pub(super) fn handshake_error(options: &ConnectOptions, error: TlsError) -> Error {
    let unusable = |message: String| Error::fatal(Origin::Config, codes::TLS_FILE, message);
    let message = error.to_string();
    match error {
        TlsError::File { .. } => unusable(message)
            .with_remedy("it must be a readable PEM file; an encrypted key is not supported"),
        TlsError::NoAuthorities => unusable(message)
            .with_remedy("install ca-certificates, or name an authority with sslrootcert"),
        TlsError::Settings(cause) => unusable(message).with_source(cause),
        TlsError::Refused(cause) => failed(options, cause),
        TlsError::Ended(cause) => connect_error(options, cause),
    }
}

/// What a broken connection means while it is being made: what TLS itself refuses is fatal, and a
/// stream that just ended is transient.
pub(super) fn connect_error(options: &ConnectOptions, error: io::Error) -> Error {
    if Refusal::of(&error).is_some() {
        return failed(options, error);
    }
    Error::transient(
        Origin::Source,
        codes::UNREACHABLE,
        format!("{} ended the connection before the login was complete", options.target),
    )
    .with_source(error)
}

fn failed(options: &ConnectOptions, error: io::Error) -> Error {
    let remedy = match Refusal::of(&error) {
        Some(Refusal::Untrusted) => {
            "put the authority that signed the server's certificate into the file of sslrootcert"
        }
        Some(Refusal::WrongName) => {
            "use a host name that stands in the certificate's subjectAltName, or sslmode=verify-ca"
        }
        Some(Refusal::Expired) => "renew the server's certificate",
        Some(Refusal::Certificate) => {
            "replace the server's certificate, or trust exactly this one through sslrootcert"
        }
        Some(Refusal::ByServer) => {
            "the server refused the handshake: check sslcert and sslkey against its ssl_ca_file"
        }
        Some(Refusal::Other) | None => "check that the server speaks TLS 1.2 or 1.3",
    };
    let message = format!("TLS with {} failed", options.target);
    Error::fatal(Origin::Source, codes::TLS, message).with_source(error).with_remedy(remedy)
}
