use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use futures::io::Cursor;

use super::*;
use fincrypt_protocol::SegmentId;
use fincrypt_protocol::mediate::{Done, GetQuote, GetShard, Hello, PutShard, Request};
use fincrypt_protocol::{Redundancy, Refusal, ShardIndex};

type Mediate = FrameCodec<Request>;

const SHARD: usize = fincrypt_protocol::limits::FULL_SHARD_LEN as usize;

/// As strict as a test has time for.
const BRISK: Pace = Pace {
    grace: Duration::from_millis(400),
    rate: 1 << 20,
    window: Duration::from_millis(100),
    least: 64 << 10,
};

fn codec(peer: PeerId, intake: &Intake) -> Mediate {
    FrameCodec { pace: BRISK, ..FrameCodec::new(intake.clone(), Partner::Peer(peer)) }
}

fn any_codec() -> Mediate {
    codec(PeerId::random(), &Intake::new(8 << 20))
}

fn protocol() -> StreamProtocol {
    StreamProtocol::new("/fincrypt/local/mediate/1")
}

fn frame_bytes<H: Header>(header: H, payload: &[u8]) -> Vec<u8> {
    let frame = Frame { header, payload: Bytes::copy_from_slice(payload) };
    let mut bytes = frame.prefix().expect("encodes");
    bytes.extend_from_slice(payload);
    bytes
}

const SEGMENT: SegmentId = SegmentId::from_bytes([2; 32]);

fn index() -> ShardIndex {
    ShardIndex::new(0).expect("valid")
}

/// What brings a shard, as payload.
fn shard() -> Response {
    Response::ok::<GetShard>(&Done {}).expect("encodes")
}

fn get() -> Request {
    GetShard { segment: SEGMENT, index: index() }.into()
}

/// A put of one full shard.
fn put() -> Vec<u8> {
    frame_bytes(Request::from(PutShard { segment: SEGMENT, index: index() }), &vec![7; SHARD])
}

fn asked(request: Request) -> Mediate {
    let mut codec = any_codec();
    let mut sent = Cursor::new(Vec::new());
    block_on(codec.write_request(&protocol(), &mut sent, Packet::from(Frame::bare(request)).into()))
        .expect("writes");
    codec
}

fn answered(codec: &mut Mediate, bytes: &[u8]) -> io::Result<Frame<Response>> {
    block_on(codec.read_response(&protocol(), &mut Cursor::new(bytes))).map(|packet| packet.frame)
}

/// Gives its first bytes at once and the others one by one, with a pause before each.
struct Trickle {
    bytes: Vec<u8>,
    at: usize,
    at_once: usize,
    pause: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Trickle {
    fn new(bytes: Vec<u8>, at_once: usize, pause: Duration) -> Self {
        Self { bytes, at: 0, at_once, pause, sleep: None }
    }
}

impl AsyncRead for Trickle {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut most = self.at_once.saturating_sub(self.at);
        if most == 0 {
            let pause = self.pause;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            most = 1;
        }
        let most = most.min(out.len()).min(self.bytes.len() - self.at);
        out[..most].copy_from_slice(&self.bytes[self.at..self.at + most]);
        self.at += most;
        Poll::Ready(Ok(most))
    }
}

fn on_tokio<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(test)
}

async fn read_request(codec: &mut Mediate, io: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<usize> {
    match codec.read_request(&protocol(), io).await? {
        Asked::Known(packet) => Ok(packet.frame.payload.len()),
        Asked::Unknown => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[test]
fn a_frame_crosses_a_stream() {
    let mut codec = any_codec();
    let mut out = Cursor::new(Vec::new());
    let frame = Frame { header: shard(), payload: Bytes::from_static(b"shard") };
    block_on(codec.write_response(&protocol(), &mut out, frame.clone().into())).expect("writes");
    let bytes = out.into_inner();
    assert_eq!(Frame::from_slice(&bytes).expect("parses"), frame);
    assert_eq!(answered(&mut asked(get()), &bytes).expect("reads"), frame);
    let mut request = Cursor::new(put());
    assert_eq!(block_on(read_request(&mut codec, &mut request)).expect("reads"), SHARD);
}

#[test]
fn a_payload_where_none_belongs_is_refused_before_it_is_read() {
    let mut bytes = frame_bytes(shard(), b"");
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    let result = answered(&mut asked(get()), &bytes).map_err(|error| error.kind());
    assert_eq!(result, Err(io::ErrorKind::InvalidData));
}

#[test]
fn a_payload_that_was_not_asked_for_is_refused_before_it_is_read() {
    let bytes = frame_bytes(shard(), &[7; 100]);
    assert!(answered(&mut asked(get()), &bytes).is_ok());
    let result = answered(&mut asked(Hello {}.into()), &bytes).map_err(|error| error.kind());
    assert_eq!(result, Err(io::ErrorKind::InvalidData));
}

#[test]
fn a_huge_header_is_refused_before_it_is_allocated() {
    for stated in [MAX_REQUEST_HEADER + 1, u32::MAX] {
        let mut bytes = Cursor::new(stated.to_le_bytes());
        let result = block_on(read_request(&mut any_codec(), &mut bytes)).map_err(|error| error.kind());
        assert_eq!(result, Err(io::ErrorKind::InvalidData), "{stated}");
    }
    let mut stated = Vec::from((MAX_HEADER + 1).to_le_bytes());
    stated.resize(MAX_HEADER as usize + 9, 0);
    let result = answered(&mut asked(get()), &stated).map_err(|error| error.kind());
    assert_eq!(result, Err(io::ErrorKind::InvalidData));
}

#[test]
fn a_trickled_request_is_cut_off_and_gives_its_room_back() {
    on_tokio(async {
        let (intake, peer) = (Intake::new(SHARD), PeerId::random());
        let started = Instant::now();
        let mut trickle = Trickle::new(put(), 4096, Duration::from_millis(2));
        let result = read_request(&mut codec(peer, &intake), &mut trickle).await;
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(started.elapsed() < Duration::from_secs(5));
        // The whole intake was taken, and is free again.
        let mut put = Cursor::new(put());
        assert_eq!(read_request(&mut codec(peer, &intake), &mut put).await.expect("reads"), SHARD);
    });
}

#[test]
fn a_trickled_header_and_a_trickled_answer_are_cut_off() {
    on_tokio(async {
        let mut header = Trickle::new(put(), 4, Duration::from_millis(20));
        let result = read_request(&mut any_codec(), &mut header).await.map_err(|error| error.kind());
        assert_eq!(result, Err(io::ErrorKind::TimedOut));

        let bytes = frame_bytes(shard(), &vec![7; SHARD]);
        let mut answer = Trickle::new(bytes, 4096, Duration::from_millis(2));
        let answer = asked(get()).read_response(&protocol(), &mut answer).await;
        assert_eq!(answer.map(|_| ()).map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    });
}

#[test]
fn a_peer_that_trickles_four_shards_holds_up_nobody_else() {
    on_tokio(async {
        let (intake, trickler) = (Intake::new(8 << 20), PeerId::random());
        let mut trickles: Vec<_> = (0..8)
            .map(|_| {
                let mut codec = FrameCodec { pace: Pace::PROTOCOL, ..codec(trickler, &intake) };
                let mut io = Trickle::new(put(), 4096, Duration::from_secs(1));
                Box::pin(async move { read_request(&mut codec, &mut io).await })
            })
            .collect();
        // Each gets as far as it can.
        for trickle in &mut trickles {
            assert!(futures::poll!(trickle).is_pending());
        }
        let honest = PeerId::random();
        for _ in 0..4 {
            let mut io = Cursor::new(put());
            let read = tokio::time::timeout(Duration::from_secs(5), async {
                read_request(&mut codec(honest, &intake), &mut io).await
            });
            assert_eq!(read.await.expect("at once").expect("reads"), SHARD);
        }
    });
}

#[test]
fn a_reader_that_does_not_read_its_answer_is_cut_off() {
    struct Stuck;
    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
    on_tokio(async {
        let refused = Frame::bare(Response::refused(Refusal::Busy).expect("encodes"));
        let result = any_codec().write_response(&protocol(), &mut Stuck, refused.into()).await;
        assert_eq!(result.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    });
}

/// A frame with this CBOR text-keyed header, built by hand as a later version would.
fn later(header: &[(&str, &[u8])]) -> Vec<u8> {
    let mut cbor = vec![0xa0 + header.len() as u8];
    for (key, value) in header {
        cbor.push(0x60 + key.len() as u8);
        cbor.extend_from_slice(key.as_bytes());
        cbor.extend_from_slice(value);
    }
    let mut bytes = (cbor.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&cbor);
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn read(bytes: &[u8]) -> io::Result<Asked<Request>> {
    block_on(any_codec().read_request(&protocol(), &mut Cursor::new(bytes)))
}

#[test]
fn a_request_of_a_later_version_is_told_apart_from_garbage() {
    // {"teleport": {}} is well-formed; a map that ends early is not.
    assert!(matches!(read(&later(&[("teleport", &[0xa0])])), Ok(Asked::Unknown)));
    let garbage = read(&later(&[("teleport", &[0xa1])])).map_err(|error| error.kind());
    assert!(matches!(garbage, Err(io::ErrorKind::InvalidData)), "{garbage:?}");
}

#[test]
fn a_field_of_a_later_version_is_ignored() {
    let known = cbor::encode(&Redundancy::MIN).expect("encodes");
    let mut quote = vec![0xa2];
    for (key, value) in [("redundancy", known.as_slice()), ("colour", &[0x63, b'r', b'e', b'd'])] {
        quote.push(0x60 + key.len() as u8);
        quote.extend_from_slice(key.as_bytes());
        quote.extend_from_slice(value);
    }
    let Ok(Asked::Known(packet)) = read(&later(&[("get_quote", &quote)])) else { panic!("not read") };
    let expected = Request::from(GetQuote { redundancy: Redundancy::MIN, max_price: None });
    assert_eq!(packet.frame.header, expected);
}
