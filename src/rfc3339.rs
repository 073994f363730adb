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
