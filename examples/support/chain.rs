//! Errors as loggers print them.

use std::{error::Error, iter::successors};

/// The error and the chain of its sources, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let errors = successors(Some(error), |&error| error.source());
    errors
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
