//! Calling off what a server process does for a connection.

use std::fmt;

use rowtide_sdk::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::transport::{connect_stream, unreachable, within};
use crate::config::ConnectOptions;

/// The code of a cancel request, where a start-up message has the protocol's version.
const CANCEL_REQUEST: i32 = 80_877_102;
const LENGTH: i32 = 16;

/// The process that a login announced, and its secret: whoever knows both may call its command off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) process: i32,
    pub(super) secret: i32,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("process", &self.process).finish_non_exhaustive()
    }
}

/// The way to call off the command that a connection is in: a server that waits does not look at its
/// client, so a command goes on long after the connection is gone.
#[derive(Debug, Clone)]
pub(crate) struct Cancel {
    pub(super) options: ConnectOptions,
    pub(super) key: Key,
}

impl Cancel {
    /// Calls the command off, within the time for connecting. The server answers nothing: it closes the
    /// connection once the process is told.
    ///
    /// # Errors
    /// Transient RT2101 where the server cannot be reached; as for every connection.
    pub(crate) async fn send(&self) -> Result<()> {
        let told = async {
            let mut transport = connect_stream(&self.options).await?;
            let mut request = Vec::new();
            for part in [LENGTH, CANCEL_REQUEST, self.key.process, self.key.secret] {
                request.extend(part.to_be_bytes());
            }
            let sent = async {
                transport.write_all(&request).await?;
                transport.flush().await?;
                // Nothing comes but the end; with TLS it may be an unclean one.
                let _ = transport.read(&mut [0]).await;
                Ok(())
            };
            sent.await.map_err(|error| unreachable(&self.options, error))
        };
        within(&self.options, told).await
    }
}
