//! The one codec of all request protocols: frames over a stream, bounded before allocation.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cbor;
use crate::frame::{Frame, FrameError, Header, header_len, payload_len};
use crate::limits::MAX_HEADER;

/// How many bytes of inbound payload may be in memory at once. A reader waits for its share before
/// it allocates, so a flood of requests becomes back-pressure on their streams.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Semaphore>);

/// Bytes that one permit of an intake stands for.
const INTAKE_UNIT: usize = 4 << 10;

impl Intake {
    /// Room for `bytes` of payload.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(INTAKE_UNIT))))
    }

    async fn admit(&self, bytes: usize) -> io::Result<Option<OwnedSemaphorePermit>> {
        if bytes == 0 {
            return Ok(None);
        }
        let units = u32::try_from(bytes.div_ceil(INTAKE_UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0).acquire_many_owned(units).await;
        permit.map(Some).map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }
}

/// A frame on its way, holding its share of the intake until it is dropped.
#[derive(Debug)]
pub struct Packet<H> {
    /// The message.
    pub frame: Frame<H>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<H> From<Frame<H>> for Packet<H> {
    fn from(frame: Frame<H>) -> Self {
        Self { frame, permit: None }
    }
}

impl<H> Packet<H> {
    /// Splits the frame from its share of the intake; whoever keeps the payload keeps the share.
    #[must_use]
    pub fn into_parts(self) -> (Frame<H>, Option<OwnedSemaphorePermit>) {
        (self.frame, self.permit)
    }
}

/// Reads and writes the frames of one protocol.
#[derive(Debug)]
pub struct FrameCodec<Req, Res> {
    intake: Intake,
    kind: PhantomData<fn() -> (Req, Res)>,
}

impl<Req, Res> Clone for FrameCodec<Req, Res> {
    fn clone(&self) -> Self {
        Self { intake: self.intake.clone(), kind: PhantomData }
    }
}

impl<Req, Res> FrameCodec<Req, Res> {
    /// A codec whose inbound requests share `intake`.
    #[must_use]
    pub fn new(intake: Intake) -> Self {
        Self { intake, kind: PhantomData }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn read<H: Header>(
    io: &mut (impl AsyncRead + Unpin + Send),
    intake: Option<&Intake>,
) -> io::Result<Packet<H>> {
    let mut stated = [0; 4];
    io.read_exact(&mut stated).await?;
    let mut header = vec![0; header_len(stated).map_err(invalid)?];
    io.read_exact(&mut header).await?;
    let header: H = cbor::decode(&header, MAX_HEADER as usize).map_err(|e| invalid(e.into()))?;
    io.read_exact(&mut stated).await?;
    let len = payload_len(&header, stated).map_err(invalid)?;
    let permit = match intake {
        Some(intake) => intake.admit(len).await?,
        None => None,
    };
    let mut payload = vec![0; len];
    io.read_exact(&mut payload).await?;
    Ok(Packet { frame: Frame { header, payload: Bytes::from(payload) }, permit })
}

async fn write<H: Header>(io: &mut (impl AsyncWrite + Unpin + Send), packet: Packet<H>) -> io::Result<()> {
    let prefix = packet.frame.prefix().map_err(invalid)?;
    io.write_all(&prefix).await?;
    io.write_all(&packet.frame.payload).await?;
    io.close().await
}

impl<Req: Header, Res: Header> Codec for FrameCodec<Req, Res> {
    type Protocol = StreamProtocol;
    type Request = Packet<Req>;
    type Response = Packet<Res>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Packet<Req>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, Some(&self.intake)).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Packet<Res>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, None).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        packet: Packet<Req>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, packet).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        packet: Packet<Res>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, packet).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Request, Response};
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn written(response: Response, payload: &'static [u8]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let frame = Frame { header: response, payload: Bytes::from_static(payload) };
        block_on(write(&mut out, frame.into())).expect("writes");
        out.into_inner()
    }

    #[test]
    fn a_frame_crosses_a_stream() {
        let bytes = written(Response::Shard, b"shard");
        let packet: Packet<Response> = block_on(read(&mut Cursor::new(&bytes), None)).expect("reads");
        assert_eq!(packet.frame, Frame::from_slice(&bytes).expect("parses"));
        assert_eq!(&packet.frame.payload[..], b"shard");
    }

    #[test]
    fn a_payload_where_none_belongs_is_refused_before_it_is_read() {
        let mut out = Cursor::new(Vec::new());
        let frame = Frame { header: Response::Done, payload: Bytes::from_static(b"x") };
        assert!(block_on(write(&mut out, frame.into())).is_err());
        let mut bytes = written(Response::Done, b"");
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        let result: io::Result<Packet<Response>> = block_on(read(&mut Cursor::new(&bytes), None));
        assert_eq!(result.map(|_| ()).map_err(|e| e.kind()), Err(io::ErrorKind::InvalidData));
    }

    #[test]
    fn a_huge_header_is_refused_before_it_is_allocated() {
        let bytes = u32::MAX.to_le_bytes();
        let result: io::Result<Packet<Request>> = block_on(read(&mut Cursor::new(&bytes), None));
        assert_eq!(result.map(|_| ()).map_err(|e| e.kind()), Err(io::ErrorKind::InvalidData));
    }
}
