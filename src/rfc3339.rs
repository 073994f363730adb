//! Times in the form of RFC 3339, such as `2026-01-22T12:00:00Z`.

use time::{
    OffsetDateTime,
    error::{Format, Parse},
    format_description::well_known::Rfc3339,
};

/// Parses a time, and keeps its offset.
pub(crate) fn parse(text: &str) -> Result<OffsetDateTime, Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
}

/// Returns true for a text that [`format`] gives back, if it is a time at all: one in UTC, with a
/// fraction that does not end with a zero, if any.
pub(crate) fn is_plain(text: &str) -> bool {
    let Some((seconds, fraction)) = text.split_at_checked("2026-01-22T12:00:00".len()) else {
        return false;
    };
    let fraction_is_plain = match fraction.as_bytes() {
        b"Z" => true,
        // The nanoseconds are kept, and no more.
        [b'.', digits @ .., b'1'..=b'9', b'Z'] => digits.len() < 9,
        _ => false,
    };
    // A leap second is read as the end of the second before.
    fraction_is_plain && seconds.as_bytes().get(10) == Some(&b'T') && !seconds.ends_with("60")
}

/// Formats a time. The year must be in 0 to 9999, and the offset in whole minutes.
pub(crate) fn format(time: OffsetDateTime) -> Result<String, Format> {
    time.format(&Rfc3339)
}

#[cfg(test)]
mod tests {
    use time::{Date, UtcOffset};

    use super::*;

    #[test]
    fn a_time_keeps_its_fraction_and_its_offset() {
        let time = parse("2026-01-22T13:00:00.25+01:00").unwrap();
        assert_eq!(time.unix_timestamp_nanos(), 1_769_083_200_250_000_000);
        assert_eq!(format(time).unwrap(), "2026-01-22T13:00:00.25+01:00");
        assert_eq!(
            format(time.to_offset(UtcOffset::UTC)).unwrap(),
            "2026-01-22T12:00:00.25Z"
        );
    }

    #[test]
    fn a_plain_time_is_formatted_as_it_was() {
        let texts = [
            "2026-01-22T12:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2026-01-22T12:00:00.5Z",
            "2026-01-22T12:00:00.000000009Z",
            "2026-01-22T12:00:00.0000000019Z",
            "2026-01-22T12:00:00.500Z",
            "2026-01-22T12:00:00+00:00",
            "2026-01-22T12:00:00-00:00",
            "2026-01-22t12:00:00z",
            "2026-01-22T12:00:00z",
            "2026-01-22 12:00:00Z",
            "2016-12-31T23:59:60Z",
            "2016-12-31T23:59:60.5Z",
        ];
        let mut plain = 0;
        for text in texts {
            let formatted = parse(text).ok().and_then(|time| format(time).ok());
            if is_plain(text) {
                plain += 1;
                assert_eq!(formatted.as_deref(), Some(text));
            }
        }
        assert_eq!(plain, 5);
    }

    #[test]
    fn another_form_is_an_error() {
        for text in [
            "",
            "noon",
            "2026-01-22",
            "2026-01-22T12:00:00",
            "2026-02-30T12:00:00Z",
            "2026-01-22T12:00:00Z ",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_year_before_the_common_era_is_not_formatted() {
        let time = Date::MIN.midnight().assume_utc();
        assert!(format(time).is_err());
    }
}
