//! Durations such as `90s`, `10m` or `1h30m`.

use std::time::Duration;

/// The CEL rule of a duration.
pub const PATTERN: &str = "self.size() > 0 && self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$')";
/// The message of that rule.
pub const TEXT: &str = "must be a duration such as 90s, 10m or 1h30m";

/// The CEL rule of a duration that must not be zero.
pub const POSITIVE: &str = "self.matches('[1-9]') && self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$')";
/// The message of that rule.
pub const POSITIVE_TEXT: &str = "must be a duration above zero such as 90s, 10m or 1h30m";

/// Reads a duration; `None` if the text is not one.
pub fn parse(text: &str) -> Option<Duration> {
    let (mut seconds, mut number, mut order) = (0_u64, String::new(), 0);
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let (factor, place) = match c {
            'h' => (3600, 1),
            'm' => (60, 2),
            's' => (1, 3),
            _ => return None,
        };
        if place <= order {
            return None;
        }
        order = place;
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        number.clear();
    }
    (order > 0 && number.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_of_hours_minutes_and_seconds_is_read() {
        for (text, seconds) in [("90s", Some(90)), ("10m", Some(600)), ("1h30m", Some(5400)), ("0s", Some(0))] {
            assert_eq!(parse(text).map(|d| d.as_secs()), seconds, "{text}");
        }
        for bad in ["", "10", "m", "1s2m", "1d", "-1s", "1m1m", "99999999999999999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
