//! The clock port. Every decision takes `now` as a value; only [`SystemClock`] asks the system.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How far a host's clock may be off before we stop believing in times near now.
pub const SKEW: Duration = Duration::from_secs(300);

/// A moment: milliseconds since the Unix epoch, UTC. Written as RFC 3339 in files and status.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(i64);

impl Time {
    pub const MAX: Time = Time(i64::MAX);

    pub const fn from_millis(ms: i64) -> Time {
        Time(ms)
    }

    pub const fn from_secs(s: i64) -> Time {
        Time(s.saturating_mul(1000))
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).try_into().unwrap_or(0))
    }

    /// RFC 3339 in UTC with whole seconds, as the status shows it.
    pub fn rfc3339(self) -> String {
        text(Time::from_secs(self.secs()))
    }
}

// What RFC 3339 can say: years of four digits. Anything else is written, and read, as the end of
// these that is nearer, so that what was read is what is written again.
const FIRST: Time = Time::from_secs(-62_167_219_200); // 0000-01-01T00:00:00Z
const LAST: Time = Time::from_secs(253_402_300_799); // 9999-12-31T23:59:59Z

fn text(time: Time) -> String {
    let nanos = i128::from(time.clamp(FIRST, LAST).0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default() // within these it can be told
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(d.as_millis().try_into().unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(d.as_millis().try_into().unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl Serialize for Time {
    /// Keeps the milliseconds: "asked before or after" is decided by them.
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&text(*self))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Time, D::Error> {
        let text = String::deserialize(d)?;
        let t = OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)?;
        let ms = i64::try_from(t.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        Ok(Time(ms).clamp(FIRST, LAST))
    }
}

/// Tells the time. Tests use [`FakeClock`].
pub trait Clock: Send + Sync {
    fn now(&self) -> Time;
}

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that asks the system
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(since.as_millis().try_into().unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved.
#[cfg(test)]
#[derive(Default)]
pub struct FakeClock(std::sync::atomic::AtomicI64);

#[cfg(test)]
impl FakeClock {
    pub fn at(t: Time) -> FakeClock {
        FakeClock(t.0.into())
    }

    pub fn set_back(&self, d: Duration) {
        self.0.fetch_sub(d.as_millis() as i64, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn advance(&self, d: Duration) {
        self.0.fetch_add(d.as_millis() as i64, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> Time {
        Time(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let t = Time::from_millis(1_795_312_739_123);
        assert_eq!(t.rfc3339(), "2026-11-22T01:58:59Z");
        let json = serde_json::to_string(&t).unwrap();
        assert_eq!(json, "\"2026-11-22T01:58:59.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), t);
    }

    #[test]
    fn times_that_have_no_text() {
        const FIRST: &str = "0000-01-01T00:00:00Z";
        const LAST: &str = "9999-12-31T23:59:59Z";
        for (time, text) in [(Time(i64::MIN), FIRST), (Time::MAX, LAST)] {
            assert_eq!(time.rfc3339(), text);
            assert_eq!(serde_json::to_value(time).unwrap(), text);
        }
        for (written, text) in [
            ("0000-01-01T00:00:00+23:59", FIRST),
            ("9999-12-31T23:59:59-23:59", LAST),
            ("9999-12-31T23:59:59.999Z", LAST),
        ] {
            let read: Time = serde_json::from_value(written.into()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), text, "{written}");
            assert_eq!(serde_json::from_value::<Time>(text.into()).unwrap(), read, "{written}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(Time::from_secs(1).since(Time::from_secs(2)), Duration::ZERO);
    }
}
