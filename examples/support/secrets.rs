//! Signing secrets from the environment.
//!
//! - `GEMINI_WEBHOOK_SECRETS` has several, separated by commas or white space. If it is not set,
//!   `GEMINI_WEBHOOK_SECRET` is read in its place.
//! - `GEMINI_WEBHOOK_SECRETS_FILE` names a file with one a line. What follows a `#` is a comment.

use std::{env, fs};

/// A secret's text, and its place for errors.
pub(crate) type Found = (String, String);

/// Returns the secrets of the variable and of the file; none if neither is set.
///
/// # Errors
///
/// The fault, without the secrets.
pub(crate) fn from_env() -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for name in ["GEMINI_WEBHOOK_SECRETS", "GEMINI_WEBHOOK_SECRET"] {
        if found.is_empty() {
            let value = variable(name)?;
            let parts = parts(&value).enumerate();
            found.extend(parts.map(|(index, text)| place(name, "part", index, text)));
        }
    }
    let name = "GEMINI_WEBHOOK_SECRETS_FILE";
    let path = variable(name)?;
    if !path.is_empty() {
        let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {path}: {error}"))?;
        let text = text.trim_start_matches('\u{feff}');
        let before = found.len();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            found.extend(parts(line).map(|text| place(&path, "line", index, text)));
        }
        if found.len() == before {
            return Err(format!("{name}: {path} has no secret"));
        }
    }
    Ok(found)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(|c: char| c == ',' || c.is_whitespace());
    parts.filter(|part| !part.is_empty())
}

fn place(source: &str, unit: &str, index: usize, text: &str) -> Found {
    (format!("{source}, {unit} {}", index + 1), text.to_owned())
}

/// A variable of the environment, empty if it is not set.
fn variable(name: &str) -> Result<String, String> {
    match env::var(name) {
        Ok(value) => Ok(value),
        Err(env::VarError::NotPresent) => Ok(String::new()),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}
