//! TCP with Noise and Yamux, tuned for shards of a megabyte.
//!
//! Noise's framing reads 8 KiB at a time and Yamux flushes after every frame of 16 KiB. A buffer
//! beneath Noise and a flush that waits for its neighbours above it turn many small calls of the
//! system into few large ones. What crosses the wire is plain libp2p.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite, BufReader};
use futures::{FutureExt, TryFutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, noise, tcp, yamux};

/// Bytes read from a connection at once.
const READ_BUFFER: usize = 64 << 10;

/// TCP connections that are authenticated and carry many streams.
pub(super) fn transport(
    key: &Keypair,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Box<dyn std::error::Error + Send + Sync>> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    Ok(tcp
        .map(|stream, _| BufReader::with_capacity(READ_BUFFER, stream))
        .upgrade(Version::V1Lazy)
        .authenticate(Coalesced(noise::Config::new(key)?))
        .multiplex(yamux::Config::default())
        .boxed())
}

/// A security upgrade whose connections flush late.
#[derive(Clone)]
struct Coalesced<U>(U);

impl<U: UpgradeInfo> UpgradeInfo for Coalesced<U> {
    type Info = U::Info;
    type InfoIter = U::InfoIter;

    fn protocol_info(&self) -> U::InfoIter {
        self.0.protocol_info()
    }
}

impl<U, C, T> InboundConnectionUpgrade<C> for Coalesced<U>
where
    U: InboundConnectionUpgrade<C, Output = (PeerId, T), Future: Send + 'static>,
{
    type Output = (PeerId, LateFlush<T>);
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<Self::Output, U::Error>>;

    fn upgrade_inbound(self, socket: C, info: U::Info) -> Self::Future {
        self.0.upgrade_inbound(socket, info).map_ok(|(peer, io)| (peer, LateFlush::new(io))).boxed()
    }
}

impl<U, C, T> OutboundConnectionUpgrade<C> for Coalesced<U>
where
    U: OutboundConnectionUpgrade<C, Output = (PeerId, T), Future: Send + 'static>,
{
    type Output = (PeerId, LateFlush<T>);
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<Self::Output, U::Error>>;

    fn upgrade_outbound(self, socket: C, info: U::Info) -> Self::Future {
        self.0.upgrade_outbound(socket, info).map_ok(|(peer, io)| (peer, LateFlush::new(io))).boxed()
    }
}

/// A writer that flushes once its user has nothing more to write: a flush that follows a write is
/// put off until the user waits for something to read, or flushes again.
struct LateFlush<T> {
    io: T,
    /// Something was written since the last flush was asked for.
    written: bool,
    /// A flush was put off.
    owed: bool,
}

impl<T> LateFlush<T> {
    fn new(io: T) -> Self {
        Self { io, written: false, owed: false }
    }
}

impl<T: AsyncWrite + Unpin> LateFlush<T> {
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.owed &= flushed.is_pending();
        flushed
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for LateFlush<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.io).poll_read(cx, to);
        // Whoever waits for an answer has asked for it.
        if read.is_pending()
            && self.owed
            && let Poll::Ready(Err(error)) = self.flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LateFlush<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            self.owed = true;
            // Should the user neither read nor write next, it is asked to come back.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        self.flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::task::noop_waker;

    /// Counts flushes, and never has anything to read.
    #[derive(Default)]
    struct Counting {
        written: usize,
        flushes: usize,
    }

    impl AsyncRead for Counting {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn frames_share_a_flush_and_whoever_waits_has_flushed() {
        let (mut late, waker) = (LateFlush::new(Counting::default()), noop_waker());
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..5 {
            assert!(Pin::new(&mut late).poll_write(cx, b"frame").is_ready());
            assert!(Pin::new(&mut late).poll_flush(cx).is_ready());
        }
        assert_eq!((late.io.written, late.io.flushes), (25, 0));
        assert!(Pin::new(&mut late).poll_read(cx, &mut [0]).is_pending());
        assert_eq!(late.io.flushes, 1);
        assert!(Pin::new(&mut late).poll_read(cx, &mut [0]).is_pending());
        assert_eq!(late.io.flushes, 1, "nothing is owed any more");
        assert!(Pin::new(&mut late).poll_write(cx, b"last").is_ready());
        assert!(Pin::new(&mut late).poll_flush(cx).is_ready());
        assert!(Pin::new(&mut late).poll_flush(cx).is_ready());
        assert_eq!(late.io.flushes, 2);
    }
}
