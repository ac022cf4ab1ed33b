//! TCP, unix socket and TLS streams to a server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rowtide_net::Transport as Stream;
use rowtide_sdk::{Error, Origin, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::der::end_point_binding;
use super::tls;
use crate::config::{ConnectOptions, SslMode, Target, describe};
use crate::error::{codes, protocol};

/// A byte stream to the server, before any login.
#[derive(Debug)]
pub struct Transport {
    stream: Stream,
    binding: Option<Vec<u8>>,
}

impl Transport {
    /// Whether TLS is in use.
    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// Whether nobody on a network can listen: TLS or a unix socket.
    pub fn is_private(&self) -> bool {
        self.stream.is_private()
    }

    /// The `tls-server-end-point` channel binding (RFC 5929): a hash of the server's certificate.
    pub fn end_point_binding(&self) -> Option<&[u8]> {
        self.binding.as_deref()
    }
}

/// Opens the stream: resolves the name, connects, and speaks TLS as `sslmode` asks.
///
/// # Errors
/// Transient RT2101 where the server cannot be reached within the timeout; fatal RT2006, RT2102 and
/// RT2103 where TLS cannot be had as asked.
pub async fn connect_stream(options: &ConnectOptions) -> Result<Transport> {
    within(options, open(options)).await
}

/// Gives a part of connecting the configured time.
pub(super) async fn within<T>(
    options: &ConnectOptions,
    connecting: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(options.connect_timeout, connecting).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(
            options,
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", options.connect_timeout.as_secs()),
            ),
        )),
    }
}

/// That the server cannot be reached.
pub(super) fn unreachable(options: &ConnectOptions, cause: io::Error) -> Error {
    let remedy = match &options.target {
        Target::Tcp { .. } => {
            "check host and port in `url`, listen_addresses and firewalls".to_owned()
        }
        Target::Unix { folder, port } => format!(
            "check the folder that `url` names (host=…) and that this user may enter it: a running \
             server keeps the socket .s.PGSQL.{port} in a folder of its unix_socket_directories; {} {}",
            folder.display(),
            match folder.is_dir() {
                true => "is there",
                false => "is no folder here",
            }
        ),
    };
    Error::transient(
        Origin::Source,
        codes::UNREACHABLE,
        format!("cannot connect to {}", describe(options)),
    )
    .with_source(cause)
    .with_remedy(remedy)
}

async fn open(options: &ConnectOptions) -> Result<Transport> {
    let (host, port) = match &options.target {
        Target::Tcp { host, port } => (host.as_str(), *port),
        Target::Unix { folder, port } => {
            let stream = Stream::unix(&folder.join(format!(".s.PGSQL.{port}")))
                .await
                .map_err(|error| unreachable(options, error))?;
            return Ok(Transport { stream, binding: None });
        }
    };
    let mut stream = match options.address {
        Some(address) => rowtide_net::connect_to(address).await,
        None => rowtide_net::tcp(host, port, options.connect_timeout).await,
    }
    .map_err(|error| unreachable(options, error))?;
    let mode = options.tls.mode;
    if mode == SslMode::Disable {
        return Ok(Transport { stream: Stream::Tcp(stream), binding: None });
    }
    if !offers_tls(&mut stream).await.map_err(|error| unreachable(options, error))?? {
        if mode == SslMode::Prefer {
            return Ok(Transport { stream: Stream::Tcp(stream), binding: None });
        }
        return Err(Error::fatal(
            Origin::Source,
            codes::NO_TLS,
            format!("sslmode asks for TLS, which {} does not offer", options.target),
        )
        .with_remedy("set ssl = on at the server, or sslmode=disable in `url`"));
    }
    let stream = Stream::Tcp(stream).encrypt(host, &tls::settings(&options.tls)).await;
    let stream = stream.map_err(|error| tls::handshake_error(options, error))?;
    let binding = stream.peer_certificate().and_then(end_point_binding);
    Ok(Transport { stream, binding })
}

/// Sends SSLRequest; whether the server agrees. Exactly one byte is read, so that nothing sent in
/// clear can be taken for a part of the encrypted session.
async fn offers_tls(stream: &mut TcpStream) -> io::Result<Result<bool>> {
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await?;
    Ok(match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(protocol("the server's answer to a request for TLS is not PostgreSQL's")),
    })
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
