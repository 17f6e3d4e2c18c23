//! The part of a response that many streams share: its resources and removed names, ready to write.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{Pieces, Resource, Segment};

/// Pieces up to this many bytes are copied together: a frame of its own costs more than the copy.
const COALESCE_BELOW: usize = 4096;

/// Encoded fields of a `DiscoveryResponse` or `DeltaDiscoveryResponse`. Fields may stand in any order, so a response is a
/// body and, before or behind it, the few fields that are a stream's own.
#[derive(Clone, Debug, Default)]
pub struct Body {
    parts: Vec<Segment>,
    len: usize,
}

impl Body {
    /// The `resources` and `removed_resources` of a delta response.
    pub fn delta<'a>(
        resources: impl IntoIterator<Item = &'a Resource>,
        removed: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut writer = Writer::default();
        for resource in resources {
            writer.put(resource.delta_parts());
        }
        for name in removed {
            encode_key(6, WireType::LengthDelimited, &mut writer.small);
            encode_varint(name.len() as u64, &mut writer.small);
            writer.small.put_slice(name.as_bytes());
        }
        writer.finish()
    }

    /// The `resources` of a state-of-the-world response.
    pub fn sotw<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut writer = Writer::default();
        for resource in resources {
            writer.put(resource.sotw_parts());
        }
        writer.finish()
    }

    /// The size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, in pieces that share this body's memory.
    pub fn pieces(&self) -> Pieces {
        Pieces::of(&self.parts, self.len)
    }
}

#[derive(Default)]
struct Writer {
    parts: Vec<Segment>,
    small: BytesMut,
    len: usize,
}

impl Writer {
    /// Copies what is small, and notes where the rest is: that costs nothing, however large it is.
    fn put(&mut self, (head, tail): (Bytes, &Segment)) {
        if head.len() < COALESCE_BELOW {
            self.small.put_slice(&head);
        } else {
            self.share(Segment::unnamed(head));
        }
        if tail.len() < COALESCE_BELOW {
            tail.pieces().for_each(|piece| self.small.put_slice(&piece));
        } else {
            self.share(tail.clone());
        }
    }

    fn share(&mut self, part: Segment) {
        self.flush();
        self.len += part.len();
        self.parts.push(part);
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.len += self.small.len();
            self.parts.push(Segment::unnamed(self.small.split().freeze()));
        }
    }

    fn finish(mut self) -> Body {
        self.flush();
        Body { parts: self.parts, len: self.len }
    }
}
