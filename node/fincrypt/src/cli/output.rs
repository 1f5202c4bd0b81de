//! Exit codes and how results and errors are shown.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Wrong usage.
    Usage,
    /// Done in part: what is missing was named.
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
        })
    }
}

/// Prints an error in one line.
pub(super) fn complain(program: &str, error: &dyn std::fmt::Display) {
    let text = error.to_string().replace('\n', " ");
    eprintln!("{program}: {text}");
}

/// Prints a result as one JSON document.
pub(super) fn print_json<T: serde::Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => println!("{text}"),
        Err(error) => complain("fincrypt", &error),
    }
}
