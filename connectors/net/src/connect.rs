//! Connecting by TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The addresses of a name; there is at least one.
///
/// # Errors
/// Where the name cannot be resolved within the time, or has none.
pub async fn resolve(host: &str, port: u16, time: Duration) -> io::Result<Vec<SocketAddr>> {
    let looked = timeout(time, tokio::net::lookup_host((host, port))).await;
    let timed_out =
        || io::Error::new(io::ErrorKind::TimedOut, "the name could not be resolved in time");
    let addresses: Vec<SocketAddr> = looked.map_err(|_| timed_out())??.collect();
    if addresses.is_empty() { Err(no_address()) } else { Ok(addresses) }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// Tries each of the name's addresses, none of them longer than its share of the time.
///
/// # Errors
/// The last address's.
pub async fn tcp(host: &str, port: u16, time: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + time;
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut failure = no_address();
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

/// Connects to one address.
///
/// # Errors
/// The operating system's.
pub async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    tune(&stream)?;
    Ok(stream)
}

/// After so long without an acknowledgement the peer is gone.
#[cfg(target_os = "linux")]
const VANISHED: Duration = Duration::from_secs(30);

/// Small messages leave at once; a peer that vanished is noticed within half a minute, whether or not
/// something was being sent to it.
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
