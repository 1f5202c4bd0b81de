//! The speed below which a transfer is cut off.
//!
//! A transfer of `length` bytes may take 30 s + `length` / 64 KiB/s, and in every 10 s of it 64 KiB
//! must move, or what is left; while others wait for the memory it takes, 64 KiB in each second.
//! The clock is only looked at while the other side has nothing ready,
//! and a timer is only made then, so a fast transfer pays nothing.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep_until};

/// The least speed of one transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// What any transfer may take, however short.
    pub(super) grace: Duration,
    /// Bytes per second beyond that.
    pub(super) rate: u32,
    /// How often progress is looked at.
    pub(super) window: Duration,
    /// Bytes that must move in each window.
    pub(super) least: usize,
}

impl Pace {
    /// What the protocol grants. A line of 1 Mbit/s that carries eight shards at once passes.
    pub(super) const PROTOCOL: Self = Self {
        grace: Duration::from_secs(30),
        rate: 64 << 10,
        window: Duration::from_secs(10),
        least: 64 << 10,
    };

    fn deadline(&self, length: usize) -> Duration {
        self.grace + Duration::from_secs_f64(length as f64 / f64::from(self.rate))
    }
}

/// How one transfer does, free of I/O: time comes in.
#[derive(Debug)]
struct Watch {
    pace: Pace,
    length: usize,
    /// What had moved when it was last looked at.
    before: usize,
    /// When to look next, from the start.
    next: Duration,
}

impl Watch {
    fn new(pace: Pace, length: usize) -> Self {
        Self { pace, length, before: 0, next: pace.window.min(pace.deadline(length)) }
    }

    /// Looks at the transfer when `next` has come; whether it may go on.
    fn may_go_on(&mut self, moved: usize, elapsed: Duration, short: bool) -> bool {
        let Pace { rate, window, least, .. } = self.pace;
        let deadline = self.pace.deadline(self.length);
        let least = if short { (f64::from(rate) * window.as_secs_f64()) as usize } else { least };
        let least = least.min(self.length - self.before);
        if elapsed >= deadline || moved - self.before < least {
            return false;
        }
        self.before = moved;
        self.next = (elapsed + self.pace.window).min(deadline);
        true
    }
}

/// Calls `step` with what has moved until `length` bytes have, or until it is too slow.
async fn transfer(
    pace: Pace,
    length: usize,
    short: impl Fn() -> bool,
    mut step: impl FnMut(usize, &mut Context<'_>) -> Poll<io::Result<usize>>,
) -> io::Result<()> {
    let started = Instant::now();
    let mut watch = Watch::new(pace, length);
    let mut moved = 0;
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        loop {
            if moved == length {
                return Poll::Ready(Ok(()));
            }
            match step(moved, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(bytes)) => {
                    moved += bytes;
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until((started + watch.next).into())));
            ready!(alarm.as_mut().poll(cx));
            if !watch.may_go_on(moved, started.elapsed(), short()) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            alarm.as_mut().reset((started + watch.next).into());
        }
    })
    .await
}

/// Fills `buffer` from the stream. `short` tells whether others wait.
pub(super) async fn fill(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    pace: Pace,
    short: impl Fn() -> bool,
) -> io::Result<()> {
    let length = buffer.len();
    transfer(pace, length, short, |moved, cx| Pin::new(&mut *io).poll_read(cx, &mut buffer[moved..])).await
}

/// Writes all of `bytes` to the stream.
pub(super) async fn drain(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8], pace: Pace) -> io::Result<()> {
    transfer(pace, bytes.len(), || false, |moved, cx| Pin::new(&mut *io).poll_write(cx, &bytes[moved..]))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SHARD: usize = 1 << 20;

    /// How long a transfer of one shard at `rate` bytes a second goes on, and whether it ends well.
    fn goes_on(rate: usize) -> (Duration, bool) {
        let mut watch = Watch::new(Pace::PROTOCOL, SHARD);
        loop {
            let moved = rate * watch.next.as_secs() as usize;
            let at = watch.next;
            if moved >= SHARD {
                return (at, true);
            }
            if !watch.may_go_on(moved, at, false) {
                return (at, false);
            }
        }
    }

    #[test]
    fn a_trickler_is_cut_off_at_the_first_look() {
        assert_eq!(goes_on(1), (10 * SECOND, false));
        assert_eq!(goes_on(6000), (10 * SECOND, false));
    }

    #[test]
    fn a_slow_line_passes_and_a_slower_one_ends_at_the_deadline() {
        assert!(goes_on(24 << 10).1);
        assert_eq!(goes_on(20 << 10), (46 * SECOND, false));
    }

    #[test]
    fn a_slow_transfer_is_cut_off_while_others_wait() {
        let (moved, at) = (300 << 10, 10 * SECOND);
        assert!(Watch::new(Pace::PROTOCOL, SHARD).may_go_on(moved, at, false));
        assert!(!Watch::new(Pace::PROTOCOL, SHARD).may_go_on(moved, at, true));
        assert!(Watch::new(Pace::PROTOCOL, SHARD).may_go_on(640 << 10, at, true));
    }

    #[test]
    fn a_transfer_that_stalls_half_way_is_cut_off() {
        let mut watch = Watch::new(Pace::PROTOCOL, SHARD);
        assert!(watch.may_go_on(SHARD / 2, 10 * SECOND, false));
        assert!(!watch.may_go_on(SHARD / 2 + 100, 20 * SECOND, false));
    }

    #[test]
    fn the_last_bytes_may_be_fewer_than_a_window_asks_for() {
        let mut watch = Watch::new(Pace::PROTOCOL, 100);
        assert!(watch.may_go_on(100, 10 * SECOND, true));
        assert!(!Watch::new(Pace::PROTOCOL, 100).may_go_on(99, 10 * SECOND, false));
    }
}
