//! Which serials a CRL does not list, in little memory: a Bloom filter.
//!
//! What it does not contain is certainly not listed. Else the CRL has to be read again, which
//! happens to about one in fifty for the largest CRLs. It is what keeps a thousand entries that
//! share one CRL of 70 MB from a thousand walks, at 2 MB; a list of all serials would take 40.

use std::hash::{BuildHasher, RandomState};

pub struct Filter {
    /// A power of two of them.
    words: Vec<u64>,
    /// Keyed: nobody can choose serials that collide.
    hasher: RandomState,
}

impl Filter {
    /// For a CRL with this many bytes of entries.
    pub fn new(bytes: u64) -> Filter {
        /// Of a real entry, at the least.
        const ENTRY: u64 = 24;
        const BITS_PER_ENTRY: u64 = 10;
        const MOST: u64 = 1 << 24;
        let bits = (bytes / ENTRY * BITS_PER_ENTRY).clamp(64, MOST).next_power_of_two();
        Filter { words: vec![0; (bits / 64) as usize], hasher: RandomState::new() }
    }

    pub fn add(&mut self, serial: &[u8]) {
        for (word, bit) in self.places(serial) {
            self.words[word] |= bit;
        }
    }

    /// False: was never added. True: probably was.
    pub fn may_contain(&self, serial: &[u8]) -> bool {
        self.places(serial).iter().all(|(word, bit)| self.words[*word] & bit != 0)
    }

    /// What it takes in memory, in bytes.
    pub fn size(&self) -> usize {
        self.words.len() * 8
    }

    /// Four bits, as index of the word and bit in it.
    fn places(&self, serial: &[u8]) -> [(usize, u64); 4] {
        let hash = self.hasher.hash_one(serial);
        let (start, step) = (hash as u32, (hash >> 32) as u32 | 1);
        let last = self.words.len() * 64 - 1;
        std::array::from_fn(|n| {
            let place = start.wrapping_add(step.wrapping_mul(n as u32)) as usize & last;
            (place / 64, 1 << (place % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_nothing_and_mistakes_little() {
        for (entries, entry) in [(0_u32, 37_u64), (1, 37), (100_000, 24), (2_000_000, 37)] {
            let mut filter = Filter::new(u64::from(entries) * entry);
            assert!(filter.size() <= 2 << 20, "{}", filter.size());
            for n in 0..entries {
                filter.add(&n.to_be_bytes());
            }
            assert!((0..entries).all(|n| filter.may_contain(&n.to_be_bytes())));
            let others = (1_u64 << 40)..(1_u64 << 40) + 10_000;
            let wrong = others.filter(|n| filter.may_contain(&n.to_be_bytes())).count();
            assert!(wrong < 500, "{wrong} of 10000 with {entries} entries");
        }
    }
}
