//! From delivery reports to completions, and the one cause of a producer's end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rowtide_sdk::{Class, Completion};
use tokio::sync::Notify;

use crate::error::{self, Failure, codes};

/// The longest wait before a cause is looked for again.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(100);

/// Locks, whatever another thread did while it held the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One submitted batch: counts its delivery reports. Each record in librdkafka's queue holds one
/// reference, so that nothing is allocated per record.
#[derive(Debug)]
pub(crate) struct Batch {
    remaining: AtomicUsize,
    done: Mutex<Option<Completion>>,
}

impl Batch {
    /// A batch that waits for `parts` reports.
    pub(crate) fn new(parts: usize, done: Completion) -> Self {
        Self { remaining: AtomicUsize::new(parts), done: Mutex::new(Some(done)) }
    }

    /// Takes off `parts` reports; true where they were the last.
    fn release(&self, parts: usize) -> bool {
        self.remaining.fetch_sub(parts, Ordering::AcqRel) == parts
    }
}

/// The reports so far, which the polling thread alone counts, and who waits for them.
#[derive(Debug, Default)]
struct Reports {
    counted: Amount,
    /// The feeder is woken by the report that makes it so many records.
    awaited: AtomicUsize,
    /// Wakes the feeder.
    arrived: Notify,
}

/// Records ever counted, and the bytes of their keys and values.
#[derive(Debug, Default)]
struct Amount {
    records: AtomicUsize,
    bytes: AtomicUsize,
}

/// What was submitted, and what of it librdkafka has. Sink and feeder, which count, share a thread.
#[derive(Debug, Default)]
struct HandOver {
    submitted: Amount,
    sent: Amount,
    /// Wakes the sink.
    progress: Notify,
}

/// What the producer's threads and the sink share.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    /// What `max.message.bytes` of each topic is to be.
    needed_bytes: usize,
    /// Batches ever begun.
    begun: AtomicUsize,
    /// Those with reports still to come.
    batches: AtomicUsize,
    hand_over: HandOver,
    reports: Reports,
    /// Completions of batches that failed, answered once the cause is known.
    failed: Mutex<Vec<Completion>>,
    /// Why the producer is dead; set once.
    cause: OnceLock<Failure>,
    /// librdkafka raised a fatal error; its reports usually bring a better cause.
    fatal: AtomicBool,
    /// Wakes the sink, which waits for the last report.
    progress: Notify,
}

impl Deliveries {
    /// To topics that are to take messages of so many bytes.
    pub(crate) fn needing(bytes: usize) -> Self {
        Self { needed_bytes: bytes, ..Self::default() }
    }

    /// Counts in a batch that hands over so many records with so many bytes of keys and values. Every
    /// report, and what is released, counts towards its end.
    pub(crate) fn begin(&self, records: usize, bytes: usize) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::AcqRel);
        self.hand_over.submitted.records.fetch_add(records, Ordering::Relaxed);
        self.hand_over.submitted.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// For the feeder: says how many records, and bytes of them, it ever handed over.
    pub(crate) fn sent(&self, records: usize, bytes: usize) {
        self.hand_over.sent.records.store(records, Ordering::Relaxed);
        self.hand_over.sent.bytes.store(bytes, Ordering::Relaxed);
        self.hand_over.progress.notify_one();
    }

    /// How many records, and bytes of them, are still to be handed over.
    pub(crate) fn unsent(&self) -> (usize, usize) {
        let HandOver { submitted, sent, .. } = &self.hand_over;
        let left = |submitted: &AtomicUsize, sent: &AtomicUsize| {
            submitted.load(Ordering::Relaxed).wrapping_sub(sent.load(Ordering::Relaxed))
        };
        (left(&submitted.records, &sent.records), left(&submitted.bytes, &sent.bytes))
    }

    /// For the sink: waits until more is handed over, the producer died or `timeout` passed.
    pub(crate) async fn hand_over(&self, timeout: Duration) {
        let _elapsed = tokio::time::timeout(timeout, self.hand_over.progress.notified()).await;
    }

    /// Batches with reports still to come.
    pub(crate) fn batches(&self) -> usize {
        self.batches.load(Ordering::Acquire)
    }

    /// Counts the report of a record whose key and value have `bytes`. For the polling thread alone.
    pub(crate) fn count_report(&self, bytes: usize) {
        let Reports { counted, awaited, arrived } = &self.reports;
        let bytes = counted.bytes.load(Ordering::Relaxed).wrapping_add(bytes);
        counted.bytes.store(bytes, Ordering::Relaxed);
        let records = counted.records.load(Ordering::Relaxed).wrapping_add(1);
        // In one order with what the feeder stores and loads, so that neither misses the other.
        counted.records.store(records, Ordering::SeqCst);
        if records == awaited.load(Ordering::SeqCst) {
            arrived.notify_one();
        }
    }

    /// How many records, and bytes of them, are reported.
    pub(crate) fn reported(&self) -> (usize, usize) {
        let counted = &self.reports.counted;
        (counted.records.load(Ordering::SeqCst), counted.bytes.load(Ordering::Relaxed))
    }

    /// For the feeder: waits until so many records are reported, or the producer died.
    pub(crate) async fn await_reports(&self, records: usize) {
        let Reports { counted, awaited, arrived } = &self.reports;
        awaited.store(records, Ordering::SeqCst);
        while counted.records.load(Ordering::SeqCst) < records && self.cause().is_none() {
            arrived.notified().await;
        }
    }

    /// For the feeder: waits for `timeout`, or until something is to be looked at.
    pub(crate) async fn pause(&self, timeout: Duration) {
        let _elapsed = tokio::time::timeout(timeout, self.reports.arrived.notified()).await;
    }

    fn wake(&self) {
        self.progress.notify_one();
        self.hand_over.progress.notify_one();
        self.reports.arrived.notify_one();
    }

    /// Batches ever begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Why nothing can be sent any more.
    pub(crate) fn cause(&self) -> Option<&Failure> {
        self.cause.get()
    }

    /// Declares the producer dead. The first cause stays.
    pub(crate) fn end(&self, cause: Failure) {
        let _first_stays = self.cause.set(cause);
        self.wake();
    }

    /// librdkafka raised a fatal error.
    pub(crate) fn raise_fatal(&self) {
        self.fatal.store(true, Ordering::Release);
    }

    /// Whether librdkafka raised a fatal error.
    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    /// Takes `parts` reports off a batch and answers it where they were the last.
    pub(crate) fn release(&self, batch: &Batch, parts: usize) {
        if batch.release(parts) {
            self.batches.fetch_sub(1, Ordering::AcqRel);
            if let Some(done) = lock(&batch.done).take() {
                done.durable();
            }
            self.progress.notify_one();
        }
    }

    /// Marks a batch as failed: it can no longer become durable.
    pub(crate) fn fail(&self, batch: &Batch) {
        if let Some(done) = lock(&batch.done).take() {
            lock(&self.failed).push(done);
        }
    }

    /// Takes in one failed report.
    pub(crate) fn report_failure(&self, error: &KafkaError, message: &BorrowedMessage<'_>) {
        let Some(kafka) = error::code_of(error) else {
            return self.end(error::failure(error, "delivering a record"));
        };
        if error::is_consequence(kafka) {
            return;
        }
        let topic = message.topic();
        let place = match message.partition() {
            partition @ 0.. => format!("topic {topic} [{partition}]"),
            // No partition was chosen for it.
            _ => format!("topic {topic}"),
        };
        let key = message.key_len();
        let value = message.payload_len();
        self.end(match kafka {
            rdkafka::error::RDKafkaErrorCode::MessageSizeTooLarge => {
                // It answers for all records of a request alike.
                let what = "a record is too large for the broker, which refuses a request with";
                error::too_large(topic, (key, value), self.needed_bytes, what)
            }
            _ if message.key().is_none() => error::keyless(kafka, place),
            _ => Failure::of(kafka, format_args!("{place}: a record was not delivered")),
        });
    }

    /// Answers failed batches with the cause, or keeps them where none is known yet and `wait`.
    pub(crate) fn answer_failed(&self, wait: bool) {
        let mut failed = lock(&self.failed);
        if failed.is_empty() || (wait && self.cause.get().is_none()) {
            return;
        }
        let failed = std::mem::take(&mut *failed);
        let cause = self.cause.get_or_init(|| {
            Failure::new(Class::Transient, codes::NOT_DELIVERED, "records were not delivered")
        });
        for done in failed {
            done.failed(cause.to_error());
        }
        self.wake();
    }

    /// Whether failed batches wait for their answer.
    pub(crate) fn has_failed(&self) -> bool {
        !lock(&self.failed).is_empty()
    }

    /// For the sink: waits until a batch ended, the producer died or `timeout` passed.
    pub(crate) async fn progress(&self, timeout: Duration) {
        let _elapsed = tokio::time::timeout(timeout, self.progress.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowtide_sdk::Outcome;
    use tokio::sync::mpsc;

    fn batch(
        deliveries: &Deliveries,
        parts: usize,
        sequence: u64,
    ) -> (Batch, mpsc::UnboundedReceiver<Outcome>) {
        let (reply, outcomes) = mpsc::unbounded_channel();
        let batch = Batch::new(parts, Completion::new(sequence, reply, None));
        deliveries.begin(parts, 100);
        (batch, outcomes)
    }

    #[test]
    fn the_last_report_answers_the_batch() {
        let deliveries = Deliveries::default();
        let (batch, mut outcomes) = batch(&deliveries, 3, 1);
        deliveries.release(&batch, 1);
        deliveries.release(&batch, 1);
        assert!(outcomes.try_recv().is_err());
        deliveries.release(&batch, 1);
        assert!(outcomes.try_recv().unwrap().result.is_ok());
        assert_eq!(deliveries.batches(), 0);
    }

    #[test]
    fn what_is_submitted_is_unsent_until_the_feeder_says_that_it_was_sent() {
        let deliveries = Deliveries::default();
        let (_first, _first_done) = batch(&deliveries, 3, 1);
        let (_second, _second_done) = batch(&deliveries, 2, 2);
        assert_eq!(deliveries.unsent(), (5, 200));
        deliveries.sent(1, 30);
        deliveries.sent(4, 170);
        assert_eq!(deliveries.unsent(), (1, 30));
        deliveries.sent(5, 200);
        assert_eq!(deliveries.unsent(), (0, 0));
    }

    #[test]
    fn one_failed_report_fails_the_batch_with_the_root_cause() {
        let deliveries = Deliveries::default();
        let (batch, mut outcomes) = batch(&deliveries, 2, 1);
        deliveries.fail(&batch);
        deliveries.release(&batch, 1);
        deliveries.answer_failed(true);
        assert!(outcomes.try_recv().is_err(), "the cause is not known yet");
        deliveries.end(Failure::new(Class::Fatal, codes::RECORD_TOO_LARGE, "too large"));
        deliveries.end(Failure::new(Class::Transient, codes::NOT_DELIVERED, "later"));
        deliveries.release(&batch, 1);
        deliveries.answer_failed(true);
        let error = outcomes.try_recv().unwrap().result.unwrap_err();
        assert_eq!(error.code(), codes::RECORD_TOO_LARGE);
        assert!(outcomes.try_recv().is_err());
        assert_eq!(deliveries.batches(), 0);
    }

    #[test]
    fn a_failed_batch_without_a_cause_is_answered_in_the_end() {
        let deliveries = Deliveries::default();
        let (batch, mut outcomes) = batch(&deliveries, 1, 1);
        deliveries.fail(&batch);
        deliveries.release(&batch, 1);
        deliveries.answer_failed(false);
        let error = outcomes.try_recv().unwrap().result.unwrap_err();
        assert_eq!(error.code(), codes::NOT_DELIVERED);
    }
}
