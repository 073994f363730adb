//! Ways to write a time.

/// A time in UTC, in parts.
pub(super) struct Time<'t> {
    date: &'t str,
    clock: &'t str,
    fraction: &'t str,
}

/// The number of digits of a fraction, or as few as it takes, and the offset.
#[derive(Clone, Copy)]
pub(super) struct Form(Option<usize>, &'static str);

pub(super) struct Times {
    pub(super) text: &'static str,
    /// `None` to leave them as they are.
    pub(super) form: Option<Form>,
}

const CHANGED: &str = "its times were written in another form";

const fn form(digits: Option<usize>, offset: &'static str) -> Times {
    Times {
        text: CHANGED,
        form: Some(Form(digits, offset)),
    }
}

pub(super) static TIMES: [Times; 9] = [
    Times {
        text: "",
        form: None,
    },
    form(None, "Z"),
    form(Some(3), "Z"),
    form(Some(6), "Z"),
    form(Some(9), "Z"),
    form(None, "+00:00"),
    form(Some(3), "+00:00"),
    form(Some(6), "+00:00"),
    form(Some(9), "+00:00"),
];

/// Of RFC 3339, `time`, `chrono`, Python and SQL.
const OFFSETS: [&str; 10] = [
    "",
    "Z",
    "z",
    "+00:00",
    "-00:00",
    "+0000",
    "+00",
    " UTC",
    " +00:00:00",
    " +00:00",
];

impl<'t> Time<'t> {
    /// Parses a string with its quotation marks, such as `"2026-01-22 12:00:00.5 +00:00:00"`.
    pub(super) fn parse(token: &'t str) -> Option<Self> {
        let text = token.strip_prefix('"')?.strip_suffix('"')?;
        let (date, rest) = text.split_at_checked("2026-01-22".len())?;
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let (clock, rest) = rest.split_at_checked("12:00:00".len())?;
        let has_form = |text: &str, separator| {
            let mut bytes = text.bytes();
            bytes.all(|byte| byte.is_ascii_digit() || byte == separator)
        };
        let (fraction, offset) = match rest.strip_prefix('.') {
            Some(rest) => {
                let end = rest.find(|c: char| !c.is_ascii_digit());
                rest.split_at_checked(end.unwrap_or(rest.len()))?
            }
            None => ("", rest),
        };
        let is_time = has_form(date, b'-') && has_form(clock, b':') && OFFSETS.contains(&offset);
        is_time.then_some(Self {
            date,
            clock,
            fraction,
        })
    }

    /// Writes it as a string with its quotation marks; `None` if it has more digits than that.
    pub(super) fn write(&self, Form(digits, offset): Form) -> Option<String> {
        let Self { date, clock, .. } = self;
        let fraction = self.fraction.trim_end_matches('0');
        let digits = digits.unwrap_or(fraction.len());
        if digits < fraction.len() {
            return None;
        }
        let point = if digits == 0 { "" } else { "." };
        Some(format!(
            "\"{date}T{clock}{point}{fraction:0<digits$}{offset}\""
        ))
    }
}
