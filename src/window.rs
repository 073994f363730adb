use std::time::Duration;

use crate::error::{ConfigError, Error};

/// The time for which the service retries a delivery that is not acknowledged.
pub(crate) const RETRIES: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a delivery's `webhook-timestamp` may lie from the receiver's clock.
///
/// The default is 300 s back and 300 s ahead, as Standard Webhooks 1.0.0 recommends. Both edges
/// belong to the window, and whole seconds are compared: `webhook-timestamp` has no fractions.
///
/// Within the window a captured delivery can be sent again. Only remembering each `webhook-id`
/// stops that; the window bounds for how long it must be remembered.
///
/// ```
/// use std::time::Duration;
/// use gemini_webhooks::ReplayWindow;
///
/// let strict = ReplayWindow::default().back(Duration::from_secs(60)).ahead(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayWindow {
    back: Duration,
    ahead: Duration,
}

impl ReplayWindow {
    /// The widest either side may be: 24 hours, as long as the service retries.
    pub const MAX: Duration = RETRIES;

    /// Sets how old an attempt may be; fractions of a second make no difference.
    ///
    /// [`VerifierBuilder::build`](crate::VerifierBuilder::build) refuses more than
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub const fn back(self, back: Duration) -> Self {
        Self { back, ..self }
    }

    /// Sets how far ahead of the receiver's clock an attempt may be; fractions of a second
    /// make no difference.
    ///
    /// [`VerifierBuilder::build`](crate::VerifierBuilder::build) refuses more than
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub const fn ahead(self, ahead: Duration) -> Self {
        Self { ahead, ..self }
    }

    /// The two sides: back and ahead.
    #[cfg(feature = "_per-request")]
    pub(crate) const fn sides(self) -> [Duration; 2] {
        [self.back, self.ahead]
    }

    /// How long after a delivery arrived a copy of it may still be admitted: the last of the
    /// service's retries may lie ahead of the clock, and be recorded and sent again.
    pub(crate) const fn retention(self) -> Duration {
        RETRIES.saturating_add(self.back).saturating_add(self.ahead)
    }

    pub(crate) fn validate(self) -> Result<Self, ConfigError> {
        match self.back.max(self.ahead) {
            wide if wide > Self::MAX => Err(ConfigError::WindowTooWide {
                given: wide,
                allowed: Self::MAX,
            }),
            _ => Ok(self),
        }
    }

    /// Refuses an attempt outside this window around `now`.
    ///
    /// Both are in Unix seconds, and `timestamp` is not negative.
    pub(crate) fn admit(self, timestamp: i64, now: i64) -> Result<(), Error> {
        let difference = timestamp.saturating_sub(now);
        let distance = Duration::from_secs(difference.unsigned_abs());
        if difference < 0 && distance > self.back {
            return Err(Error::TimestampTooOld {
                age: distance,
                allowed: self.back,
            });
        }
        // Past the last year that `time` knows there is no attempt to admit, whatever the clock.
        if difference > 0 && distance > self.ahead || timestamp > LAST_SECOND {
            return Err(Error::TimestampTooNew {
                ahead: distance,
                allowed: self.ahead,
            });
        }
        Ok(())
    }
}

/// The end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            back: Duration::from_secs(300),
            ahead: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_780_000_000;

    fn admit(window: ReplayWindow, timestamp: i64) -> Result<(), Error> {
        window.admit(timestamp, NOW)
    }

    #[test]
    fn a_timestamp_exactly_at_the_edge_is_accepted() {
        for timestamp in [NOW - 300, NOW, NOW + 300] {
            assert!(admit(ReplayWindow::default(), timestamp).is_ok());
        }
    }

    #[test]
    fn a_second_past_either_edge_is_refused_with_the_difference() {
        let old = admit(ReplayWindow::default(), NOW - 301).unwrap_err();
        assert_eq!(
            old.to_string(),
            "webhook-timestamp is 301 s old, 300 s are allowed"
        );
        let new = admit(ReplayWindow::default(), NOW + 301).unwrap_err();
        assert_eq!(
            new.to_string(),
            "webhook-timestamp is 301 s ahead, 300 s are allowed"
        );
    }

    #[test]
    fn each_side_is_set_by_itself() {
        let window = ReplayWindow::default()
            .back(Duration::from_secs(10))
            .ahead(Duration::ZERO);
        assert!(admit(window, NOW - 10).is_ok());
        assert!(admit(window, NOW - 11).is_err());
        assert!(admit(window, NOW).is_ok());
        assert!(admit(window, NOW + 1).is_err());
    }

    #[test]
    fn extreme_clocks_and_timestamps_are_refused_without_a_panic() {
        let wide = ReplayWindow::default()
            .back(Duration::MAX)
            .ahead(Duration::MAX);
        for now in [i64::MIN, -1, 0, 253_402_300_799, i64::MAX] {
            for timestamp in [LAST_SECOND + 1, i64::MAX] {
                let error = wide.admit(timestamp, now).unwrap_err();
                assert_eq!(error.code(), "timestamp_too_new");
            }
        }
        assert!(wide.admit(LAST_SECOND, LAST_SECOND).is_ok());
        assert!(time::OffsetDateTime::from_unix_timestamp(LAST_SECOND).is_ok());
        assert!(time::OffsetDateTime::from_unix_timestamp(LAST_SECOND + 1).is_err());
    }

    #[test]
    fn a_window_wider_than_the_retries_is_refused() {
        let day = ReplayWindow::default().back(ReplayWindow::MAX);
        assert!(day.validate().is_ok());
        let wider = day.ahead(ReplayWindow::MAX + Duration::from_secs(1));
        assert!(matches!(
            wider.validate(),
            Err(ConfigError::WindowTooWide { .. })
        ));
    }
}
