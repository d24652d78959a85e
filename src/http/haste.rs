//! Haste: while handshakes wait and there is another CA to ask, one that does not answer must not
//! take the time of both. The limit is for each request of what runs in [`with`], on this thread:
//! a protocol neither knows of it nor can forget it. A program that is the CA has it too; one that
//! only puts a record into the DNS has not, for which seconds are no time.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Runs `what`, each request of which may take `limit` at most; None: as long as it may anyway.
pub fn with<T>(limit: Option<Duration>, what: impl FnOnce() -> T) -> T {
    /// Ends it after a panic too.
    struct End(Option<Duration>);
    impl Drop for End {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let end = End(LIMIT.replace(limit));
    let result = what();
    drop(end);
    result
}

/// How long a request, or a program, may take here and now that may take `timeout` else.
pub fn limited(timeout: Duration) -> Duration {
    LIMIT.get().map_or(timeout, |limit| timeout.min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_ends_with_what_it_is_for() {
        let s = Duration::from_secs;
        assert_eq!(limited(s(30)), s(30));
        let inside = with(Some(s(3)), || {
            let deeper = with(None, || limited(s(30)));
            (limited(s(30)), limited(s(2)), deeper)
        });
        assert_eq!(inside, (s(3), s(2), s(30)));
        let _ = std::panic::catch_unwind(|| with(Some(s(3)), || panic!("expected")));
        assert_eq!(limited(s(30)), s(30));
    }
}
