//! A TCP proxy between source and server that can stop passing anything on, and damage what it passes.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    is_frozen: watch::Sender<bool>,
    change: Arc<Mutex<Change>>,
}

/// What is changed in what the server sends: the first of these bytes in each piece, into those.
#[derive(Debug, Clone, Default)]
struct Change {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Proxy {
    /// A proxy to a port of this machine. Its tasks end with the test's runtime.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_frozen, frozen) = watch::channel(false);
        let change = Arc::new(Mutex::new(Change::default()));
        let changes = Arc::clone(&change);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, frozen.clone(), Arc::default()));
                tokio::spawn(pass(from_server, to_client, frozen.clone(), Arc::clone(&changes)));
            }
        });
        Self { port, is_frozen, change }
    }

    /// The server behind the proxy, in the clear.
    pub(crate) fn url(&self) -> serde_json::Value {
        let parameters = "ssl-mode=DISABLED&get-server-public-key=true";
        format!("mysql://rowtide:rowtide@127.0.0.1:{}/?{parameters}", self.port).into()
    }

    /// From now on nothing is passed on and nothing is closed, as when a cable was pulled.
    pub(crate) fn freeze(&self) {
        self.is_frozen.send_replace(true);
    }

    /// From now on a bit of the last byte of this text is changed where the server sends it.
    pub(crate) fn damage(&self, text: &str) {
        let mut to = text.as_bytes().to_vec();
        *to.last_mut().unwrap() ^= 1;
        self.swap(text.as_bytes(), &to);
    }

    /// From now on these bytes are changed into those of the same length where the server sends them.
    pub(crate) fn swap(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        *self.change.lock().unwrap() = Change { from: from.to_vec(), to: to.to_vec() };
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut frozen: watch::Receiver<bool>,
    change: Arc<Mutex<Change>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        let Change { from: wanted, to: instead } = change.lock().unwrap().clone();
        let found = (!wanted.is_empty())
            .then(|| buffer[..count].windows(wanted.len()).position(|part| part == wanted))
            .flatten();
        if let Some(at) = found {
            buffer[at..at + wanted.len()].copy_from_slice(&instead);
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    let _ = frozen.wait_for(|frozen| !frozen).await;
}
