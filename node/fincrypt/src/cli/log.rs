//! Logs.

use tracing_subscriber::EnvFilter;

/// Logs to standard error: warnings, or what `RUST_LOG` or `-v` says.
pub(super) fn to_standard_error(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second call in one process keeps the first subscriber.
    let _ = subscriber.try_init();
}
