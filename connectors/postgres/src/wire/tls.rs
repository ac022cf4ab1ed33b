//! TLS by rustls with the provider ring, verified as far as `sslmode` says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rowtide_sdk::{Error, Origin, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, IpAddr, Ipv4Addr, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::der::end_point_binding;
use crate::config::{ConnectOptions, Roots, SslMode, TlsOptions};
use crate::error::codes;

/// Speaks TLS over a connected stream. Files are read anew each time, so that renewed certificates
/// count from the next connection on.
pub(super) async fn handshake(
    stream: TcpStream,
    host: &str,
    options: &ConnectOptions,
) -> Result<TlsStream<TcpStream>> {
    let tls = options.tls.clone();
    let config = tokio::task::spawn_blocking(move || client_config(&tls))
        .await
        .map_err(|error| failed(options, io::Error::other(error)))??;
    let name = match ServerName::try_from(host.to_owned()) {
        Ok(name) => name,
        // A name that no certificate can hold matters only where names are verified.
        Err(_) if options.tls.mode != SslMode::VerifyFull => {
            ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])))
        }
        Err(error) => return Err(failed(options, io::Error::other(error))),
    };
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| connect_error(options, error))
}

/// The channel binding of an established session.
pub(super) fn binding(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let (_, session) = stream.get_ref();
    end_point_binding(session.peer_certificates()?.first()?)
}

/// What a broken connection means while it is being made: what TLS itself refuses is fatal, and a
/// stream that just ended is transient.
pub(super) fn connect_error(options: &ConnectOptions, error: io::Error) -> Error {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls {
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
    let tls_error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let remedy = match tls_error {
        Some(rustls::Error::InvalidCertificate(why)) => certificate_remedy(why),
        Some(rustls::Error::AlertReceived(_)) => {
            "the server refused the handshake: check sslcert and sslkey against its ssl_ca_file"
        }
        _ => "check that the server speaks TLS 1.2 or 1.3",
    };
    let message = format!("TLS with {} failed", options.target);
    Error::fatal(Origin::Source, codes::TLS, message).with_source(error).with_remedy(remedy)
}

fn certificate_remedy(why: &CertificateError) -> &'static str {
    use CertificateError as Why;
    match why {
        Why::UnknownIssuer | Why::BadSignature => {
            "put the authority that signed the server's certificate into the file of sslrootcert"
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            "use a host name that stands in the certificate's subjectAltName, or sslmode=verify-ca"
        }
        Why::Expired | Why::ExpiredContext { .. } => "renew the server's certificate",
        _ => "replace the server's certificate, or trust exactly this one through sslrootcert",
    }
}

fn file_error(what: &str, path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::fatal(
        Origin::Config,
        codes::TLS_FILE,
        format!("the {what} {} cannot be used: {cause}", path.display()),
    )
    .with_remedy("it must be a readable PEM file; an encrypted key is not supported")
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| file_error(what, path, error))?;
    if read.is_empty() { Err(file_error(what, path, "no certificate in it")) } else { Ok(read) }
}

fn client_config(options: &TlsOptions) -> Result<ClientConfig> {
    let unusable = |error: rustls::Error| {
        Error::fatal(Origin::Config, codes::TLS_FILE, "the TLS settings cannot be used")
            .with_source(error)
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = ServerCheck::new(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = &options.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("client certificate", certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| file_error("client key", key, error))?;
    builder.with_client_auth_cert(chain, private).map_err(unusable)
}

/// Verifies the server's certificate as far as `sslmode` says. That the server holds the
/// certificate's key is always verified.
#[derive(Debug)]
struct ServerCheck {
    verifies_chain: bool,
    verifies_name: bool,
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of `sslrootcert`: a server that presents one of them is trusted, which is how
    /// self-signed servers are used.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCheck {
    fn new(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut check = Self {
            verifies_chain: matches!(options.mode, SslMode::VerifyCa | SslMode::VerifyFull),
            verifies_name: options.mode == SslMode::VerifyFull,
            chain: None,
            trusted: Vec::new(),
            provider: Arc::clone(provider),
        };
        if !check.verifies_chain {
            return Ok(check);
        }
        let authorities = match &options.roots {
            Roots::System => rustls_native_certs::load_native_certs().certs,
            Roots::File(path) => {
                check.trusted = certificates("root certificate", path)?;
                check.trusted.clone()
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        if roots.is_empty() && check.trusted.is_empty() {
            return Err(Error::fatal(
                Origin::Config,
                codes::TLS_FILE,
                "the operating system has no trusted certificate authorities",
            )
            .with_remedy("install ca-certificates, or name an authority with sslrootcert"));
        }
        check.chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .ok();
        Ok(check)
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if !self.verifies_chain {
            return Ok(ServerCertVerified::assertion());
        }
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            if self.verifies_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let Some(chain) = &self.chain else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is the last thing looked at: the chain is good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.verifies_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
