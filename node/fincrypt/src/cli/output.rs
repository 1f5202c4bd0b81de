//! Exit codes and how results and errors are shown.

use std::io::Write;
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

/// How many of something there are: `1 file`, `2 files`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A name as a terminal may show it: control characters are escaped.
pub(super) fn printable(name: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    name.chars().map(escape).collect()
}

/// Prints lines, as many as the reader takes: one that has seen enough, as `head`, is no error.
pub(super) fn print_lines(lines: impl IntoIterator<Item = String>) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
    let _ = out.flush();
}

/// Prints a result as one JSON document.
pub(super) fn print_json<T: serde::Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print_lines([text]),
        Err(error) => complain("fincrypt", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(printable("a\u{1b}[2J\n"), "a\\u{1b}[2J\\n");
        assert_eq!([0, 1, 2].map(|count: u64| counted(count, "file")), ["0 files", "1 file", "2 files"]);
    }
}
