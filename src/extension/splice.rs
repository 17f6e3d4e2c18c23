//! Protobuf at the level of the wire: finds fields in a message and changes single ones of them, so that all others, unknown
//! ones included, leave byte for byte as they came.
//!
//! Knows tags and lengths (protobuf.dev, "Encoding"); never what a field means, and never decodes a message into a type.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use thiserror::Error;

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a protobuf message, or one that was cut off: byte {at}")]
pub struct Malformed {
    /// Where it went wrong, from the beginning of what was read.
    pub at: usize,
}

/// How deep groups may be nested.
const MAX_GROUPS: usize = 100;

/// How a field's value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A number of one to ten bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// Bytes behind their length: texts, byte strings, messages.
    Delimited,
    /// A group, with the tag of its end.
    Group,
    /// Four bytes.
    Fixed32,
}

/// A field of a message: where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// How it is encoded.
    pub wire: Wire,
    /// The first byte of its tag.
    pub start: usize,
    /// The first byte behind its tag: of the length, where there is one.
    pub tag_end: usize,
    /// The first byte of its value.
    pub value: usize,
    /// The first byte behind it.
    pub end: usize,
}

impl Field {
    /// Where its value stands.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.value..self.end
    }

    /// Whether it is the one with this number, and delimited.
    #[inline]
    pub fn is(&self, number: u32) -> bool {
        self.number == number && self.wire == Wire::Delimited
    }

    /// Its value, a varint; 0 for other encodings.
    pub fn varint(&self, bytes: &[u8]) -> u64 {
        match self.wire {
            Wire::Varint => varint(bytes, self.value, self.end).map_or(0, |(value, _)| value),
            _ => 0,
        }
    }
}

/// The fields of a message, in the order in which they stand. Ends behind the first mistake.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

/// The fields of the message that stands in a part of `bytes`. Places of fields are counted from the beginning of `bytes`.
#[inline]
pub fn fields(bytes: &[u8], message: Range<usize>) -> Fields<'_> {
    Fields { bytes, at: message.start, end: message.end }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        if let Some(field) = short(self.bytes, self.at, self.end) {
            self.at = field.end;
            return Some(Ok(field));
        }
        let field = field(self.bytes, self.at, self.end, 0);
        self.at = field.as_ref().map_or(self.end, |field| field.end);
        Some(field)
    }
}

/// The last field with this number in a message: of a field that is not repeated, the last one counts (protobuf.dev, "Last
/// One Wins"). Nothing when there is none, or the message is malformed.
pub fn last(bytes: &[u8], message: Range<usize>, number: u32) -> Option<Field> {
    let mut found = None;
    for field in fields(bytes, message) {
        let field = field.ok()?;
        if field.is(number) {
            found = Some(field);
        }
    }
    found
}

/// The text of a field, if it is one.
#[inline]
pub fn text<'a>(bytes: &'a [u8], field: &Field) -> Option<&'a str> {
    std::str::from_utf8(bytes.get(field.range())?).ok()
}

/// The field that stands at `start`, if it is delimited, and its tag and length have no more than two bytes: as nearly all that
/// are gone through.
#[inline(always)]
fn short(bytes: &[u8], start: usize, end: usize) -> Option<Field> {
    let head = bytes.get(start..end)?.first_chunk::<4>()?;
    let (tag, tag_len) = short_varint(head)?;
    let (len, len_len) = short_varint(&head[tag_len..])?;
    let (tag_end, value, len) = (start + tag_len, start + tag_len + len_len, usize::from(len));
    let fits = tag & 7 == 2 && tag >> 3 != 0 && len <= end - value;
    let number = u32::from(tag >> 3);
    fits.then_some(Field { number, wire: Wire::Delimited, start, tag_end, value, end: value + len })
}

fn field(bytes: &[u8], start: usize, end: usize, depth: usize) -> Result<Field, Malformed> {
    let (tag, tag_end) = varint(bytes, start, end)?;
    let malformed = Malformed { at: start };
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number)).ok_or(malformed)?;
    let room = end - tag_end;
    let (wire, value, field_end) = match tag & 7 {
        0 => (Wire::Varint, tag_end, varint(bytes, tag_end, end)?.1),
        1 if room >= 8 => (Wire::Fixed64, tag_end, tag_end + 8),
        2 => {
            let (len, value) = varint(bytes, tag_end, end)?;
            let len = usize::try_from(len).ok().filter(|len| *len <= end - value).ok_or(malformed)?;
            (Wire::Delimited, value, value + len)
        }
        3 if depth < MAX_GROUPS => (Wire::Group, tag_end, group_end(bytes, number, tag_end, end, depth)?),
        5 if room >= 4 => (Wire::Fixed32, tag_end, tag_end + 4),
        _ => return Err(malformed),
    };
    Ok(Field { number, wire, start, tag_end, value, end: field_end })
}

/// The first byte behind the end tag of a group.
fn group_end(bytes: &[u8], number: u32, mut at: usize, end: usize, depth: usize) -> Result<usize, Malformed> {
    loop {
        let (tag, tag_end) = varint(bytes, at, end)?;
        if tag & 7 == 4 {
            return if tag >> 3 == u64::from(number) { Ok(tag_end) } else { Err(Malformed { at }) };
        }
        at = field(bytes, at, end, depth + 1)?.end;
    }
}

/// A varint and the first byte behind it. Nearly all tags and lengths have one or two bytes.
#[inline]
fn varint(bytes: &[u8], start: usize, end: usize) -> Result<(u64, usize), Malformed> {
    match bytes.get(start..end).and_then(short_varint) {
        Some((value, len)) => Ok((u64::from(value), start + len)),
        None => long_varint(&bytes[..end], start),
    }
}

/// A varint of one or two bytes, and how many.
#[inline(always)]
fn short_varint(bytes: &[u8]) -> Option<(u16, usize)> {
    match bytes {
        [low, ..] if *low < 0x80 => Some((u16::from(*low), 1)),
        [low, high, ..] if *high < 0x80 => Some((u16::from(*low & 0x7f) | u16::from(*high) << 7, 2)),
        _ => None,
    }
}

#[cold]
fn long_varint(bytes: &[u8], start: usize) -> Result<(u64, usize), Malformed> {
    let mut value = 0;
    for (place, byte) in bytes.get(start..).unwrap_or_default().iter().take(10).enumerate() {
        // The tenth byte holds the 64th bit, and nothing else fits.
        if place == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Ok((value, start + place + 1));
        }
    }
    Err(Malformed { at: start })
}

/// The tag and length of a delimited field.
pub fn put_header(buffer: &mut BytesMut, number: u32, len: usize) {
    encode_varint(u64::from(number) << 3 | 2, buffer);
    encode_varint(len as u64, buffer);
}

/// A delimited field.
pub fn delimited(number: u32, value: &[u8]) -> Bytes {
    let mut field = BytesMut::with_capacity(value.len() + 15);
    put_header(&mut field, number, value.len());
    field.extend_from_slice(value);
    field.freeze()
}

/// Changes to a message, noted and not done yet. What is inside another message is noted within it, so that the lengths
/// around it follow.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<Edit>,
    /// Bytes that others take the place of. Places are short, as those of 10 000 fields are kept: no gRPC message is longer.
    replaced: Vec<(u32, u8)>,
    /// By how many bytes the message becomes longer.
    grown: isize,
}

/// Changes inside a message that are being noted: made by [`Edits::open`] for [`Edits::close`].
#[must_use]
#[derive(Debug)]
pub struct Opened(isize);

/// Changes inside a message that are not all noted yet: made by [`Edits::suspend`] for [`Edits::resume`].
#[must_use]
#[derive(Debug)]
pub struct Suspended(isize);

#[derive(Debug)]
struct Edit {
    at: usize,
    removed: usize,
    inserted: Inserted,
}

#[derive(Debug)]
enum Inserted {
    Nothing,
    Bytes(Bytes),
}

impl Edits {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.replaced.is_empty()
    }

    /// Puts bytes in front of the one at `at`. What is inserted at one place stands in the order of the calls.
    pub fn insert(&mut self, at: usize, bytes: Bytes) {
        if !bytes.is_empty() {
            self.note(at, 0, Inserted::Bytes(bytes));
        }
    }

    /// Takes out a field.
    pub fn remove(&mut self, field: &Field) {
        self.note(field.start, field.end - field.start, Inserted::Nothing);
    }

    /// Gives a field another number and leaves its value. Both numbers are below 16.
    pub fn renumber(&mut self, field: &Field, number: u8) {
        let wire = match field.wire {
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Delimited => 2,
            Wire::Group => 3,
            Wire::Fixed32 => 5,
        };
        let tag = number << 3 | wire;
        match (field.tag_end - field.start, u32::try_from(field.start)) {
            (1, Ok(start)) => self.replaced.push((start, tag)),
            // A tag of more bytes than it needs.
            (len, _) => self.note(field.start, len, Inserted::Bytes(Bytes::copy_from_slice(&[tag]))),
        }
    }

    /// Begins to note changes inside a field, which is a message.
    pub fn open(&self) -> Opened {
        Opened(self.grown)
    }

    /// Ends it: notes the change of the field's length that they come to.
    pub fn close(&mut self, opened: Opened, field: &Field) {
        let Opened(before) = opened;
        if self.grown != before {
            let old = field.end - field.value;
            let new = old.checked_add_signed(self.grown - before).expect("no more is removed than there is");
            let mut len = BytesMut::with_capacity(encoded_len_varint(new as u64));
            encode_varint(new as u64, &mut len);
            self.note(field.tag_end, field.value - field.tag_end, Inserted::Bytes(len.freeze()));
        }
    }

    /// Stops to note changes inside a field for a while.
    pub fn suspend(&self, opened: Opened) -> Suspended {
        Suspended(self.grown - opened.0)
    }

    /// Goes on with it.
    pub fn resume(&self, suspended: Suspended) -> Opened {
        Opened(self.grown - suspended.0)
    }

    /// Takes out a field in which changes have been noted. What is put in front of it stays: that belongs to its neighbour, whose
    /// changes may end where this field starts.
    pub fn discard(&mut self, field: &Field) {
        let grown = &mut self.grown;
        self.edits.retain(|edit| {
            let in_front = edit.at < field.start || (edit.at == field.start && edit.removed == 0);
            let stays = in_front || edit.at >= field.end;
            if !stays {
                *grown -= edit.inserted.len().cast_signed() - edit.removed.cast_signed();
            }
            stays
        });
        self.remove(field);
    }

    fn note(&mut self, at: usize, removed: usize, inserted: Inserted) {
        self.grown += inserted.len().cast_signed() - removed.cast_signed();
        self.edits.push(Edit { at, removed, inserted });
    }

    /// The changed message, in pieces. What keeps its length is changed where it stands, for which a message that is somebody
    /// else's, too, is copied; otherwise nothing is that is left as it is.
    pub fn apply(mut self, message: Bytes) -> Vec<Bytes> {
        // Stable: what is inserted at one place stays in order, and in front of what is taken out there.
        self.edits.sort_by_key(|edit| (edit.at, edit.removed > 0));
        let message = self.overwrite(message);
        let mut pieces = Vec::with_capacity(2 * self.edits.len() + 1);
        let mut at = 0;
        for Edit { at: edited, removed, inserted } in self.edits {
            debug_assert!(at <= edited, "edits do not overlap");
            if at < edited {
                pieces.push(message.slice(at..edited));
            }
            match inserted {
                Inserted::Nothing => {}
                Inserted::Bytes(bytes) => pieces.push(bytes),
            }
            at = edited + removed;
        }
        if at < message.len() {
            pieces.push(message.slice(at..));
        }
        pieces
    }

    /// Does the changes that keep the length, in the message itself when it is nobody else's and else in a copy of it.
    fn overwrite(&mut self, message: Bytes) -> Bytes {
        let keeps_len = |edit: &Edit| edit.removed > 0 && edit.removed == edit.inserted.len();
        if self.replaced.is_empty() && !self.edits.iter().any(keeps_len) {
            return message;
        }
        let mut message = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
        for (at, byte) in std::mem::take(&mut self.replaced) {
            message[at as usize] = byte;
        }
        self.edits.retain(|edit| {
            if let Inserted::Bytes(bytes) = &edit.inserted
                && keeps_len(edit)
            {
                message[edit.at..edit.at + edit.removed].copy_from_slice(bytes);
                return false;
            }
            true
        });
        message.freeze()
    }

    /// The changed message in one piece.
    pub fn apply_to(self, message: &[u8]) -> Bytes {
        let mut whole = BytesMut::with_capacity(message.len().saturating_add_signed(self.grown));
        for piece in self.apply(Bytes::copy_from_slice(message)) {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }
}

impl Inserted {
    fn len(&self) -> usize {
        match self {
            Inserted::Nothing => 0,
            Inserted::Bytes(bytes) => bytes.len(),
        }
    }
}
