//! Limits the rate of repairs: each waits until the bytes before it had their time.

use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// A rate of bytes.
pub(crate) struct RateLimiter {
    rate: Option<NonZeroU64>,
    /// When what was taken so far is paid for.
    paid: Mutex<Instant>,
}

impl RateLimiter {
    /// `rate` bytes a second; 0 for no limit.
    pub(crate) fn new(rate: u64) -> Self {
        Self { rate: NonZeroU64::new(rate), paid: Mutex::new(Instant::now()) }
    }

    fn until(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let mut paid = self.paid.lock();
        let begin = (*paid).max(now);
        *paid = begin + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        Some(begin)
    }

    /// Waits until all that was taken before is paid for.
    pub(crate) async fn take(&self, bytes: u64) {
        if let Some(begin) = self.until(bytes, Instant::now()) {
            tokio::time::sleep_until(begin).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_is_paid_for_before_the_next() {
        let limiter = RateLimiter::new(1000);
        let now = Instant::now();
        let waits = [500, 2000, 1].map(|bytes| limiter.until(bytes, now).map(|until| until - now));
        let expected = [0, 500, 2500].map(|millis| Some(Duration::from_millis(millis)));
        // The limiter began a moment before.
        for (wait, expected) in waits.into_iter().zip(expected) {
            assert_eq!(wait, expected);
        }
        assert_eq!(RateLimiter::new(0).until(1 << 40, now), None);
    }
}
