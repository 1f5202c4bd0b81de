//! The one codec of all request protocols: frames over a stream, bounded before allocation, cut off
//! when they trickle.

use parking_lot::Mutex;
use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::request_response::Codec;
use libp2p::{PeerId, StreamProtocol};

use super::buffers::{Buffer, PayloadBuffers};
use super::intake::Intake;
use super::pace::{Pace, drain, fill};
use fincrypt_protocol::frame::{Frame, FrameError, Header, header_len, payload_len};
use fincrypt_protocol::limits::{MAX_HEADER, MAX_REQUEST_HEADER};
use fincrypt_protocol::{Response, cbor};

/// A request as it arrives.
#[derive(Debug)]
pub enum Asked<Req> {
    /// One of this version.
    Known(Packet<Req>),
    /// A well-formed one of a version that this node does not know.
    Unknown,
}

impl<Req> From<Packet<Req>> for Asked<Req> {
    fn from(packet: Packet<Req>) -> Self {
        Self::Known(packet)
    }
}

/// A frame on its way.
#[derive(Debug)]
pub struct Packet<H> {
    /// The message.
    pub frame: Frame<H>,
    /// Kept until the packet is dropped: its share of the intake, or whatever its sender holds.
    hold: Option<Hold>,
}

/// Something that is only kept, to be dropped at the right time.
pub type Hold = Box<dyn Any + Send>;

impl<H> From<Frame<H>> for Packet<H> {
    fn from(frame: Frame<H>) -> Self {
        Self { frame, hold: None }
    }
}

impl<H> Packet<H> {
    /// A frame to send, and what is to be kept until it was sent.
    #[must_use]
    pub fn holding(frame: Frame<H>, hold: impl Any + Send) -> Self {
        Self { frame, hold: Some(Box::new(hold)) }
    }

    /// Splits the frame from its share of the intake; whoever keeps the payload keeps the share.
    #[must_use]
    pub fn into_parts(self) -> (Frame<H>, Option<Hold>) {
        (self.frame, self.hold)
    }
}

/// Who a codec speaks with. libp2p clones one codec for every connection, and that clone for every
/// request, without saying for whom; [`super::Requests`] writes the peer here just before.
#[derive(Debug)]
pub(super) enum Partner {
    /// Of the codec that is cloned for connections.
    Next(Arc<Mutex<PeerId>>),
    /// Of a connection.
    Peer(PeerId),
}

impl Partner {
    fn peer(&self) -> PeerId {
        match self {
            Self::Next(next) => *next.lock(),
            Self::Peer(peer) => *peer,
        }
    }
}

/// Reads and writes the frames of one protocol.
#[derive(Debug)]
pub struct FrameCodec<Req> {
    intake: Intake,
    partner: Partner,
    pace: Pace,
    buffers: PayloadBuffers,
    /// The most payload bytes that the answer to what was asked may bring.
    answer_limit: u32,
    kind: PhantomData<fn() -> Req>,
}

impl<Req> Clone for FrameCodec<Req> {
    fn clone(&self) -> Self {
        let partner = Partner::Peer(self.partner.peer());
        let (intake, buffers) = (self.intake.clone(), self.buffers.clone());
        Self { intake, partner, pace: self.pace, buffers, answer_limit: 0, kind: PhantomData }
    }
}

impl<Req> FrameCodec<Req> {
    /// A codec whose inbound requests share `intake`.
    pub(super) fn new(intake: Intake, partner: Partner) -> Self {
        let (pace, buffers) = (Pace::PROTOCOL, PayloadBuffers::default());
        Self { intake, partner, pace, buffers, answer_limit: 0, kind: PhantomData }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The length of the header that comes. However long it takes: the libp2p timeout bounds it, and
/// nothing is allocated for it.
async fn stated_header(io: &mut (impl AsyncRead + Unpin), limit: u32) -> io::Result<usize> {
    let mut stated = [0; 4];
    io.read_exact(&mut stated).await?;
    match header_len(stated).map_err(invalid)? {
        len if len <= limit as usize => Ok(len),
        _ => Err(invalid(FrameError::Header(u32::from_le_bytes(stated)))),
    }
}

/// The header's bytes, and the stated length of the payload that follows.
async fn header(
    io: &mut (impl AsyncRead + Unpin),
    len: usize,
    pace: Pace,
    short: impl Fn() -> bool,
) -> io::Result<(Vec<u8>, [u8; 4])> {
    let mut bytes = vec![0; len + 4];
    fill(io, &mut bytes, pace, short).await?;
    let stated = *bytes.last_chunk::<4>().ok_or(io::ErrorKind::InvalidData)?;
    bytes.truncate(len);
    Ok((bytes, stated))
}

/// A decoded header, and the length of the payload that may follow it.
fn decoded<H: Header>(bytes: &[u8], stated: [u8; 4]) -> io::Result<(H, usize)> {
    let header = H::from_cbor(bytes).map_err(|e| invalid(e.into()))?;
    let len = payload_len(&header, stated).map_err(invalid)?;
    Ok((header, len))
}

async fn payload(
    io: &mut (impl AsyncRead + Unpin),
    mut buffer: Buffer,
    pace: Pace,
    short: impl Fn() -> bool,
) -> io::Result<Bytes> {
    fill(io, buffer.as_mut(), pace, short).await?;
    Ok(buffer.freeze())
}

impl<Req: Header> FrameCodec<Req> {
    async fn request(&self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked<Req>> {
        let peer = self.partner.peer();
        let len = stated_header(io, MAX_REQUEST_HEADER).await?;
        let room = self.intake.header(peer, len).await;
        let (header, stated) = header(io, len, self.pace, || self.intake.is_short()).await?;
        // A later version's request is refused, not taken for an attack; its payload stays unread.
        let (header, len) = match decoded(&header, stated) {
            Err(_) if cbor::is_well_formed(&header, MAX_REQUEST_HEADER as usize) => {
                return Ok(Asked::Unknown);
            }
            decoded => decoded?,
        };
        // Given back before more is asked for: nobody waits with something in hand.
        drop(room);
        if len == 0 {
            return Ok(Asked::Known(Frame::bare(header).into()));
        }
        let mut permit = self.intake.payload(peer, len).await;
        let buffer = self.buffers.take(len);
        let payload = payload(io, buffer, self.pace, || self.intake.is_short()).await?;
        permit.arrived();
        Ok(Asked::Known(Packet::holding(Frame { header, payload }, permit)))
    }

    async fn response(&self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet<Response>> {
        let len = stated_header(io, MAX_HEADER).await?;
        let (header, stated) = header(io, len, self.pace, || false).await?;
        let (header, len) = decoded(&header, stated)?;
        if len > self.answer_limit as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a payload that was not asked for"));
        }
        let payload = payload(io, self.buffers.take(len), self.pace, || false).await?;
        Ok(Frame { header, payload }.into())
    }
}

impl<Req: Header> Codec for FrameCodec<Req> {
    type Protocol = StreamProtocol;
    type Request = Asked<Req>;
    type Response = Packet<Response>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Asked<Req>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.request(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Packet<Response>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.response(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, asked: Asked<Req>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let Asked::Known(packet) = asked else { return Err(io::ErrorKind::Unsupported.into()) };
        // The same codec reads the answer.
        self.answer_limit = packet.frame.header.answer_limit();
        let prefix = packet.frame.prefix().map_err(invalid)?;
        // At the reader's speed: it may have others to read first.
        io.write_all(&prefix).await?;
        io.write_all(&packet.frame.payload).await?;
        io.close().await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        packet: Packet<Response>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let prefix = packet.frame.prefix().map_err(invalid)?;
        drain(io, &prefix, self.pace).await?;
        drain(io, &packet.frame.payload, self.pace).await?;
        io.close().await
    }
}

#[cfg(test)]
mod tests;
