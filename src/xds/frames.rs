//! gRPC's length-prefixed messages over HTTP/2 bodies, in both directions.
//!
//! Never copies a large piece of a response, never holds a request's memory after it is decoded (a library's decoder
//! keeps its buffer, and a reconnecting Envoy sends megabytes: `xds.md` P74), and never compresses (Envoy fails the stream
//! on a compressed frame: `xds.md` §6.8).

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use tonic::Status;

use crate::snapshot::{Body, Pieces};

/// The size of the prefix: a compression flag and the length, big-endian.
const PREFIX: usize = 5;

/// Responses up to this many bytes are sent as one piece: a frame of its own costs more than the copy.
const COALESCE_BELOW: usize = 4096;

/// Larger pieces are handed on in slices of this size, so that a slow reader's progress can be seen.
const SLICE: usize = 256 * 1024;

/// The requests of a stream.
pub(super) struct RequestFrames<B> {
    body: B,
    pending: Payload,
    limit: usize,
}

impl<B> RequestFrames<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Reads from a body; messages above `limit` bytes end the stream.
    pub(super) fn new(body: B, limit: usize) -> Self {
        Self { body, pending: Payload::default(), limit }
    }

    /// The next message's bytes; nothing at the end of the stream. Safe to cancel.
    ///
    /// Fails with `RESOURCE_EXHAUSTED` for a message above the limit, `UNIMPLEMENTED` for a compressed one, `CANCELLED` when
    /// the transport breaks, and `INTERNAL` for a stream that ends inside a message.
    pub(super) async fn next(&mut self) -> Result<Option<Payload>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.push(data);
                    }
                }
                Some(Err(error)) => return Err(Status::cancelled(format!("the connection broke: {error}"))),
                None if self.pending.has_remaining() => {
                    return Err(Status::internal("the stream ended inside a message"));
                }
                None => return Ok(None),
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Payload>, Status> {
        if self.pending.remaining() < PREFIX {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX];
        self.pending.peek(&mut prefix);
        if prefix[0] != 0 {
            return Err(Status::unimplemented("compressed requests are not supported"));
        }
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if len > self.limit {
            let limit = self.limit;
            return Err(Status::resource_exhausted(format!("a request of {len} bytes; at most {limit} are accepted")));
        }
        if self.pending.remaining() < PREFIX + len {
            return Ok(None);
        }
        self.pending.advance(PREFIX);
        Ok(Some(self.pending.split(len)))
    }
}

/// Bytes in pieces, as they came.
#[derive(Default)]
pub(super) struct Payload {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Payload {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Copies the first bytes; there must be as many.
    fn peek(&self, out: &mut [u8]) {
        let bytes = self.pieces.iter().flat_map(|piece| piece.iter());
        out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    }

    /// Takes the first bytes away; there must be as many. What is left holds no memory of its own if it is empty.
    fn split(&mut self, len: usize) -> Payload {
        let mut head = Payload::default();
        while head.len < len {
            let mut piece = self.pieces.pop_front().expect("the caller asks for no more than there is");
            self.len -= piece.len();
            if head.len + piece.len() > len {
                let rest = piece.split_off(len - head.len);
                self.len += rest.len();
                self.pieces.push_front(rest);
            }
            head.push(piece);
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        head
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "Buf::advance: {count} of {} bytes", self.len);
        self.len -= count;
        while count > 0 {
            let front = self.pieces.front_mut().expect("there are as many bytes as asserted");
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}

/// A response on its way out: the stream's own fields, then the shared body piece by piece.
pub(super) struct ResponseFrames {
    head: Option<Bytes>,
    body: Pieces,
    /// What is left of the piece that is being handed on.
    piece: Bytes,
}

impl ResponseFrames {
    /// Frames a message made of `fields` and `body`.
    pub(super) fn new(fields: &[u8], body: &Body) -> Self {
        let len = fields.len() + body.len();
        let small = len <= COALESCE_BELOW;
        let mut head = BytesMut::with_capacity(PREFIX + if small { len } else { fields.len() });
        head.put_u8(0);
        head.put_u32(u32::try_from(len).expect("a response of 4 GiB has been encoded before it gets here"));
        head.put_slice(fields);
        let mut pieces = body.pieces();
        if small {
            pieces.by_ref().for_each(|piece| head.put_slice(&piece));
        }
        Self { head: Some(head.freeze()), body: pieces, piece: Bytes::new() }
    }
}

impl Iterator for ResponseFrames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        if self.piece.is_empty() {
            self.piece = self.body.next()?;
        }
        Some(self.piece.split_to(self.piece.len().min(SLICE)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::convert::Infallible;

    use futures::{FutureExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use prost::Message;
    use tonic::Code;

    use super::*;
    use crate::snapshot::{Resource, TypeUrl};

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    /// What is read from a body that comes in pieces of a size.
    fn read(bytes: &[u8], piece: usize, limit: usize) -> Vec<Result<Option<Vec<u8>>, Code>> {
        let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let body =
            StreamBody::new(stream::iter(pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)))));
        let mut frames = RequestFrames::new(body, limit);
        let mut read = Vec::new();
        loop {
            let message = frames.next().now_or_never().expect("the body never waits");
            let end = !matches!(message, Ok(Some(_)));
            read.push(
                message
                    .map(|message| message.map(|mut m| m.copy_to_bytes(m.remaining()).to_vec()))
                    .map_err(|s| s.code()),
            );
            if end {
                return read;
            }
        }
    }

    #[test]
    fn messages_are_found_wherever_the_pieces_are_cut() {
        let bytes = [framed(b"one"), framed(b""), framed(b"three three")].concat();
        for piece in 1..=bytes.len() {
            let read = read(&bytes, piece, 100);
            assert_eq!(
                read,
                [b"one".to_vec(), b"".to_vec(), b"three three".to_vec()]
                    .map(Some)
                    .map(Ok)
                    .into_iter()
                    .chain([Ok(None)])
                    .collect::<Vec<_>>(),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn a_message_in_pieces_decodes_like_one_in_one() {
        let status = crate::xds::wire::Status { code: 3, message: "in pieces".into() };
        let bytes = framed(&status.encode_to_vec());
        for piece in 1..=bytes.len() {
            let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
            let body = StreamBody::new(stream::iter(pieces.into_iter().map(|p| Ok::<_, Infallible>(Frame::data(p)))));
            let payload = RequestFrames::new(body, 100).next().now_or_never().unwrap().unwrap().unwrap();
            assert_eq!(crate::xds::wire::Status::decode(payload), Ok(status.clone()));
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused_before_it_is_read() {
        assert_eq!(read(&framed(&[7; 11])[..5], 5, 10), [Err(Code::ResourceExhausted)]);
        assert_eq!(read(&framed(&[7; 10]), 5, 10), [Ok(Some(vec![7; 10])), Ok(None)]);
    }

    #[test]
    fn a_compressed_message_and_half_a_message_end_the_stream() {
        let mut compressed = framed(b"x");
        compressed[0] = 1;
        assert_eq!(read(&compressed, 9, 10), [Err(Code::Unimplemented)]);
        assert_eq!(read(&framed(b"whole")[..7], 9, 10), [Err(Code::Internal)]);
    }

    #[test]
    fn nothing_is_held_between_requests() {
        let body = StreamBody::new(stream::iter([Ok::<_, Infallible>(Frame::data(framed(&[1; 100_000]).into()))]));
        let mut frames = RequestFrames::new(body, 1 << 20);
        drop(frames.next().now_or_never().unwrap().unwrap());
        assert_eq!((frames.pending.pieces.capacity(), frames.pending.len), (0, 0));
    }

    fn body(sizes: &[usize]) -> Body {
        use tailscale_gateway_proto::envoy::config::cluster::v3::Cluster;
        let resources: Vec<_> = sizes
            .iter()
            .map(|size| {
                let cluster = Cluster { name: "c".repeat(*size), ..Default::default() };
                Resource::new(TypeUrl::Cluster, "c", &cluster)
            })
            .collect();
        Body::sotw(&resources)
    }

    #[test]
    fn a_small_response_is_one_piece() {
        let pieces: Vec<_> = ResponseFrames::new(b"head", &body(&[100, 200])).collect();
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0][..5], [&[0][..], &u32::try_from(pieces[0].len() - 5).unwrap().to_be_bytes()].concat());
    }

    #[test]
    fn a_large_response_is_handed_on_in_slices_of_the_shared_body() {
        let body = body(&[3_000, 1_000_000, 10]);
        let pieces: Vec<_> = ResponseFrames::new(b"head", &body).collect();
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= SLICE));
        let whole = pieces.concat();
        let parts = body.pieces().collect::<Vec<_>>().concat();
        assert_eq!(
            whole[..9],
            [
                framed(b"")[..1].to_vec(),
                u32::try_from(4 + parts.len()).unwrap().to_be_bytes().to_vec(),
                b"head".to_vec()
            ]
            .concat()
        );
        assert_eq!(whole[9..], parts);
        let large = body.pieces().find(|piece| piece.len() > SLICE).unwrap();
        let large = large.as_ptr_range();
        assert!(pieces.iter().any(|piece| large.contains(&piece.as_ptr())), "large parts are not copied");
    }
}
