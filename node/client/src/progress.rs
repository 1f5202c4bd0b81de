//! Progress for a person: a moving line on a terminal, a plain line now and then elsewhere.

use parking_lot::Mutex;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fincrypt_protocol::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

/// Between plain lines.
const LINE: Duration = Duration::from_secs(5);

/// What has been done so far; clones share it.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

struct Inner {
    verb: &'static str,
    bar: Option<ProgressBar>,
    lines: bool,
    files: AtomicU64,
    bytes: AtomicU64,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// Shows what `verb` says, or nothing if not `shown`.
    #[must_use]
    pub fn new(verb: &'static str, shown: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (shown && terminal).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self(Arc::new(Inner {
            verb,
            bar,
            lines: shown && !terminal,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_line: Mutex::new(Instant::now()),
        }))
    }

    /// One file more, of so many bytes.
    pub fn file(&self, bytes: u64) {
        let inner = &self.0;
        let files = inner.files.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = inner.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let text = || format!("{} {files} files, {}", inner.verb, ByteSize(bytes));
        if let Some(bar) = &inner.bar {
            if files.is_multiple_of(64) {
                bar.set_message(text());
            }
        } else if inner.lines {
            let mut last = inner.last_line.lock();
            if last.elapsed() >= LINE {
                *last = Instant::now();
                eprintln!("{}", text());
            }
        }
    }

    /// Clears the moving line.
    pub fn done(&self) {
        if let Some(bar) = &self.0.bar {
            bar.finish_and_clear();
        }
    }
}
