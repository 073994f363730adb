//! `--help` of the programs that take no arguments.

use std::process::ExitCode;

use crate::out::{note, say};

/// Answers `--help` with the header of a program's source, and refuses any other argument. `None` if
/// there is none.
pub(crate) fn usage(source: &str) -> Option<ExitCode> {
    let argument = std::env::args_os().nth(1)?;
    if argument == "--help" || argument == "-h" {
        let header = source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line));
        say(header.collect::<Vec<_>>().join("\n"));
        return Some(ExitCode::SUCCESS);
    }
    // It is not repeated: it may be a secret.
    note("no argument is expected but --help");
    Some(ExitCode::from(2))
}
