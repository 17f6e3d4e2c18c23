//! Divides large DATA frames of HTTP/2 into small ones while they are read.
//!
//! The HTTP/2 library reads frames whole. Its buffer grows with the largest frame and stays as large while the connection is
//! open: after one request with the names of a thousand endpoints, some 20 KiB of each Envoy's connection are kept for nothing.
//! Small frames say the same. The payloads of a stream's DATA frames are one sequence of octets (RFC 9113 §8.1), and count
//! octet by octet for flow control (§6.9); no receiver may make anything of where one ends.
//!
//! Never looks at a payload. Whatever is no HTTP/2 passes as it came, for the library to refuse.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// The largest payload of a divided frame, in bytes: a quarter of the largest frame. Two of them, all but, fill the buffer that
/// the library begins with (8 KiB in tokio-util's `FramedRead`), so that one of which a part has come finds room for the rest.
const PAYLOAD: u32 = ALLOWED / 4;
/// The largest payload that a frame may have, which is for the library to enforce: `SETTINGS_MAX_FRAME_SIZE` as it begins and
/// stays (RFC 9113 §6.5.2).
const ALLOWED: u32 = 16_384;
/// So many DATA frames are handed on before others have a turn. The library notes the frames of a stream until that stream's
/// task has its turn, and keeps the room for as many notes (of some 250 bytes) as there ever were.
const AT_ONCE: u32 = 4;
/// The size of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;
/// The size of what a client sends before its first frame (RFC 9113 §3.4).
const PREFACE: u64 = 24;

/// The type of DATA frames, and their flags (RFC 9113 §6.1).
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// A server's connection, of which DATA frames are read in small ones.
#[derive(Debug)]
pub(super) struct SmallFrames<S> {
    /// The connection; its limit is what passes before the next header is handed on or read.
    stream: Take<S>,
    header: [u8; HEADER],
    /// How much of the header has been read.
    read: usize,
    /// How much of it has been handed on.
    told: usize,
    /// What is left of the payload of a DATA frame after the part that passes now: more small frames.
    rest: u32,
    /// The flags of the frame that is divided.
    flags: u8,
    /// How many DATA frames have begun since others had a turn.
    begun: u32,
}

impl<S: AsyncRead + Unpin> SmallFrames<S> {
    /// Reads a connection from its first byte on.
    pub(super) fn new(stream: S) -> Self {
        Self { stream: stream.take(PREFACE), header: [0; HEADER], read: 0, told: 0, rest: 0, flags: 0, begun: 0 }
    }

    /// Reads some of the next header.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read == HEADER {
            self.read = 0;
        }
        let mut header = ReadBuf::new(&mut self.header[self.read..]);
        ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut header))?;
        let came = header.filled().len();
        self.read += came;
        if self.read == HEADER {
            self.told = 0;
            self.begin();
        }
        Poll::Ready(Ok(came))
    }

    /// Looks at a header that has been read.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let payload = u32::from_be_bytes([0, a, b, c]);
        if kind == DATA && flags & PADDED == 0 && (PAYLOAD + 1..=ALLOWED).contains(&payload) {
            (self.rest, self.flags) = (payload, flags);
            self.divide();
        } else {
            self.begun += u32::from(kind == DATA);
            self.stream.set_limit(payload.into());
        }
    }

    /// Makes the header of the next part.
    fn divide(&mut self) {
        self.begun += 1;
        let part = self.rest.min(PAYLOAD);
        self.rest -= part;
        self.stream.set_limit(part.into());
        let [_, length @ ..] = part.to_be_bytes();
        self.header[..3].copy_from_slice(&length);
        self.header[4] = if self.rest > 0 { self.flags & !END_STREAM } else { self.flags };
        self.told = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SmallFrames<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        while out.remaining() > 0 {
            if this.read == HEADER && this.told < HEADER {
                let part = (HEADER - this.told).min(out.remaining());
                out.put_slice(&this.header[this.told..this.told + part]);
                this.told += part;
                continue;
            }
            if this.begun >= AT_ONCE && this.stream.limit() == 0 {
                if out.filled().len() > before {
                    break;
                }
                this.begun = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let came = if this.stream.limit() > 0 {
                let filled = out.filled().len();
                let polled = Pin::new(&mut this.stream).poll_read(cx, out);
                polled.map_ok(|()| out.filled().len() - filled)
            } else if this.rest > 0 {
                this.divide();
                continue;
            } else {
                this.poll_header(cx)
            };
            match came {
                // The end.
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(_)) => {}
                // What is there is handed on first; an error is met again.
                _ if out.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.begun = 0;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SmallFrames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tokio_util::io::StreamReader;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    /// Sends bytes in chunks of the given sizes, in turns, and reads what comes into a buffer of a given size.
    async fn read(sent: &[u8], sizes: &[usize], buffer: usize) -> Vec<u8> {
        let mut rest = Bytes::copy_from_slice(sent);
        let chunks = sizes.iter().cycle().map_while(|size| {
            let chunk = rest.split_to(rest.len().min(*size));
            (!chunk.is_empty()).then_some(Ok::<_, io::Error>(chunk))
        });
        let chunks: Vec<_> = chunks.collect();
        let mut stream = SmallFrames::new(StreamReader::new(futures::stream::iter(chunks)));
        let (mut all, mut some) = (Vec::new(), vec![0; buffer]);
        loop {
            let count = stream.read(&mut some).await.unwrap();
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&some[..count]);
        }
    }

    #[tokio::test]
    async fn others_have_a_turn_after_each_few_data_frames() {
        let sent = [preface(), frame(DATA, 0, 1, &bytes(16_384)), frame(DATA, 0, 1, &bytes(16_384))].concat();
        let mut stream = SmallFrames::new(sent.as_slice());
        let (mut turns, mut all, mut some) = (vec![0], 0, vec![0; 1_000]);
        loop {
            let mut buffer = ReadBuf::new(&mut some);
            match futures::poll!(std::future::poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buffer))) {
                Poll::Ready(read) => read.unwrap(),
                Poll::Pending => turns.push(all),
            }
            all += buffer.filled().len();
            if all == sent.len() + 6 * HEADER {
                break;
            }
        }
        let few = AT_ONCE as usize * (PAYLOAD as usize + HEADER);
        assert_eq!(turns, [0, PREFACE as usize + few]);
    }

    /// The frames of what was read after the preface: type, flags, stream and payload.
    fn frames(mut read: &[u8]) -> Vec<(u8, u8, u8, Vec<u8>)> {
        let mut frames = Vec::new();
        read = &read[PREFACE as usize..];
        while let [a, b, c, kind, flags, _, _, _, stream, rest @ ..] = read {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            frames.push((*kind, *flags, *stream, rest[..length].to_vec()));
            read = &rest[length..];
        }
        assert!(read.is_empty(), "the end of a frame is the end");
        frames
    }

    fn preface() -> Vec<u8> {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
    }

    #[tokio::test]
    async fn large_data_frames_are_divided_and_the_last_part_ends_the_stream() {
        let payload = bytes(10_000);
        let sent = [preface(), frame(DATA, END_STREAM, 5, &payload), frame(4, 0, 0, &bytes(6))].concat();
        let read = read(&sent, &[1_000], 4_096).await;
        let parts = frames(&read);
        let sizes: Vec<_> =
            parts.iter().map(|(kind, flags, stream, part)| (*kind, *flags, *stream, part.len())).collect();
        let part = PAYLOAD as usize;
        assert_eq!(sizes, [(0, 0, 5, part), (0, 0, 5, part), (0, 1, 5, 10_000 - 2 * part), (4, 0, 0, 6)]);
        let joined: Vec<u8> = parts[..3].iter().flat_map(|(.., part)| part.clone()).collect();
        assert_eq!(joined, payload);
    }

    #[tokio::test]
    async fn what_is_no_large_data_frame_passes_as_it_came() {
        let most = PAYLOAD as usize;
        let sent = [
            preface(),
            frame(DATA, END_STREAM, 1, &bytes(most)),
            frame(DATA, PADDED, 1, &bytes(most + 1)),
            frame(1, 4, 3, &bytes(9_000)),
            frame(DATA, 0, 3, &bytes(ALLOWED as usize + 1)),
            frame(DATA, 0, 3, &[]),
            // A header that never becomes whole.
            vec![0, 0, 9],
        ]
        .concat();
        let whole = &sent[..sent.len() - 3];
        assert_eq!(read(&sent, &[7, 5_000], 16_384).await, whole);
        // What is no HTTP/2, too, as far as it may be a frame.
        let other = [bytes(PREFACE as usize), vec![1; 2_000]].concat();
        assert_eq!(read(&other, &[100], 100).await, other);
    }

    proptest! {
        #[test]
        fn no_byte_of_a_payload_is_lost_or_moved(
            sent in prop::collection::vec((0_u8..3, any::<u8>(), 0_u8..4, 0_usize..20_000), 0..6),
            sizes in prop::collection::vec(1_usize..9_000, 1..5),
            buffer in 1_usize..9_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let sent: Vec<_> =
                sent.into_iter().map(|(kind, flags, stream, size)| (kind, flags, stream, bytes(size))).collect();
            let all: Vec<u8> =
                sent.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
            let read = runtime.block_on(read(&[preface(), all].concat(), &sizes, buffer));
            let mut parts = frames(&read).into_iter();
            for (kind, flags, stream, payload) in sent {
                let mut joined = Vec::new();
                loop {
                    let (of_kind, with, on, part) = parts.next().unwrap();
                    prop_assert_eq!((of_kind, on), (kind, stream));
                    joined.extend(part);
                    let is_last = joined.len() == payload.len();
                    let is_whole = kind != DATA || flags & PADDED != 0 || payload.len() > ALLOWED as usize;
                    prop_assert_eq!(with, if is_last || is_whole { flags } else { flags & !END_STREAM });
                    if is_last {
                        break;
                    }
                    prop_assert!(!is_whole);
                }
                prop_assert_eq!(joined, payload);
            }
            prop_assert!(parts.next().is_none());
        }
    }
}
