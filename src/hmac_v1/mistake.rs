use zeroize::Zeroizing;

use crate::encoding;

/// A common way to mangle a secret between the console and the program.
pub(crate) struct Mistake {
    /// What was found and how to fix it.
    pub(crate) text: &'static str,
    is_in: fn(&str) -> bool,
    /// Returns the text without the mistake, if the secret is still in it.
    #[cfg_attr(
        not(feature = "diagnose"),
        expect(dead_code, reason = "a secret is never repaired, only explained")
    )]
    undo: fn(&str) -> Undone,
}

impl Mistake {
    /// Finds the first mistake in a secret's text.
    pub(crate) fn find(text: &str) -> Option<&'static Self> {
        MISTAKES.iter().find(|mistake| (mistake.is_in)(text))
    }

    /// Returns the text without the mistake, if the secret is still in it.
    #[cfg(feature = "diagnose")]
    pub(crate) fn undo(&self, text: &str) -> Undone {
        (self.undo)(text).filter(|undone| **undone != text)
    }
}

/// In the order in which they are looked for: what is around others comes first.
static MISTAKES: [Mistake; 16] = [
    Mistake {
        text: "it is empty",
        is_in: str::is_empty,
        undo: lost,
    },
    Mistake {
        text: "it begins with a byte order mark, which an editor wrote into the file: remove it",
        is_in: |text| text.starts_with(BYTE_ORDER_MARK),
        undo: |text| without(text, |c| c == BYTE_ORDER_MARK),
    },
    Mistake {
        text: "it has an invisible character (zero-width space or the like): copy it again as plain text",
        is_in: |text| text.contains(is_invisible),
        undo: |text| without(text, is_invisible),
    },
    Mistake {
        text: "it has white space or a line break at an end: trim it",
        is_in: |text| text.trim() != text,
        undo: |text| wiped(text.trim()),
    },
    Mistake {
        text: "it is a whole assignment (`NAME=whsec_...`): give what comes after the `=`",
        is_in: |text| assigned(text).is_some(),
        undo: |text| wiped(assigned(text)?),
    },
    Mistake {
        text: "it has quotation marks: remove them",
        is_in: |text| text.contains(['"', '\'', '`']),
        undo: |text| wiped(text.trim_matches(['"', '\'', '`'])),
    },
    Mistake {
        text: "it has typographic quotation marks: remove them",
        is_in: |text| text.contains(TYPOGRAPHIC_QUOTES),
        undo: |text| wiped(text.trim_matches(TYPOGRAPHIC_QUOTES)),
    },
    Mistake {
        text: "it is percent-encoded (`%2B` for `+`): decode it",
        is_in: |text| percent_decoded(text).is_some(),
        undo: percent_decoded,
    },
    Mistake {
        text: "it has a `|`: give several secrets one by one",
        is_in: |text| text.contains('|'),
        undo: lost,
    },
    Mistake {
        text: "it begins with `v1,`, which belongs to signatures: begin with `whsec_`",
        is_in: |text| text.starts_with("v1,"),
        undo: |text| wiped(text.strip_prefix("v1,")?),
    },
    Mistake {
        text: "it is the truncated form: the whole secret is shown only when it is created",
        is_in: |text| text.contains("...") || text.contains('\u{2026}'),
        undo: lost,
    },
    Mistake {
        text: "it is a public key: it belongs to a key set",
        is_in: |text| text.starts_with("whpk_"),
        undo: lost,
    },
    Mistake {
        text: "it is an API key (`AIza...`): the signing secret begins with `whsec_`",
        is_in: |text| text.starts_with("AIza") && text.len() == 39,
        undo: lost,
    },
    Mistake {
        text: "it is a job token (`gwj1_...`): the signing secret begins with `whsec_`",
        is_in: |text| text.starts_with("gwj1_"),
        undo: lost,
    },
    Mistake {
        text: "it has a comma: give several secrets one by one",
        is_in: |text| text.contains(','),
        undo: lost,
    },
    Mistake {
        text: "it has a `-` or `_`, as base64url has: base64 has `+` and `/` in their place",
        is_in: |text| from_base64url(text).is_some(),
        undo: from_base64url,
    },
];

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Double and single, high and low, and those that point.
const TYPOGRAPHIC_QUOTES: [char; 8] = [
    '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}', '\u{bb}',
];

type Undone = Option<Zeroizing<String>>;

fn lost(_: &str) -> Undone {
    None
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a row of the table returns an option"
)]
fn wiped(text: &str) -> Undone {
    Some(text.to_owned().into())
}

/// Zero-width spaces and joiners, and marks of direction, which come with what is copied from a page.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | BYTE_ORDER_MARK | '\u{ad}')
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a row of the table returns an option"
)]
fn without(text: &str, unwanted: impl Fn(char) -> bool) -> Undone {
    // Room for all, so that growing leaves no copy behind.
    let mut rest = Zeroizing::new(String::with_capacity(text.len()));
    rest.extend(text.chars().filter(|c| !unwanted(*c)));
    Some(rest)
}

/// Returns the value of a line of a shell or of an `.env` file.
fn assigned(text: &str) -> Option<&str> {
    let line = text.strip_prefix("export ").unwrap_or(text).trim_start();
    let (name, value) = line.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // A value of `=` alone is padding.
    (is_name && !value.trim_matches('=').is_empty()).then_some(value)
}

fn percent_decoded(text: &str) -> Undone {
    let decoded = encoding::percent_decode(text.as_bytes())?;
    String::from_utf8(decoded).ok().map(Zeroizing::new)
}

/// Returns the base64 of a text in base64url that has the length of a secret.
fn from_base64url(text: &str) -> Undone {
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let is_prefix = encoded
        .get(..6)
        .is_some_and(|it| it.eq_ignore_ascii_case("whsec_"));
    if is_prefix || !encoded.contains(['-', '_']) || !(32..=88).contains(&encoded.len()) {
        return None;
    }
    let mut base64 = Zeroizing::new(String::with_capacity(encoded.len()));
    base64.extend(encoded.chars().map(|c| match c {
        '-' => '+',
        '_' => '/',
        c => c,
    }));
    let mut buffer = Zeroizing::new([0; 66 + 2]);
    encoding::decode(base64.as_bytes(), buffer.as_mut_slice())?;
    Some(base64)
}
