//! gRPC's length-prefixed messages over HTTP/2 bodies, in both directions.
//!
//! Never copies a large piece of a response, never holds a request's memory after it is decoded (a library's decoder
//! keeps its buffer, and a reconnecting Envoy sends megabytes: `xds.md` P74), and never compresses (Envoy fails the stream
//! on a compressed frame: `xds.md` §6.8).

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

/// How much room a message gets before more of it is there, however long it says that it is.
const ROOM: usize = 64 * 1024;

/// The requests of a stream.
pub(super) struct RequestFrames<B> {
    body: B,
    /// What has come and was not looked at yet.
    piece: Bytes,
    /// The beginning of a message that has not come whole, with its prefix. It is a copy: pieces are parts of the connection's
    /// read buffer, which is used again when nothing holds it.
    partial: Vec<u8>,
    limit: usize,
}

impl<B> RequestFrames<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Reads from a body; messages above `limit` bytes end the stream.
    pub(super) fn new(body: B, limit: usize) -> Self {
        Self { body, piece: Bytes::new(), partial: Vec::new(), limit }
    }

    /// The next message's bytes; nothing at the end of the stream. Safe to cancel.
    ///
    /// Fails with `RESOURCE_EXHAUSTED` for a message above the limit, `UNIMPLEMENTED` for a compressed one, `CANCELLED` when
    /// the transport breaks, and `INTERNAL` for a stream that ends inside a message.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(Status::cancelled(format!("the connection broke: {error}"))),
                None if !self.partial.is_empty() => {
                    return Err(Status::internal("the stream ended inside a message"));
                }
                None => return Ok(None),
            }
        }
    }

    /// A message that is whole. Otherwise nothing is left of the piece.
    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty()
            && let Some(prefix) = self.piece.first_chunk()
        {
            let len = length(*prefix, self.limit)?;
            if self.piece.len() >= PREFIX + len {
                self.piece.advance(PREFIX);
                let message = self.piece.split_to(len);
                if self.piece.is_empty() {
                    self.piece = Bytes::new();
                }
                return Ok(Some(message));
            }
        }
        self.keep(PREFIX);
        let Some(prefix) = self.partial.first_chunk() else { return Ok(None) };
        let whole = PREFIX + length(*prefix, self.limit)?;
        self.keep(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut message = Bytes::from(std::mem::take(&mut self.partial));
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Moves as much of the piece as a beginning of `whole` bytes lacks. Room grows with what is there, so that nobody can have
    /// it by saying a number.
    fn keep(&mut self, whole: usize) {
        let lacks = whole.saturating_sub(self.partial.len()).min(self.piece.len());
        let needed = self.partial.len() + lacks;
        if needed > self.partial.capacity() {
            let room = needed.max(2 * self.partial.capacity()).max(ROOM).min(whole);
            self.partial.reserve_exact(room - self.partial.len());
        }
        self.partial.extend_from_slice(&self.piece.split_to(lacks));
    }
}

/// The length that a prefix says.
fn length([flag, length @ ..]: [u8; PREFIX], limit: usize) -> Result<usize, Status> {
    if flag != 0 {
        return Err(Status::unimplemented("compressed requests are not supported"));
    }
    let length = u32::from_be_bytes(length) as usize;
    match length > limit {
        true => Err(Status::resource_exhausted(format!("a request of {length} bytes; at most {limit} are accepted"))),
        false => Ok(length),
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

    use futures::{FutureExt, StreamExt, stream};
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
            read.push(message.map(|message| message.map(|message| message.to_vec())).map_err(|status| status.code()));
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
    fn nothing_is_held_between_requests_and_no_piece_until_a_request_is_whole() {
        let whole = framed(&[1; 100_000]);
        let (first, second) = (Bytes::copy_from_slice(&whole[..4_000]), Bytes::copy_from_slice(&whole[4_000..]));
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let mut frames = RequestFrames::new(StreamBody::new(receiver.map(Ok::<_, Infallible>)), 1 << 20);
        sender.unbounded_send(Frame::data(first.clone())).unwrap();
        assert!(frames.next().now_or_never().is_none(), "it has not come whole");
        assert!(first.is_unique());
        sender.unbounded_send(Frame::data(second)).unwrap();
        let message = frames.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(message, whole[PREFIX..]);
        assert_eq!((frames.piece.len(), frames.partial.capacity()), (0, 0));
        // One that comes whole is not copied, and is not held either.
        let small = Bytes::from(framed(b"small"));
        sender.unbounded_send(Frame::data(small.clone())).unwrap();
        let message = frames.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(message.as_ptr(), small[PREFIX..].as_ptr());
        drop(message);
        assert!(small.is_unique());
    }

    #[test]
    fn a_length_that_is_only_said_takes_no_room() {
        let mut start = framed(&[]);
        start[1..PREFIX].copy_from_slice(&(100_u32 << 20).to_be_bytes());
        let body = StreamBody::new(stream::iter([Ok::<_, Infallible>(Frame::data(start.into()))]));
        let mut frames = RequestFrames::new(body, 128 << 20);
        assert_eq!(frames.next().now_or_never().unwrap().unwrap_err().code(), Code::Internal);
        assert!(frames.partial.capacity() <= ROOM);
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
