//! Parts of large messages, encoded once and put together without being copied: a rope of bytes with a hash.

use std::{cmp::Ordering, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Pieces below this many bytes are copied together when segments are joined. So whatever is joined from many small parts
/// comes in pieces of a size that is worth a frame of its own, and a change copies no more than a few pieces.
const PIECE: usize = 16 * 1024;

/// A part of a large resource's message: some whole fields of it, encoded. A copy shares its memory.
///
/// The hash decides whether two are equal. It is made of the hashes of the parts and not of all their bytes, so two segments
/// that are put together from equal parts in the same way are equal.
#[derive(Clone, Debug)]
pub struct Segment {
    content: Content,
    len: usize,
    hash: u128,
}

#[derive(Clone, Debug)]
enum Content {
    Piece(Bytes),
    /// At least two, none of them empty.
    Parts(Arc<[Segment]>),
}

impl Default for Segment {
    fn default() -> Self {
        Self { content: Content::Piece(Bytes::new()), len: 0, hash: 0 }
    }
}

impl Segment {
    /// Holds encoded fields.
    pub fn new(bytes: Bytes) -> Self {
        Self { len: bytes.len(), hash: xxh3_128(&bytes), content: Content::Piece(bytes) }
    }

    /// Holds bytes whose hash nobody asks for.
    pub(super) fn unnamed(bytes: Bytes) -> Self {
        Self { len: bytes.len(), content: Content::Piece(bytes), hash: 0 }
    }

    /// Puts segments one after the other. Costs as much as there are segments, however large they are.
    pub fn join<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Self {
        let mut parts = Joined::default();
        let mut hash = Xxh3::new();
        let mut len = 0;
        for segment in segments {
            hash.update(&segment.hash.to_le_bytes());
            len += segment.len;
            parts.put(segment);
        }
        Self { content: parts.finish(), len, hash: hash.digest128() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What stands for the bytes: equal for equal parts.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The bytes, in pieces that share this segment's memory.
    pub fn pieces(&self) -> Pieces {
        Pieces { rest: vec![self.clone()], len: self.len }
    }
}

impl PartialEq for Segment {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Segment {}

/// In no order that means anything.
impl Ord for Segment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}

impl PartialOrd for Segment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Segments on their way to becoming one: the small ones among them are copied together.
#[derive(Default)]
struct Joined<'a> {
    parts: Vec<Segment>,
    small: Vec<&'a Bytes>,
    small_len: usize,
}

impl<'a> Joined<'a> {
    fn put(&mut self, segment: &'a Segment) {
        match &segment.content {
            Content::Piece(piece) if piece.is_empty() => {}
            Content::Piece(piece) if piece.len() < PIECE => {
                self.small.push(piece);
                self.small_len += piece.len();
                if self.small_len >= PIECE {
                    self.flush();
                }
            }
            _ => {
                self.flush();
                self.parts.push(segment.clone());
            }
        }
    }

    fn flush(&mut self) {
        let piece = match self.small.as_slice() {
            [] => return,
            [only] => Bytes::clone(only),
            several => {
                let mut bytes = BytesMut::with_capacity(self.small_len);
                several.iter().for_each(|piece| bytes.put_slice(piece));
                bytes.freeze()
            }
        };
        // Nobody asks for the hash of a part that exists for the sake of its size only.
        self.parts.push(Segment::unnamed(piece));
        self.small.clear();
        self.small_len = 0;
    }

    fn finish(mut self) -> Content {
        self.flush();
        match self.parts.len() {
            0 => Content::Piece(Bytes::new()),
            1 => self.parts.swap_remove(0).content,
            _ => Content::Parts(self.parts.into()),
        }
    }
}

/// The bytes of a segment, piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// What is left, the next last.
    rest: Vec<Segment>,
    len: usize,
}

impl Pieces {
    /// The pieces of several segments with so many bytes together.
    pub(super) fn of(segments: &[Segment], len: usize) -> Self {
        Self { rest: segments.iter().rev().cloned().collect(), len }
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none are left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.rest.pop()?.content {
                Content::Piece(piece) if piece.is_empty() => {}
                Content::Piece(piece) => {
                    self.len -= piece.len();
                    return Some(piece);
                }
                Content::Parts(parts) => self.rest.extend(parts.iter().rev().cloned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(size: usize, byte: u8) -> Segment {
        Segment::new(vec![byte; size].into())
    }

    fn bytes(segment: &Segment) -> Vec<u8> {
        segment.pieces().collect::<Vec<_>>().concat()
    }

    #[test]
    fn what_is_joined_has_the_bytes_of_its_parts_in_their_order() {
        let parts =
            [segment(3, b'a'), Segment::default(), segment(20_000, b'b'), segment(10, b'c'), segment(9_000, b'd')];
        let joined = Segment::join(&parts);
        let twice = Segment::join([&joined, &segment(1, b'e'), &joined]);
        assert_eq!(bytes(&joined), parts.iter().flat_map(bytes).collect::<Vec<_>>());
        assert_eq!(bytes(&twice), [bytes(&joined), vec![b'e'], bytes(&joined)].concat());
        assert_eq!((joined.len(), twice.len()), (29_013, 58_027));
        assert_eq!(twice.pieces().len(), twice.len());
        assert!(Segment::join([]).is_empty() && bytes(&Segment::join([])).is_empty());
    }

    #[test]
    fn equal_parts_joined_alike_are_equal_and_others_are_not() {
        let (a, b) = (segment(10, b'a'), segment(10_000, b'b'));
        assert_eq!(Segment::join([&a, &b]), Segment::join([&segment(10, b'a'), &segment(10_000, b'b')]));
        assert_ne!(Segment::join([&a, &b]), Segment::join([&b, &a]));
        assert_ne!(a, segment(10, b'c'));
    }

    #[test]
    fn small_parts_are_copied_together_and_large_ones_are_shared() {
        let small: Vec<Segment> = (0..1_000).map(|_| segment(100, b's')).collect();
        let pieces: Vec<Bytes> = Segment::join(&small).pieces().collect();
        assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE) && pieces.len() <= 100_000 / PIECE + 1);
        let large = segment(PIECE, b'l');
        let joined = Segment::join([&large, &segment(5, b's'), &large]);
        let at: Vec<_> = joined.pieces().filter(|piece| piece.len() == PIECE).map(|piece| piece.as_ptr()).collect();
        assert_eq!(at, [large.pieces().next().expect("it is not empty").as_ptr(); 2]);
    }
}
