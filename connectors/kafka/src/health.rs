//! Whether the brokers can be reached, and whether topics keep their partitions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rowtide_sdk::Class;

use crate::delivery::lock;
use crate::error::{Failure, codes};
use crate::producer::{self, Partitions, RawProducer};

/// One look at the cluster from the polling thread, which serves no reports meanwhile.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks while the brokers may be unreachable.
const DOWN_PERIOD: Duration = Duration::from_secs(1);
/// So many looks that failed one after another make it worth asking by another connection, and again after
/// so many more.
const LOOKS_TO_ASK: u32 = 3;
/// How long another connection reaches the cluster and the producer does not, until the producer is given up.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Between two looks at any topic's partitions.
const TOPIC_PERIOD: Duration = Duration::from_secs(1);
/// Between two looks at one topic's partitions.
const ROUND_PERIOD: Duration = Duration::from_secs(10);

/// What is known about the connection. Written by callbacks, judged by the polling thread.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// librdkafka says that every broker is down. It also says so when the only connection was idle
    /// and closed, so that a look decides.
    suspect: AtomicBool,
    /// The last connection error.
    reason: Mutex<String>,
    /// Known partition counts.
    topics: Mutex<BTreeMap<Arc<str>, i32>>,
    /// Batches begun at the last look: an idle connector looks at nothing.
    seen: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    down_since: Option<Instant>,
    /// Looks that failed since the last one that did not.
    failed_looks: u32,
    next_look: Option<Instant>,
    /// Since when another connection reaches the cluster.
    others_since: Option<Instant>,
    next_topic: Option<Instant>,
    /// Where in the round over the topics we are; empty at its start.
    cursor: Option<Arc<str>>,
}

impl Health {
    /// Every broker may be down.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// Whether every broker may be down.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// A broker answered.
    pub(crate) fn clear(&self) {
        self.suspect.store(false, Ordering::Release);
    }

    /// Keeps the last connection error for messages.
    pub(crate) fn note(&self, reason: &str) {
        *lock(&self.reason) = producer::plain_reason(reason);
    }

    /// The last connection error, or nothing.
    pub(crate) fn reason(&self) -> String {
        lock(&self.reason).clone()
    }

    /// Remembers a topic's partitions.
    pub(crate) fn learn(&self, topic: &Arc<str>, partitions: i32) {
        lock(&self.topics).insert(Arc::clone(topic), partitions);
    }

    /// The partitions that the topics have together; at least one.
    pub(crate) fn partitions(&self, topics: &[Arc<str>]) -> usize {
        let known = lock(&self.topics);
        let count = |topic| known.get(topic).and_then(|count| usize::try_from(*count).ok());
        topics.iter().filter_map(count).sum::<usize>().max(1)
    }

    /// Looks where a look is due. `begun` is the number of batches ever begun; `other` configures another
    /// connection to the same cluster.
    ///
    /// # Errors
    /// Where the producer cannot reach the cluster any more, and others do.
    pub(crate) fn check(
        &self,
        raw: &RawProducer,
        other: &ClientConfig,
        begun: usize,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        if self.is_suspect() {
            return self.check_brokers(raw, other, now);
        }
        self.check_topic(raw, now, begun);
        Ok(())
    }

    fn check_brokers(
        &self,
        raw: &RawProducer,
        other: &ClientConfig,
        now: Instant,
    ) -> Result<(), Failure> {
        let mut state = lock(&self.state);
        if state.next_look.is_some_and(|next| now < next) {
            return Ok(());
        }
        let Some(topic) = lock(&self.topics).keys().next().cloned() else { return Ok(()) };
        state.next_look = Some(Instant::now() + DOWN_PERIOD);
        match producer::partitions(raw, &topic, LOOK_TIMEOUT) {
            // A broker that just started answers before it leads anything.
            Ok(Partitions::Electing(_)) => {}
            Ok(Partitions::Ready(_) | Partitions::Missing) => {
                self.clear();
                state.failed_looks = 0;
                state.next_look = None;
                state.others_since = None;
                if let Some(since) = state.down_since.take() {
                    let seconds = since.elapsed().as_secs();
                    tracing::info!(seconds, "a Kafka broker can be reached again");
                }
            }
            Err(_) => {
                state.failed_looks = state.failed_looks.saturating_add(1);
                // One failed look may be a connection that was just being replaced.
                if state.failed_looks >= 2 && state.down_since.is_none() {
                    state.down_since = Some(now);
                    let reason = self.reason();
                    tracing::warn!(
                        code = %codes::UNREACHABLE,
                        reason,
                        "no Kafka broker can be reached; records wait and are sent once one is back"
                    );
                }
                if state.failed_looks.is_multiple_of(LOOKS_TO_ASK) {
                    let is_reached = others_reach(other, &topic);
                    if state.is_lost(is_reached, Instant::now()) {
                        return Err(lost());
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at the next topic of the round.
    fn check_topic(&self, raw: &RawProducer, now: Instant, begun: usize) {
        let mut state = lock(&self.state);
        if now < *state.next_topic.get_or_insert(now + ROUND_PERIOD) {
            return;
        }
        if state.cursor.is_none() && self.seen.swap(begun, Ordering::Relaxed) == begun {
            return;
        }
        let next = next_after(&lock(&self.topics), state.cursor.as_ref());
        let Some((topic, known)) = next else {
            state.cursor = None;
            state.next_topic = Some(now + ROUND_PERIOD);
            return;
        };
        state.next_topic = Some(now + TOPIC_PERIOD);
        state.cursor = Some(Arc::clone(&topic));
        drop(state);
        if let Ok(Partitions::Ready(count)) = producer::partitions(raw, &topic, LOOK_TIMEOUT)
            && count != known
        {
            self.learn(&topic, count);
            tracing::warn!(
                code = %codes::PARTITIONS_CHANGED,
                topic = &*topic,
                before = known,
                now = count,
                "the topic's partitions changed: keys move to other partitions, and their order \
                 across the change is not kept"
            );
        }
    }
}

impl State {
    /// Whether another connection has reached the cluster for so long that the producer will not any more.
    fn is_lost(&mut self, is_reached: bool, now: Instant) -> bool {
        if !is_reached {
            self.others_since = None;
            return false;
        }
        now.duration_since(*self.others_since.get_or_insert(now)) >= LOST_AFTER
    }
}

/// Whether a new connection finds the cluster, and the topic led.
fn others_reach(other: &ClientConfig, topic: &str) -> bool {
    let reached =
        producer::connection(other).and_then(|raw| producer::partitions(&raw, topic, LOOK_TIMEOUT));
    matches!(reached, Ok(Partitions::Ready(_) | Partitions::Missing))
}

/// librdkafka forgets the brokers that an answer does not name. A broker that comes back at times names none,
/// itself neither, and then nobody is left to ask: librdkafka's issue 5301.
fn lost() -> Failure {
    let what = "librdkafka lost every broker and looks for none, though the cluster answers: the sink is \
                opened anew, and what was under way is sent again";
    Failure::new(Class::Transient, codes::UNREACHABLE, what)
}

/// The topic after `cursor`, with its known partitions.
fn next_after(
    topics: &BTreeMap<Arc<str>, i32>,
    cursor: Option<&Arc<str>>,
) -> Option<(Arc<str>, i32)> {
    use std::ops::Bound;
    let from = cursor.map_or(Bound::Unbounded, |cursor| Bound::Excluded(Arc::clone(cursor)));
    let mut after = topics.range::<Arc<str>, _>((from, Bound::Unbounded));
    after.next().map(|(topic, count)| (Arc::clone(topic), *count))
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::settings::quiet_config;

    fn client(brokers: &str) -> ClientConfig {
        let mut client = quiet_config();
        client.set("bootstrap.servers", brokers);
        client
    }

    /// Looks as the polling thread does, from when every broker is said to be down.
    fn looks(ours: &str, other: &str, seconds: u64) -> Result<(), Failure> {
        let health = Health::default();
        health.learn(&Arc::from("shop.orders"), 1);
        health.suspect();
        let ours = producer::connection(&client(ours)).unwrap();
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            health.check(&ours, &client(other), 0)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    #[test]
    fn a_producer_that_finds_no_broker_while_others_do_is_lost_and_not_before() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("shop.orders", 1, 1).unwrap();
        let (there, nowhere) = (mock.bootstrap_servers(), "127.0.0.1:1");
        let began = Instant::now();
        let lost = looks(nowhere, &there, 60).unwrap_err();
        assert!(began.elapsed() > LOST_AFTER, "{:?}", began.elapsed());
        assert_eq!((lost.code, lost.class), (codes::UNREACHABLE, Class::Transient));
        // An outage is none of it, and is waited for.
        std::thread::scope(|scope| {
            scope.spawn(|| looks(nowhere, nowhere, 25).unwrap());
            scope.spawn(|| looks(&there, nowhere, 5).unwrap());
        });
    }

    #[test]
    fn others_are_to_reach_the_cluster_all_the_time() {
        let mut state = State::default();
        let start = Instant::now();
        for (seconds, is_reached, is_lost) in [
            (0, false, false),
            (6, true, false),
            (12, true, false),
            (18, false, false),
            (24, true, false),
            (33, true, false),
            (34, true, true),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(state.is_lost(is_reached, now), is_lost, "{seconds}");
        }
    }

    #[test]
    fn a_round_visits_every_topic_once() {
        let topics: BTreeMap<Arc<str>, i32> =
            [("a", 1), ("b", 2), ("c", 3)].into_iter().map(|(t, n)| (Arc::from(t), n)).collect();
        let mut cursor = None;
        let mut visited = Vec::new();
        while let Some((topic, count)) = next_after(&topics, cursor.as_ref()) {
            visited.push((topic.to_string(), count));
            cursor = Some(topic);
        }
        assert_eq!(visited, [("a".into(), 1), ("b".into(), 2), ("c".into(), 3)]);
    }
}
