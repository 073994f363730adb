use std::fmt;

use crate::{boxed::BoxError, redacted};

/// The error of a handler: any error converts into it, and a text does too.
///
/// It is not an [`Error`](std::error::Error) itself, so that `?` turns any error into it. `Debug` and
/// `Display` show no passwords and queries of addresses; [`source`](Self::source) is the error as it
/// was returned.
pub struct HandlerError(BoxError);

impl HandlerError {
    /// Returns the error that the handler returned.
    #[must_use]
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0
    }

    /// Takes the error that the handler returned.
    #[must_use]
    pub fn into_source(self) -> BoxError {
        self.0
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(source: E) -> Self {
        Self(source.into())
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted::text(&self.0.to_string()))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted::text(&format!("{:?}", self.0)))
    }
}
