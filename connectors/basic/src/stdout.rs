//! The sink that prints one record per line on standard output.
//!
//! At-least-once: a batch counts as delivered once the pipe, terminal or file has taken its bytes.
//! What the reader does with them is out of sight, so the position is kept elsewhere.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_sdk::{
    BoxFuture, Completion, Error, Finding, Held, Origin, RecordBatch, Result, Sink, TopicInfo,
    TopicSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{STDOUT_CLOSED, STDOUT_FAILED};
use crate::handoff::{Handoff, Work};
use crate::lines::{self, Stretches};

/// How long to wait for a non-blocking standard output that is full.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// Prints every event as one line of JSON on standard output. For trying out and for pipes:
/// at-least-once, with no word on which topic a line belongs to beyond the envelope itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}

/// Prints records on standard output from a thread of its own, so that a slow reader holds up
/// nothing but its own connector.
#[derive(Debug, Default)]
pub struct StdoutSink {
    /// Where to print instead of standard output.
    output: Option<File>,
    handoff: Option<Arc<Handoff>>,
}

impl StdoutSink {
    /// A sink that is not open yet.
    pub fn new(_config: &StdoutConfig) -> Self {
        Self::default()
    }

    fn start(&mut self) -> Result<Held> {
        let output = match self.output.take() {
            Some(output) => output,
            None => standard_output()?,
        };
        let handoff = Handoff::new();
        let for_thread = Arc::clone(&handoff);
        handoff.spawn("rowtide-stdout", move || {
            if let Err(error) = print(&for_thread, output) {
                for_thread.fail(&error);
            }
        })?;
        self.handoff = Some(handoff);
        Ok(Held::Elsewhere)
    }

    fn running(&self) -> Result<&Handoff> {
        self.handoff.as_deref().ok_or_else(|| {
            Error::fatal(Origin::Sink, STDOUT_FAILED, "standard output is used before it is open")
        })
    }
}

/// Standard output without the line buffer of [`io::stdout`]: batches are whole lines already.
fn standard_output() -> Result<File> {
    let cloned = io::stdout().as_fd().try_clone_to_owned();
    cloned.map(File::from).map_err(write_error)
}

/// The preflight: standard output must be open.
pub fn check(_config: &StdoutConfig) -> Vec<Finding> {
    standard_output().err().iter().map(Finding::from).collect()
}

/// Prints batches until the queue closes.
fn print(handoff: &Handoff, output: File) -> Result<()> {
    let mut output = Patient { handoff, output };
    let mut lines = Stretches::default();
    while let Work::Batch(batch) = handoff.next(None) {
        lines::all(&batch, &mut lines)?;
        lines.write(&batch.data, &mut output).and_then(|()| output.flush()).map_err(write_error)?;
        drop(batch);
        let written = handoff.written();
        handoff.durable(written);
    }
    Ok(())
}

fn write_error(error: io::Error) -> Error {
    let failed = match error.kind() {
        ErrorKind::BrokenPipe => {
            Error::fatal(Origin::Sink, STDOUT_CLOSED, "nobody reads standard output any more")
                .with_remedy("start rowtide again together with the program that reads its output")
        }
        _ => Error::fatal(Origin::Sink, STDOUT_FAILED, "cannot write to standard output")
            .with_remedy("look at what standard output is connected to; the last line may be torn"),
    };
    failed.with_source(error)
}

/// A file that may be non-blocking, because a program that shares the terminal or the pipe made it
/// so: waits where it is full.
struct Patient<'a> {
    handoff: &'a Handoff,
    output: File,
}

impl Patient<'_> {
    fn until_taken<T>(
        &mut self,
        mut step: impl FnMut(&mut File) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match step(&mut self.output) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.handoff.failed() => {
                    std::thread::sleep(FULL_PAUSE);
                }
                done => return done,
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_taken(|output| output.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.until_taken(|output| output.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.until_taken(File::flush)
    }
}

impl Sink for StdoutSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Held>> {
        let held = self.start();
        Box::pin(async { held })
    }

    fn prepare<'a>(&'a mut self, _topic: &'a TopicSpec) -> BoxFuture<'a, Result<TopicInfo>> {
        Box::pin(async { Ok(TopicInfo { compacts: false }) })
    }

    fn submit(&mut self, batch: RecordBatch, done: Completion) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.running()?.submit(batch, done).await })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        // The thread prints as fast as the reader takes it; only a failure is worth telling.
        Box::pin(async { self.running()?.submitted().map(drop) })
    }

    fn close(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match &self.handoff {
                Some(handoff) => handoff.close(deadline).await,
                None => Ok(()),
            }
        })
    }
}

impl Drop for StdoutSink {
    fn drop(&mut self) {
        if let Some(handoff) = &self.handoff {
            handoff.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use rowtide_sdk::{Class, Outcome};
    use tokio::sync::mpsc;

    use super::*;
    use crate::support;

    fn batch(lines: &[&str]) -> RecordBatch {
        let values: Vec<(u32, Option<&str>)> = lines.iter().map(|line| (0, Some(*line))).collect();
        support::batch(&["t"], &values)
    }

    fn sink() -> (StdoutSink, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let output = Some(File::from(OwnedFd::from(writer)));
        (StdoutSink { output, handoff: None }, reader)
    }

    async fn outcome(outcomes: &mut mpsc::UnboundedReceiver<Outcome>) -> Outcome {
        tokio::time::timeout(Duration::from_secs(5), outcomes.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn lines_arrive_and_are_answered_in_order() {
        let (mut sink, mut reader) = sink();
        assert!(matches!(sink.open().await.unwrap(), Held::Elsewhere));
        let (reply, mut outcomes) = mpsc::unbounded_channel();
        for n in 0..5 {
            let done = Completion::new(n, reply.clone(), None);
            sink.submit(batch(&["{\"a\":1}", "{\"b\":2}"]), done).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink.close(Instant::now() + Duration::from_secs(5)).await.unwrap();
        for n in 0..5 {
            let outcome = outcome(&mut outcomes).await;
            assert_eq!(outcome.sequence, n);
            outcome.result.unwrap();
        }
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"b\":2}\n".repeat(5));
    }

    #[tokio::test]
    async fn a_reader_that_left_is_fatal() {
        let (mut sink, reader) = sink();
        sink.open().await.unwrap();
        drop(reader);
        let (reply, mut outcomes) = mpsc::unbounded_channel();
        sink.submit(batch(&["{}"]), Completion::new(0, reply.clone(), None)).await.unwrap();
        let error = outcome(&mut outcomes).await.result.unwrap_err();
        assert_eq!((error.code(), error.class()), (STDOUT_CLOSED, Class::Fatal));
        let late = sink.submit(batch(&["{}"]), Completion::new(1, reply, None)).await.unwrap_err();
        assert_eq!(late.code(), STDOUT_CLOSED);
        assert!(outcome(&mut outcomes).await.result.is_err());
    }

    #[tokio::test]
    async fn a_reader_that_sleeps_blocks_neither_the_runtime_nor_the_stop() {
        let (mut sink, _reader) = sink();
        sink.open().await.unwrap();
        let (reply, mut outcomes) = mpsc::unbounded_channel();
        let line = "x".repeat(100_000);
        let mut accepted = 0;
        for n in 0..8 {
            let done = Completion::new(n, reply.clone(), None);
            let submitted = sink.submit(batch(&[line.as_str()]), done);
            if tokio::time::timeout(Duration::from_millis(50), submitted).await.is_err() {
                break;
            }
            accepted += 1;
        }
        assert!(accepted < 8, "the queue must be bounded");
        let error = sink.close(Instant::now() + Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code(), crate::error::CLOSED_EARLY);
        for _ in 0..accepted {
            assert!(outcome(&mut outcomes).await.result.is_err());
        }
    }
}
