//! One gRPC message in, one out: the bodies of a unary call, large ones without a copy too many.
//!
//! Never compresses, and never reads more than it is told to.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;

/// The prefix of a message: a compression flag and the length, big-endian.
const PREFIX: usize = 5;

/// Pieces up to this many bytes are copied together: a frame of its own costs more than the copy.
const SMALL: usize = 4096;

/// Who may hold large messages at once: those above a size need a permit before the rest of them is read.
pub(super) struct Large<'a> {
    /// In bytes.
    pub(super) above: usize,
    pub(super) permits: &'a Semaphore,
}

/// Reads the one message of a call, and gives the permit for it if it needs one.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` for one above `limit` bytes, `UNIMPLEMENTED` for a compressed one, `CANCELLED` when the transport breaks,
/// `INVALID_ARGUMENT` for a body that is cut off or holds more than the message.
pub(super) async fn read<'a, B>(
    mut body: B,
    limit: usize,
    large: &Large<'a>,
) -> Result<(Bytes, Option<SemaphorePermit<'a>>), Status>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let mut buffer = BytesMut::new();
    let (mut len, mut permit) = (None, None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::cancelled(format!("the connection broke: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        if len.is_none() && buffer.len() >= PREFIX {
            let message = message_len(&buffer)?;
            if message > limit {
                return Err(Status::resource_exhausted(format!("a message of {message} bytes; {limit} are the most")));
            }
            if message > large.above {
                permit = Some(large.permits.acquire().await.expect("this semaphore is never closed"));
            }
            // Room for all of it at once, in place of one doubling after the other.
            buffer.reserve((PREFIX + message).saturating_sub(buffer.len()));
            len = Some(message);
        }
        if len.is_some_and(|len| buffer.len() > PREFIX + len) {
            return Err(Status::invalid_argument("more than one message in a unary call"));
        }
    }
    if len.is_none_or(|len| buffer.len() < PREFIX + len) {
        return Err(Status::invalid_argument("the call ended inside its message"));
    }
    buffer.advance(PREFIX);
    Ok((buffer.freeze(), permit))
}

fn message_len(prefix: &[u8]) -> Result<usize, Status> {
    if prefix[0] != 0 {
        return Err(Status::unimplemented("compressed messages are not supported"));
    }
    let len = u32::from_be_bytes(prefix[1..PREFIX].try_into().expect("four bytes"));
    Ok(len as usize)
}

/// The response to a call that went well: a message in pieces, and the trailers that say so.
pub(super) struct Reply {
    pieces: VecDeque<Bytes>,
    /// What is still to come of the pieces.
    left: u64,
    trailers: Option<HeaderMap>,
}

impl Reply {
    /// Of a message's pieces. Tells how many bytes the message has.
    pub(super) fn new(message: Vec<Bytes>) -> (Self, usize) {
        let len: usize = message.iter().map(Bytes::len).sum();
        let mut small = BytesMut::with_capacity(PREFIX + SMALL);
        small.put_u8(0);
        small.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        let mut pieces = VecDeque::new();
        for piece in message {
            if piece.len() > SMALL {
                if !small.is_empty() {
                    pieces.push_back(small.split().freeze());
                }
                pieces.push_back(piece);
            } else {
                small.extend_from_slice(&piece);
            }
        }
        if !small.is_empty() {
            pieces.push_back(small.freeze());
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        (Self { pieces, left: (PREFIX + len) as u64, trailers: Some(trailers) }, len)
    }
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(match self.pieces.pop_front() {
            Some(piece) => {
                self.left -= piece.len() as u64;
                Some(Ok(Frame::data(piece)))
            }
            None => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
