//! The two halves of a streaming replication connection. They work apart: a reader that waits for
//! room never keeps feedback from being sent.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rowtide_sdk::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::frame::{Frame, frame_at, tag};
use super::transport::Transport;
use crate::error::lost;

/// Reads the stream in large pieces.
#[derive(Debug)]
pub struct Reader {
    half: ReadHalf<Transport>,
    /// Bytes that came with the answer to START_REPLICATION.
    early: Vec<u8>,
}

impl Reader {
    pub(super) fn new(half: ReadHalf<Transport>, early: Vec<u8>) -> Self {
        Self { half, early }
    }

    /// Waits for bytes and appends them to the buffer's spare capacity by one read; how many came.
    /// The caller sizes the buffer; one without any spare capacity grows a little. What is there is
    /// split with [`frame_at`]. Cancel-safe: dropped while waiting, nothing is lost.
    ///
    /// # Errors
    /// Transient RT2111 where the server closed the connection or it broke.
    pub async fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<usize> {
        if !self.early.is_empty() {
            let count = self.early.len();
            buffer.append(&mut self.early);
            self.early = Vec::new();
            return Ok(count);
        }
        match self.half.read_buf(buffer).await {
            Ok(0) => Err(lost("streaming", io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(lost("streaming", error)),
        }
    }
}

/// The size of a standby status update in its CopyData message.
const STATUS: usize = 39;

/// Sends feedback.
#[derive(Debug)]
pub struct Writer {
    half: WriteHalf<Transport>,
    /// The update being sent, how much of it is, and the newest one behind it: where the socket
    /// takes nothing, older updates are replaced, not queued.
    current: [u8; STATUS],
    sent: usize,
    next: Option<[u8; STATUS]>,
}

impl Writer {
    pub(super) fn new(half: WriteHalf<Transport>) -> Self {
        Self { half, current: [0; STATUS], sent: STATUS, next: None }
    }

    /// Sends a standby status update ("Standby status update (F)"): what was written, flushed and
    /// applied, as LSNs, and whether the server should answer at once. `flushed` is what the server
    /// takes as confirmed. Cancel-safe: an update that was cut off is completed before the next one.
    ///
    /// # Errors
    /// Transient RT2111 where the connection broke.
    pub async fn send_status(
        &mut self,
        written: u64,
        flushed: u64,
        applied: u64,
        reply: bool,
    ) -> Result<()> {
        let update = status_update(written, flushed, applied, reply, SystemTime::now());
        if self.sent == 0 || self.sent == STATUS {
            self.current = update;
            self.sent = 0;
        } else {
            self.next = Some(update);
        }
        self.drain().await.map_err(|error| lost("sending feedback", error))
    }

    async fn drain(&mut self) -> io::Result<()> {
        loop {
            while let Some(rest) = self.current.get(self.sent..).filter(|rest| !rest.is_empty()) {
                let count = self.half.write(rest).await?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.sent += count;
            }
            match self.next.take() {
                Some(next) => {
                    self.current = next;
                    self.sent = 0;
                }
                None => return self.half.flush().await,
            }
        }
    }
}

/// Microseconds from 1970 to 2000, where PostgreSQL's clock starts.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

fn status_update(
    written: u64,
    flushed: u64,
    applied: u64,
    reply: bool,
    now: SystemTime,
) -> [u8; STATUS] {
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let clock = i64::try_from(since_1970).unwrap_or(i64::MAX).saturating_sub(EPOCH_2000_US);
    let parts: [&[u8]; 6] = [
        b"d\0\0\0\x26r",
        &written.to_be_bytes(),
        &flushed.to_be_bytes(),
        &applied.to_be_bytes(),
        &clock.to_be_bytes(),
        &[u8::from(reply)],
    ];
    let mut update = [0; STATUS];
    for (slot, byte) in update.iter_mut().zip(parts.into_iter().flatten()) {
        *slot = *byte;
    }
    update
}

/// Ends the stream politely: CopyDone, then what the server still sends is read and thrown away
/// until it ends the stream too, then Terminate. When that takes longer than `time`, which it does
/// while the server decodes a large transaction, the connection is just closed. `unread` are the
/// bytes after the last whole message that the caller took.
///
/// An answered CopyDone means that the server has taken in the last feedback; it lets go of the slot
/// when the connection ends.
pub async fn stop(reader: Reader, mut writer: Writer, unread: Vec<u8>, time: Duration) {
    match timeout(time, end(reader, &mut writer, unread)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the replication stream ended early"),
        Err(_) => tracing::debug!("the server did not end the replication stream in time"),
    }
    // Best effort: closing the socket says the same.
    let _closed = timeout(Duration::from_millis(200), async {
        writer.half.write_all(b"X\0\0\0\x04").await?;
        writer.half.shutdown().await
    })
    .await;
}

async fn end(mut reader: Reader, writer: &mut Writer, unread: Vec<u8>) -> Result<()> {
    let failed = |error| lost("ending the stream", error);
    writer.drain().await.map_err(failed)?;
    writer.half.write_all(b"c\0\0\0\x04").await.map_err(failed)?;
    writer.half.flush().await.map_err(failed)?;
    let mut tail = Tail { buffer: unread, skip: 0 };
    while !tail.is_at_end()? {
        tail.buffer.reserve(DISCARD_SIZE);
        reader.read_into(&mut tail.buffer).await?;
    }
    Ok(())
}

/// Room for one read while messages are thrown away.
const DISCARD_SIZE: usize = 64 * 1024;

/// The messages of a stream that nobody wants any more.
struct Tail {
    buffer: Vec<u8>,
    /// Bytes still to come of a message too large to collect.
    skip: usize,
}

impl Tail {
    /// Throws whole messages away; whether the server said that it waits for a command, or refused
    /// something and closes.
    fn is_at_end(&mut self) -> Result<bool> {
        let skipped = self.skip.min(self.buffer.len());
        self.skip -= skipped;
        let mut at = skipped;
        loop {
            match frame_at(&self.buffer, at)? {
                Frame::Complete { tag: tag::READY | tag::ERROR, .. } => return Ok(true),
                Frame::Complete { next, .. } => at = next,
                Frame::Incomplete { size } => {
                    self.buffer.drain(..at);
                    if size > DISCARD_SIZE {
                        self.skip = size.saturating_sub(self.buffer.len());
                        self.buffer.clear();
                    }
                    return Ok(false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_update_has_the_protocols_layout() {
        let now = UNIX_EPOCH + Duration::from_micros(946_684_800_000_007);
        let update = status_update(0x0102, 3, 4, true, now);
        let mut expected = b"d\0\0\0\x26r".to_vec();
        for value in [0x0102_u64, 3, 4, 7] {
            expected.extend(value.to_be_bytes());
        }
        expected.push(1);
        assert_eq!(update.as_slice(), expected);
    }

    #[test]
    fn the_tail_of_a_stream_is_thrown_away_until_the_server_is_ready() {
        let mut tail = Tail { buffer: b"d\0\0\0\x05xd\0\x10".to_vec(), skip: 0 };
        assert!(!tail.is_at_end().unwrap());
        assert_eq!(tail.buffer, b"d\0\x10");
        // A message of a megabyte is skipped without being collected.
        tail.buffer.extend(b"\0\x04abc");
        assert!(!tail.is_at_end().unwrap());
        assert_eq!((tail.buffer.len(), tail.skip), (0, 0x0010_0004 + 1 - 8));
        tail.buffer.resize(tail.skip, b'x');
        assert!(!tail.is_at_end().unwrap());
        tail.buffer.extend(b"c\0\0\0\x04Z\0\0\0\x05I");
        assert!(tail.is_at_end().unwrap());
    }
}
