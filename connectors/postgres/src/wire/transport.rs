//! TCP, unix socket and TLS streams to a server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rowtide_sdk::{Error, Origin, Result};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;

use super::tls;
use crate::config::{ConnectOptions, SslMode, Target, describe};
use crate::error::{codes, protocol};

/// A byte stream to the server, before any login.
#[derive(Debug)]
pub struct Transport {
    stream: Stream,
    binding: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Whether TLS is in use.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Whether nobody on a network can listen: TLS or a unix socket.
    pub fn is_private(&self) -> bool {
        !matches!(self.stream, Stream::Tcp(_))
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
            let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))
                .await
                .map_err(|error| unreachable(options, error))?;
            return Ok(Transport { stream: Stream::Unix(stream), binding: None });
        }
    };
    let mut stream = match options.address {
        Some(address) => connect_to(address).await,
        None => tcp(host, port, options.connect_timeout).await,
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
    let stream = tls::handshake(stream, host, options).await?;
    let binding = tls::binding(&stream);
    Ok(Transport { stream: Stream::Tls(Box::new(stream)), binding })
}

/// Tries each of the name's addresses, none of them longer than its share of the time.
async fn tcp(host: &str, port: u16, time: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + time;
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let until = now + deadline.saturating_duration_since(now) / left;
        match timeout_at(until, connect_to(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::Error::new(io::ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(failure)
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    tune(&stream)?;
    Ok(stream)
}

/// After so long without an acknowledgement the peer is gone.
#[cfg(target_os = "linux")]
const VANISHED: Duration = Duration::from_secs(30);

/// Small feedback messages leave at once; a peer that vanished is noticed within half a minute,
/// whether or not something was being sent to it.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let socket = SockRef::from(stream);
    // What is under way counts by this limit and no longer by keepalives.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED))?;
    socket.set_tcp_keepalive(&keepalive)
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
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
