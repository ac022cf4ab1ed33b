//! A set of transaction ids.

use std::collections::BTreeMap;

/// Words in a page: one bit for each of the 4096 ids that share their upper 20 bits.
const WORDS: usize = 64;

/// A set of transaction ids, as bits: a transaction with a rolled back savepoint per row, a million
/// of them, costs a few hundred kilobytes, because the ids are handed out in turn. Pages are small,
/// because most transactions have a few at most, and many may be open at once.
#[derive(Debug, Default)]
pub(crate) struct XidSet {
    /// By the upper bits of the id.
    pages: BTreeMap<u32, Box<[u64]>>,
}

/// The page, the word in it and the bit in that.
fn place(xid: u32) -> (u32, usize, u64) {
    let [_, _, high, low] = xid.to_be_bytes();
    let in_page = u16::from_be_bytes([high, low]) % 4096;
    (xid >> 12, usize::from(in_page / 64), 1 << (in_page % 64))
}

impl XidSet {
    /// Whether nothing is in it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Puts an id in.
    pub(crate) fn insert(&mut self, xid: u32) {
        let (page, word, bit) = place(xid);
        let page = self.pages.entry(page).or_insert_with(|| vec![0; WORDS].into_boxed_slice());
        if let Some(word) = page.get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether an id is in it.
    #[inline]
    pub(crate) fn contains(&self, xid: u32) -> bool {
        let (page, word, bit) = place(xid);
        let word = self.pages.get(&page).and_then(|page| page.get(word));
        word.is_some_and(|word| word & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    impl XidSet {
        fn bytes(&self) -> usize {
            self.pages.values().map(|page| size_of_val(&**page)).sum()
        }
    }

    #[test]
    fn h39_what_was_rolled_back_takes_little_memory() {
        let mut one = XidSet::default();
        one.insert(7);
        assert_eq!(one.bytes(), 512);
        let mut many = XidSet::default();
        (0..1_000_000).for_each(|xid| many.insert(xid));
        assert!(many.bytes() < 130_000, "{}", many.bytes());
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_in(xids: HashSet<u32>, others: Vec<u32>, near in 0..200_000_u32) {
            let mut set = XidSet::default();
            prop_assert!(set.is_empty() && !set.contains(near));
            for &xid in &xids {
                set.insert(xid);
            }
            for xid in xids.iter().flat_map(|xid| [*xid, xid.wrapping_add(1)]).chain(others) {
                prop_assert_eq!(set.contains(xid), xids.contains(&xid));
            }
        }
    }
}
