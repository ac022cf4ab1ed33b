//! TLS by rustls with the provider ring, verified as far as is asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// How far the server's certificate is verified. That the server holds the certificate's key always
/// is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Not at all.
    Nothing,
    /// It is of a trusted authority, for any host.
    Chain,
    /// It is of a trusted authority, for this host.
    ChainAndName,
}

/// Whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The authorities of the operating system.
    System,
    /// The certificates of a PEM file.
    File(PathBuf),
}

/// What is asked of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// How far the server is verified.
    pub verify: Verify,
    /// Whom to trust. A server that presents a certificate of the file itself is trusted too, which
    /// is how self-signed servers are used.
    pub roots: Roots,
    /// The files of the client's certificate and its key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file cannot be used.
    #[error("the {what} {} cannot be used: {cause}", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Nobody is trusted.
    #[error("the operating system has no trusted certificate authorities")]
    NoAuthorities,
    /// The settings contradict each other: a certificate and a key that do not belong together.
    #[error("the TLS settings cannot be used")]
    Settings(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// One side refused the other: see [`Refusal::of`].
    #[error("the TLS handshake failed")]
    Refused(#[source] io::Error),
    /// The connection ended or broke.
    #[error("the connection ended before the TLS handshake was complete")]
    Ended(#[source] io::Error),
}

/// What TLS itself found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server's certificate is of an authority that is not trusted.
    Untrusted,
    /// The server's certificate does not name the host.
    WrongName,
    /// The server's certificate has run out.
    Expired,
    /// Something else is wrong with the server's certificate.
    Certificate,
    /// The server refused.
    ByServer,
    /// Anything else: most often what answers does not speak TLS.
    Other,
}

impl Refusal {
    /// What an error of a stream says of TLS; `None` where it is none of TLS. A server may refuse a
    /// client's certificate only after the handshake.
    pub fn of(error: &io::Error) -> Option<Self> {
        use CertificateError as Why;
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(why) => match why {
                Why::UnknownIssuer | Why::BadSignature => Self::Untrusted,
                Why::NotValidForName | Why::NotValidForNameContext { .. } => Self::WrongName,
                Why::Expired | Why::ExpiredContext { .. } => Self::Expired,
                _ => Self::Certificate,
            },
            rustls::Error::AlertReceived(_) => Self::ByServer,
            _ => Self::Other,
        })
    }
}

/// Speaks TLS over a connected stream. Files are read anew each time, so that renewed certificates
/// count from the next connection on.
///
/// # Errors
/// Where the settings cannot be used, the server is not to be trusted, or the handshake fails.
pub async fn handshake(
    stream: TcpStream,
    host: &str,
    settings: &TlsSettings,
) -> Result<TlsStream<TcpStream>, TlsError> {
    let verify = settings.verify;
    let settings = settings.clone();
    let config = tokio::task::spawn_blocking(move || client_config(&settings))
        .await
        .map_err(|error| TlsError::Refused(io::Error::other(error)))??;
    let name = match ServerName::try_from(host.to_owned()) {
        Ok(name) => name,
        // A name that no certificate can hold matters only where names are verified.
        Err(_) if verify != Verify::ChainAndName => {
            ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])))
        }
        Err(error) => return Err(TlsError::Refused(io::Error::other(error))),
    };
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connecting.await.map_err(|error| match Refusal::of(&error) {
        Some(_) => TlsError::Refused(error),
        None => TlsError::Ended(error),
    })
}

fn file_error(what: &'static str, path: &Path, cause: impl std::fmt::Display) -> TlsError {
    TlsError::File { what, path: path.to_owned(), cause: cause.to_string() }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(what, path, error))?;
    if read.is_empty() { Err(file_error(what, path, "no certificate in it")) } else { Ok(read) }
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Settings(Box::new(error));
    let provider = Arc::new(ring::default_provider());
    let verifier = ServerCheck::new(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = &settings.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("client certificate", certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| file_error("client key", key, error))?;
    builder.with_client_auth_cert(chain, private).map_err(unusable)
}

/// Verifies the server's certificate as far as asked for.
#[derive(Debug)]
struct ServerCheck {
    verifies_chain: bool,
    verifies_name: bool,
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of the file: a server that presents one of them is trusted, which is how
    /// self-signed servers are used.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCheck {
    fn new(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let mut check = Self {
            verifies_chain: settings.verify != Verify::Nothing,
            verifies_name: settings.verify == Verify::ChainAndName,
            chain: None,
            trusted: Vec::new(),
            provider: Arc::clone(provider),
        };
        if !check.verifies_chain {
            return Ok(check);
        }
        let authorities = match &settings.roots {
            Roots::System => rustls_native_certs::load_native_certs().certs,
            Roots::File(path) => {
                check.trusted = certificates("root certificate", path)?;
                check.trusted.clone()
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        if roots.is_empty() && check.trusted.is_empty() {
            return Err(TlsError::NoAuthorities);
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
    ) -> Result<ServerCertVerified, rustls::Error> {
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
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
