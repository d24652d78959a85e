//! When something that failed is tried again. The tables are all there is to it: every failure
//! has a next attempt, and none comes so soon that a CA or responder in trouble is held there.

use std::time::Duration;

/// After so many failed checks in a row.
const CHECK: [u64; 5] = [5, 10, 30, 60, 300];
/// After so many failed issuances in a row.
const ISSUE: [u64; 6] = [10, 30, 60, 300, 900, 3600];
/// A responder's wish up to this is honoured whatever the interval.
const SHORT_WISH: Duration = Duration::from_secs(60);
/// A longer wish of a CA or responder is a mistake of theirs: nothing would end it but a reload.
const LONGEST_WISH: Duration = Duration::from_secs(24 * 3600);

/// How long after the `failures`th failed check (the first is 1) the next one is due. Never longer
/// than half the interval, so that proof that still holds has a second chance to be renewed.
pub fn check(failures: u32, interval: Duration, wish: Option<Duration>, share: f64) -> Duration {
    let longest = match interval {
        // Each handshake is to be checked: one attempt in five seconds is what we can do for it.
        Duration::ZERO => Duration::from_secs(CHECK[0]),
        interval => (interval / 2).max(Duration::from_secs(1)),
    };
    // Nobody has signed the wish, and under `check hard` nobody is served until then.
    let wish = wish.map(|wish| wish.min((interval / 2).max(SHORT_WISH)));
    honour(jitter(step(&CHECK, failures), share).min(longest), wish)
}

/// How long after the `failures`th failed issuance the next one is due.
pub fn issue(failures: u32, wish: Option<Duration>, share: f64) -> Duration {
    honour(jitter(step(&ISSUE, failures), share), wish)
}

fn step(table: &[u64], failures: u32) -> Duration {
    let i = (failures.max(1) as usize - 1).min(table.len() - 1);
    Duration::from_secs(table[i])
}

/// 80 to 120 %: many entries that failed together do not come back together.
fn jitter(d: Duration, share: f64) -> Duration {
    d.mul_f64(0.8 + 0.4 * share)
}

fn honour(d: Duration, wish: Option<Duration>) -> Duration {
    d.max(wish.unwrap_or_default().min(LONGEST_WISH))
}

/// A small seeded source of jitter (SplitMix64): spreads attempts, guards nothing.
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// Evenly in 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        share(self.0)
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from).mul_f64(1.0 + self.share() * (to as f64 / from as f64 - 1.0))
    }
}

/// A share in 0 to 1 that depends on nothing but the value: the same in all workers and hosts.
pub fn share_of(text: &str, number: i64) -> f64 {
    // FNV-1a: short and enough to spread.
    let bytes = text.bytes().chain(number.to_be_bytes());
    share(
        bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        }),
    )
}

fn share(mut x: u64) -> f64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    (x >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: f64 = 0.5; // no jitter

    fn s(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn checks() {
        let hour = s(3600);
        for (failures, interval, wish, want) in [
            (1, hour, None, s(5)),
            (2, hour, None, s(10)),
            (3, hour, None, s(30)),
            (4, hour, None, s(60)),
            (5, hour, None, s(300)),
            (99, hour, None, s(300)),
            (5, s(100), None, s(50)),         // half the interval
            (1, s(1), None, s(1)),            // but not all the time
            (3, s(0), None, s(5)),            // check_interval 0
            (5, s(100), Some(s(55)), s(55)),  // the responder's wish is longer
            (5, s(100), Some(s(400)), s(60)), // but nobody has signed it
            (1, hour, Some(s(3600)), s(1800)),
            (1, s(0), Some(s(3600)), s(60)),
            (5, hour, Some(s(1)), s(300)), // a shorter wish is none
            (1, hour * 99, Some(s(9_000_000)), s(24 * 3600)),
        ] {
            assert_eq!(check(failures, interval, wish, MIDDLE), want, "{failures} {interval:?}");
        }
    }

    #[test]
    fn issuances() {
        for (failures, wish, want) in [
            (0, None, s(10)),
            (1, None, s(10)),
            (2, None, s(30)),
            (6, None, s(3600)),
            (7, None, s(3600)),
            (1, Some(s(120)), s(120)),
            (6, Some(s(120)), s(3600)),
        ] {
            assert_eq!(issue(failures, wish, MIDDLE), want, "{failures}");
        }
    }

    #[test]
    fn jitter_spreads_within_bounds() {
        let mut jitter = Jitter::new(1);
        let (mut low, mut high) = (1.0f64, 0.0f64);
        for i in 0..1000 {
            for share in [jitter.share(), share_of("a", i)] {
                assert!((0.0..1.0).contains(&share));
                (low, high) = (low.min(share), high.max(share));
            }
            let d = jitter.millis(50, 150);
            assert!((50..=150).contains(&(d.as_millis() as u64)), "{d:?}");
        }
        assert!(low < 0.01 && high > 0.99, "{low} {high}");
        assert_eq!(issue(1, None, 0.0), s(8));
        assert_eq!(issue(1, None, 1.0), s(12));
    }
}
