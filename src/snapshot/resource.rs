//! One resource, encoded once: its bytes serve every stream, in both protocols.

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use xxhash_rust::xxh3::Xxh3;

use super::{Segment, TypeUrl};

/// The hash of a resource's bytes: equal content has an equal version, on every replica and after every restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(u128);

impl Version {
    /// The length of its text.
    pub const TEXT_LEN: usize = 22;

    /// The version made of this hash.
    pub fn from_hash(hash: u128) -> Self {
        Self(hash)
    }

    /// The hash it is made of.
    pub fn hash(self) -> u128 {
        self.0
    }

    /// The text that stands in responses: 22 characters of base64url, so that a reconnecting client's list of versions
    /// stays small (`xds.md` §6.2).
    pub fn text(self) -> [u8; Self::TEXT_LEN] {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = [0; Self::TEXT_LEN];
        let mut rest = self.0;
        for place in text.iter_mut().rev() {
            *place = DIGITS[(rest & 63) as usize];
            rest >>= 6;
        }
        text
    }

    /// Whether a client that sends this text holds this version.
    pub fn matches(self, text: &str) -> bool {
        text.as_bytes() == self.text()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("base64url digits are ASCII"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a resource names of one other type: a routing resource clusters, a listener the parts of its route tables. A set of its
/// own beside the bytes: who asks wants to know about a few.
pub trait References: Send + Sync {
    /// Whether this one is among them.
    fn contains(&self, name: &str) -> bool;

    /// All of them, each once.
    fn iter(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_>;
}

/// A sorted list.
impl References for Vec<Arc<str>> {
    fn contains(&self, wanted: &str) -> bool {
        self.binary_search_by(|name| (**name).cmp(wanted)).is_ok()
    }

    fn iter(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
        Box::new(self.as_slice().iter())
    }
}

/// A named, versioned, encoded resource.
///
/// The bytes are laid out once as `envoy.service.discovery.v3.Resource {name, version, resource: Any}` behind the tag and
/// length of field 2, so that the whole is an element of a delta response, and its tail from [`Resource::sotw_parts`] on is
/// an element of a state-of-the-world response: in all three messages the field's number is 2 (`xds.md` §6.2).
pub struct Resource {
    type_url: TypeUrl,
    name: Arc<str>,
    version: Version,
    /// The element up to the spliced part of the message.
    head: Bytes,
    /// Where in `head` the `Any` element begins.
    any_at: usize,
    /// Where in `head` the message begins.
    value_at: usize,
    tail: Segment,
    len: usize,
    references: Option<Arc<dyn References>>,
}

impl Resource {
    /// Encodes a message. Equal messages give equal bytes: maps in them are ordered.
    pub fn new(type_url: TypeUrl, name: impl Into<Arc<str>>, message: &impl Message) -> Self {
        Self::spliced(type_url, name, message, Segment::default(), None)
    }

    /// Splices a message from its small fields and from parts that are encoded already, and says what these refer to. The
    /// version is made of the parts' hash, so neither it nor the splicing reads the parts.
    pub fn spliced(
        type_url: TypeUrl,
        name: impl Into<Arc<str>>,
        shell: &impl Message,
        tail: Segment,
        references: Option<Arc<dyn References>>,
    ) -> Self {
        let name = name.into();
        let shell = shell.encode_to_vec();
        let mut hash = Xxh3::new();
        hash.update(&shell);
        if !tail.is_empty() {
            hash.update(&tail.hash().to_le_bytes());
        }
        let version = Version(hash.digest128());
        let url = type_url.as_str();
        let value_len = shell.len() + tail.len();
        let any_len = field_len(url.len()) + field_len(value_len);
        let resource_len = field_len(name.len()) + field_len(Version::TEXT_LEN) + field_len(any_len);

        let mut head = BytesMut::with_capacity(field_len(resource_len) - value_len + shell.len());
        put_field(&mut head, 2, resource_len);
        put_field(&mut head, 3, name.len());
        head.put_slice(name.as_bytes());
        put_field(&mut head, 1, Version::TEXT_LEN);
        head.put_slice(&version.text());
        let any_at = head.len();
        put_field(&mut head, 2, any_len);
        put_field(&mut head, 1, url.len());
        head.put_slice(url.as_bytes());
        put_field(&mut head, 2, value_len);
        let value_at = head.len();
        head.put_slice(&shell);
        Self {
            type_url,
            name,
            version,
            head: head.freeze(),
            any_at,
            value_at,
            tail,
            len: field_len(resource_len),
            references,
        }
    }

    /// The type.
    pub fn type_url(&self) -> TypeUrl {
        self.type_url
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The size of its element in a delta response, in bytes.
    pub fn delta_len(&self) -> usize {
        self.len
    }

    /// The size of its element in a state-of-the-world response, in bytes.
    pub fn sotw_len(&self) -> usize {
        self.len - self.any_at
    }

    /// Its element in a delta response, in two parts that share this resource's memory.
    pub fn delta_parts(&self) -> (Bytes, &Segment) {
        (self.head.clone(), &self.tail)
    }

    /// Its element in a state-of-the-world response, in two parts that share this resource's memory.
    pub fn sotw_parts(&self) -> (Bytes, &Segment) {
        (self.head.slice(self.any_at..), &self.tail)
    }

    /// The encoded message itself, copied together: for the admin pages and tests.
    pub fn message_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::from(&self.head[self.value_at..]);
        self.tail.pieces().for_each(|piece| bytes.put_slice(&piece));
        bytes.freeze()
    }

    /// Whether it names this cluster, or this part of a route table.
    pub fn refers_to(&self, name: &str) -> bool {
        self.references.as_ref().is_some_and(|names| names.contains(name))
    }

    /// What it names of another type, if it is one that does.
    pub fn references(&self) -> Option<&Arc<dyn References>> {
        self.references.as_ref()
    }
}

/// Name and version decide: the version is the hash of the rest.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version && self.name == other.name && self.type_url == other.type_url
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}", self.type_url, self.name, self.version)
    }
}

/// The size of a length-delimited field with a number below 16.
fn field_len(content: usize) -> usize {
    1 + encoded_len_varint(content as u64) + content
}

/// The tag and length of a length-delimited field.
fn put_field(buffer: &mut BytesMut, number: u32, content: usize) {
    encode_key(number, WireType::LengthDelimited, buffer);
    encode_varint(content as u64, buffer);
}
