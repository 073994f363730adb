//! Lines for the standard output and the standard error. Whoever reads them may go away, as
//! `| head -1` does: that is no reason to stop, and `println!` would panic.

use std::{fmt::Display, io::Write as _};

/// Prints a line on the standard output.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line on the standard error.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
