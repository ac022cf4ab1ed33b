//! The ack tracker: which checkpoint everything before is durable of. Does no I/O.

use std::collections::VecDeque;

use rowtide_sdk::Checkpoint;

/// Tracks submitted batches in order and answers in any order.
#[derive(Debug, Default)]
pub(crate) struct AckTracker {
    /// The sequence number of the front entry.
    first: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    checkpoint: Checkpoint,
    is_durable: bool,
}

impl AckTracker {
    /// Notes a batch about to be submitted and gives its sequence number, dense from 0.
    pub(crate) fn submitted(&mut self, checkpoint: Checkpoint) -> u64 {
        self.entries.push_back(Entry { checkpoint, is_durable: false });
        self.first.saturating_add(self.entries.len() as u64).saturating_sub(1)
    }

    /// Forgets the batch that was submitted last: the sink took nothing of it.
    pub(crate) fn withdrawn(&mut self, sequence: u64) {
        let next = self.first.saturating_add(self.entries.len() as u64);
        if sequence.checked_add(1) == Some(next) {
            self.entries.pop_back();
        }
    }

    /// Notes that a batch is durable. Unknown or repeated numbers change nothing.
    pub(crate) fn durable(&mut self, sequence: u64) {
        let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            entry.is_durable = true;
        }
    }

    /// Takes the newest checkpoint up to which every batch is durable, if it moved.
    pub(crate) fn take_watermark(&mut self) -> Option<Checkpoint> {
        let mut newest = None;
        while self.entries.front().is_some_and(|entry| entry.is_durable) {
            newest = self.entries.pop_front().map(|entry| entry.checkpoint);
            self.first = self.first.saturating_add(1);
        }
        newest
    }

    /// How many batches wait for an answer, their own or that of one before them.
    pub(crate) fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits for an answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rowtide_sdk::Position;

    use super::*;

    fn checkpoint(number: u64) -> Checkpoint {
        Checkpoint { position: Position::new(number.to_string()), host: "".into() }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Submit,
        /// Answers one of the batches submitted so far, perhaps again.
        Answer(prop::sample::Index),
        /// Takes back the newest batch, which the sink did not accept.
        Withdraw,
        Take,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Submit),
            any::<prop::sample::Index>().prop_map(Step::Answer),
            Just(Step::Withdraw),
            Just(Step::Take)
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a naive model: a flag per batch, and the longest run of set flags.
        #[test]
        fn h10_the_watermark_is_the_longest_durable_prefix(steps in steps()) {
            let mut tracker = AckTracker::default();
            let mut model: Vec<bool> = Vec::new();
            let mut taken = 0;
            for step in steps {
                match step {
                    Step::Submit => {
                        let number = model.len() as u64;
                        prop_assert_eq!(tracker.submitted(checkpoint(number)), number);
                        model.push(false);
                    }
                    Step::Answer(index) if !model.is_empty() => {
                        let index = index.index(model.len());
                        tracker.durable(index as u64);
                        model[index] = true;
                    }
                    Step::Answer(_) => {}
                    Step::Withdraw if model.len() > taken => {
                        tracker.withdrawn(model.len() as u64 - 1);
                        model.pop();
                    }
                    // Of what is gone, or never came, nothing is taken back.
                    Step::Withdraw => tracker.withdrawn(model.len() as u64),
                    Step::Take => {
                        let prefix = model.iter().take_while(|durable| **durable).count();
                        let expected = (prefix > taken).then(|| checkpoint(prefix as u64 - 1));
                        prop_assert_eq!(tracker.take_watermark(), expected);
                        taken = prefix.max(taken);
                        prop_assert_eq!(tracker.is_idle(), taken == model.len());
                    }
                }
            }
        }
    }
}
