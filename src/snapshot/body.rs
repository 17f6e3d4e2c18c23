//! The part of a response that many streams share: its resources and removed names, ready to write.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use super::Resource;

/// Pieces up to this many bytes are copied together: a frame of its own costs more than the copy.
const COALESCE_BELOW: usize = 4096;

/// Encoded fields of a `DiscoveryResponse` or `DeltaDiscoveryResponse`. Fields may stand in any order, so a response is a
/// body and, before or behind it, the few fields that are a stream's own.
#[derive(Clone, Debug, Default)]
pub struct Body {
    parts: Vec<Bytes>,
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
            resource.delta_parts().for_each(|part| writer.put(part));
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
            resource.sotw_parts().for_each(|part| writer.put(part));
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

    /// The pieces, in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }
}

#[derive(Default)]
struct Writer {
    parts: Vec<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Writer {
    fn put(&mut self, part: Bytes) {
        if part.len() < COALESCE_BELOW {
            self.small.put_slice(&part);
        } else {
            self.flush();
            self.len += part.len();
            self.parts.push(part);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.len += self.small.len();
            self.parts.push(self.small.split().freeze());
        }
    }

    fn finish(mut self) -> Body {
        self.flush();
        Body { parts: self.parts, len: self.len }
    }
}
