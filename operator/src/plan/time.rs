//! Arithmetic of times.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The time `duration` after `time`.
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration).ok().and_then(|d| time.checked_add(d).ok()).unwrap_or(Timestamp::MAX)
}

/// The time without its fraction: Kubernetes' times have none.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
