//! Dates as headers write them, formatted at most once a second.
//!
//! Owns the date format of RFC 5322 3.3. The time comes in as seconds since the epoch; the crate reads no
//! clock. Times outside of the years that the calendar library knows are moved to its first or last second:
//! a wrong clock must not stop the mail.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Keeps the text of the last second asked for.
#[derive(Clone, Debug, Default)]
pub struct DateCache {
    unix_seconds: i64,
    text: String,
}

impl DateCache {
    /// An empty cache; the first call formats.
    pub fn new() -> Self {
        Self::default()
    }

    /// The date in UTC, such as `Thu, 1 Jan 1970 00:00:00 +0000` (RFC 5322 3.3).
    pub fn rfc5322(&mut self, unix_seconds: i64) -> &str {
        if self.text.is_empty() || self.unix_seconds != unix_seconds {
            self.unix_seconds = unix_seconds;
            self.text = format(unix_seconds);
        }
        &self.text
    }
}

fn format(unix_seconds: i64) -> String {
    let nearest_end = if unix_seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let timestamp = Timestamp::from_second(unix_seconds).unwrap_or(nearest_end);
    // The printer knows years 0 to 9999 only; a clock set before our era is answered with the epoch.
    jiff::fmt::rfc2822::to_string(&timestamp.to_zoned(TimeZone::UTC))
        .unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_form_of_rfc_5322() {
        let mut cache = DateCache::new();
        assert_eq!(cache.rfc5322(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(cache.rfc5322(1_795_327_317), "Sun, 22 Nov 2026 06:01:57 +0000");
        assert_eq!(cache.rfc5322(1_795_327_317), "Sun, 22 Nov 2026 06:01:57 +0000");
    }

    #[test]
    fn a_wrong_clock_still_gives_a_date() {
        let mut cache = DateCache::new();
        assert!(cache.rfc5322(i64::MIN).ends_with("+0000"));
        assert!(cache.rfc5322(i64::MAX).contains("9999"));
    }
}
