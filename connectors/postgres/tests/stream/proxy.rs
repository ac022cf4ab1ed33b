//! A TCP proxy between source and server that can stop passing anything on, and keeps what the
//! source has sent.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What was sent towards the server, connection by connection.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    is_frozen: watch::Sender<bool>,
    sent: Sent,
}

impl Proxy {
    /// A proxy to a port of this machine. Its tasks end with the test's runtime.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_frozen, frozen) = watch::channel(false);
        let sent = Sent::default();
        let keep = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let number = {
                    let mut sent = keep.lock().unwrap();
                    sent.push(Vec::new());
                    sent.len() - 1
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let up = Some((Arc::clone(&keep), number));
                tokio::spawn(pass(from_client, to_server, frozen.clone(), up));
                tokio::spawn(pass(from_server, to_client, frozen.clone(), None));
            }
        });
        Self { port, is_frozen, sent }
    }

    /// From now on nothing is passed on and nothing is closed, as when a cable was pulled.
    pub(crate) fn freeze(&self, freeze: bool) {
        self.is_frozen.send_replace(freeze);
    }

    /// The flushed LSNs of all status updates sent so far, in order.
    pub(crate) fn confirmations(&self) -> Vec<u64> {
        const HEAD: &[u8] = b"d\0\0\0\x26r";
        let sent = self.sent.lock().unwrap();
        let windows = sent.iter().flat_map(|sent| sent.windows(HEAD.len() + 16));
        windows
            .filter(|window| window.starts_with(HEAD))
            .map(|window| u64::from_be_bytes(window[HEAD.len() + 8..].try_into().unwrap()))
            .collect()
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
    keep: Option<(Sent, usize)>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if let Some((sent, number)) = &keep {
            sent.lock().unwrap()[*number].extend_from_slice(&buffer[..count]);
        }
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = frozen.wait_for(|frozen| !frozen).await;
}
