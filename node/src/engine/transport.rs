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
/// put off to the next time the user is polled, which it asks for at once.
struct LateFlush<T> {
    io: T,
    written: bool,
}

impl<T> LateFlush<T> {
    fn new(io: T) -> Self {
        Self { io, written: false }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LateFlush<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LateFlush<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
