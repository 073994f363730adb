/// A common way to mangle a secret between the console and the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    Empty,
    WhiteSpace,
    QuotationMarks,
    SignaturePrefix,
    Truncated,
    PublicKey,
    Several,
}

impl Mistake {
    /// Finds the first mistake in a secret's text.
    pub(crate) fn find(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(Self::Empty)
        } else if text.trim() != text {
            Some(Self::WhiteSpace)
        } else if text.contains(['"', '\'', '`']) {
            Some(Self::QuotationMarks)
        } else if text.starts_with("v1,") {
            Some(Self::SignaturePrefix)
        } else if text.contains("...") || text.contains('\u{2026}') {
            Some(Self::Truncated)
        } else if text.starts_with("whpk_") {
            Some(Self::PublicKey)
        } else if text.contains(',') {
            Some(Self::Several)
        } else {
            None
        }
    }

    /// Returns what was found and how to fix it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "it is empty",
            Self::WhiteSpace => "it has white space or a line break at an end: trim it",
            Self::QuotationMarks => "it has quotation marks: remove them",
            Self::SignaturePrefix => {
                "it begins with `v1,`, which belongs to signatures: begin with `whsec_`"
            }
            Self::Truncated => {
                "it is the truncated form: the whole secret is shown only when it is created"
            }
            Self::PublicKey => "it is a public key: it belongs to a key set",
            Self::Several => "it has a comma: give several secrets one by one",
        }
    }

    /// Returns the text without the mistake, if the secret is still in it.
    #[cfg(feature = "diagnose")]
    pub(crate) fn undo(self, text: &str) -> Option<&str> {
        let undone = match self {
            Self::WhiteSpace => text.trim(),
            Self::QuotationMarks => text.trim_matches(['"', '\'', '`']),
            Self::SignaturePrefix => text.strip_prefix("v1,")?,
            Self::Empty | Self::Truncated | Self::PublicKey | Self::Several => return None,
        };
        (undone != text).then_some(undone)
    }
}
