//! A cell of shared memory. nginx's mutex is no choice here: whoever is killed in it stops every
//! event loop.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes that are read whole or not at all: a sequence lock over words. Writers of a moment take
/// turns; one that was killed in its turn is passed over.
pub struct Cell<const WORDS: usize> {
    /// Odd while somebody writes.
    sequence: AtomicU64,
    length: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Cell<WORDS> {
    pub const CAPACITY: usize = WORDS * 8;
    /// A write takes a microsecond; a writer that takes this many tries of others is dead.
    const PATIENCE: u32 = 200_000;
    /// A reader does not wait for one that is dead.
    const GLANCES: u32 = 2_000;

    pub fn is_empty(&self) -> bool {
        self.length.load(Ordering::Relaxed) == 0
    }

    pub fn read(&self) -> Vec<u8> {
        for _ in 0..Self::GLANCES {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                let bytes = self.copy();
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return bytes;
                }
            }
            std::hint::spin_loop();
        }
        Vec::new()
    }

    /// Changes the bytes; what is longer than the capacity is not taken.
    pub fn update(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let turn = self.lock();
        let mut bytes = self.copy();
        change(&mut bytes);
        // Passed over while asleep: the turn is another's now.
        let is_ours = self.sequence.load(Ordering::Acquire) == turn;
        if is_ours && bytes.len() <= Self::CAPACITY {
            for (place, chunk) in self.words.iter().zip(bytes.chunks(8)) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                place.store(u64::from_ne_bytes(word), Ordering::Relaxed);
            }
            self.length.store(bytes.len() as u64, Ordering::Relaxed);
        }
        let (done, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let _ = self.sequence.compare_exchange(turn, turn + 1, done, relaxed);
    }

    /// Returns the odd number of our turn.
    fn lock(&self) -> u64 {
        let mut tries = 0;
        loop {
            let seen = self.sequence.load(Ordering::Relaxed);
            tries += 1;
            let ours = match seen & 1 {
                0 => seen + 1,
                _ if tries > Self::PATIENCE => seen + 2,
                _ => {
                    std::hint::spin_loop();
                    continue;
                }
            };
            if self
                .sequence
                .compare_exchange(seen, ours, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                fence(Ordering::Release);
                return ours;
            }
        }
    }

    fn copy(&self) -> Vec<u8> {
        let length = (self.length.load(Ordering::Relaxed) as usize).min(Self::CAPACITY);
        let words = self.words.iter().take(length.div_ceil(8));
        let mut bytes: Vec<u8> =
            words.flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
