//! What happened and what it cost, as a table and as JSON.

use std::fmt;

use serde::Serialize;

/// One step, timed from outside.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub name: &'static str,
    pub seconds: f64,
    /// Source bytes that went through; none where that means nothing.
    pub bytes: Option<u64>,
}

/// The whole run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub files: u64,
    pub bytes_in: u64,
    /// Bytes of blobs that the vault did not have yet.
    pub bytes_new: u64,
    pub bytes_uploaded: u64,
    pub bytes_stored: u64,
    pub segments: u64,
    /// What a second backup of the unchanged folder sent.
    pub second_uploaded: u64,
    pub steps: Vec<Step>,
    /// Entries that the backup could not read or does not keep, with the reason.
    pub skipped: Vec<String>,
    /// Differences after the restores; empty is the aim.
    pub differences: Vec<String>,
    pub equal: bool,
}

/// Bytes for people: three digits and a decimal unit.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |bytes: u64| format!("{:.2} of bytes in", bytes as f64 / self.bytes_in.max(1) as f64);
        let mut row = |name: &str, value: String, note: String| {
            let line = format!("  {name:<24} {value:>12}   {note}");
            writeln!(f, "{}", line.trim_end())
        };
        row("files", self.files.to_string(), String::new())?;
        row("bytes in", human(self.bytes_in), String::new())?;
        row("after deduplication", human(self.bytes_new), share(self.bytes_new))?;
        row("uploaded", human(self.bytes_uploaded), share(self.bytes_uploaded))?;
        row("stored", human(self.bytes_stored), share(self.bytes_stored))?;
        row("second backup uploaded", human(self.second_uploaded), String::new())?;
        writeln!(f)?;
        for step in &self.steps {
            let speed =
                step.bytes.map(|bytes| format!("{:.1} MB/s", bytes as f64 / 1e6 / step.seconds.max(0.001)));
            let line =
                format!("  {:<24} {:>10.1} s   {}", step.name, step.seconds, speed.unwrap_or_default());
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        for skipped in self.skipped.iter().take(10) {
            writeln!(f, "  skipped  {skipped}")?;
        }
        if self.skipped.len() > 10 {
            writeln!(f, "  skipped  … {} in all", self.skipped.len())?;
        }
        for difference in &self.differences {
            writeln!(f, "  differs  {difference}")?;
        }
        let result = match (self.equal, self.skipped.is_empty()) {
            (true, true) => "EQUAL: every byte, mode, symlink and time came back, twice",
            (true, false) => "EQUAL, but for what was skipped: all else came back, twice",
            (false, _) => "NOT EQUAL: what came back differs",
        };
        writeln!(f, "  result   {result}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        let shown = [0, 999, 1000, 12_345, 999_499, 999_501, 64_000_000, 1_500_000_000].map(human);
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "999 kB", "1.00 MB", "64.0 MB", "1.50 GB"]);
    }
}
