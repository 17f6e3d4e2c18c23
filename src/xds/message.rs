//! What goes in and out of a stream's machine, as plain data.
//!
//! Never a wire type: the transport decodes requests into these and encodes a response from one.

use std::{fmt, sync::Arc, time::Duration};

use super::NameSets;
use crate::snapshot::{Body, TypeUrl, Version};

/// Which types a stream may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them: the aggregated discovery service (ADS). The order between types is kept on such streams only.
    Aggregated,
    /// One: the type's own discovery service.
    Only(TypeUrl),
}

/// Settings of a stream.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a route waits for the clusters it names to be warm at the client (`xds.md` P56); 2 s by default.
    pub route_hold: Duration,
    /// A response grows to at most this many bytes of resources, unless a single one is larger (`xds.md` P43); 1 MiB by
    /// default. Full-state responses can not be split.
    pub max_chunk: usize,
    /// How long a client that comes back keeps what is not in the snapshot: another replica may have known it first (`xds.md`
    /// P80). None by default.
    pub removal_hold: Duration,
    /// The sets of names that streams share.
    pub names: Arc<NameSets>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            route_hold: Duration::from_secs(2),
            max_chunk: 1 << 20,
            removal_hold: Duration::ZERO,
            names: Arc::default(),
        }
    }
}

/// Why the client refused a response: `google.rpc.Status` without its details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorDetail {
    /// The gRPC status code.
    pub code: i32,
    /// The client's text.
    pub message: String,
}

/// A `DeltaDiscoveryRequest` without its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeltaRequest {
    /// The resource type; may be empty on a stream of one type.
    pub type_url: String,
    /// The nonce of the response that is accepted or refused; empty in a spontaneous request.
    pub response_nonce: String,
    /// Present when the response is refused.
    pub error: Option<ErrorDetail>,
    /// `resource_names_subscribe`.
    pub subscribe: Vec<String>,
    /// `resource_names_unsubscribe`.
    pub unsubscribe: Vec<String>,
    /// `initial_resource_versions`: name and version text. Read on the first request of the type only.
    pub initial_versions: Vec<(String, String)>,
}

/// A `DiscoveryRequest` without its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SotwRequest {
    /// The resource type; may be empty on a stream of one type.
    pub type_url: String,
    /// The version that the client last accepted. On the first request it says that the client was connected before, and
    /// nothing more (`xds.md` P14); later it says nothing (P11).
    pub version_info: String,
    /// The nonce of the response that is accepted or refused; empty in the first request.
    pub response_nonce: String,
    /// Present when the response is refused.
    pub error: Option<ErrorDetail>,
    /// `resource_names`: everything the client wants from now on.
    pub names: Vec<String>,
}

/// A request that breaks the protocol so that the stream must end with `INVALID_ARGUMENT` and this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// The name of a response within its stream. Displayed, it is the `nonce` on the wire: never empty, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub(super) u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Nonce {
    /// The nonce with this text, if it is the text of one.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = text.bytes().all(|digit| digit.is_ascii_digit()) && !text.starts_with('0');
        text.parse().ok().filter(|_| canonical).map(Self)
    }
}

/// Why a response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is the first of its type on the stream.
    Initial,
    /// Something changed.
    Update,
    /// Nothing changed, but the client asked again, or must be told again (`xds.md` P33, P59).
    Resend,
}

/// A response, whole but for the fields that the transport adds (`control_plane`).
#[derive(Clone, Debug)]
pub struct Response {
    /// The type of its resources.
    pub type_url: TypeUrl,
    /// Its name on this stream.
    pub nonce: Nonce,
    /// `version_info`, or `system_version_info`: the version of all that the client has of this type once it applied this.
    pub version: Version,
    /// The resources and, in the delta protocol, removed names. Streams that take the same step share it.
    pub body: Arc<Body>,
    /// Why it is sent.
    pub kind: Kind,
    /// How many resources are in it.
    pub resources: usize,
    /// How many removed names are in it.
    pub removed: usize,
}

/// Something that happened on a stream, for logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client accepted a response.
    Ack {
        /// The type.
        type_url: TypeUrl,
        /// The time since it was sent.
        latency: Duration,
    },
    /// The client refused a response.
    Nack {
        /// The type.
        type_url: TypeUrl,
        /// The time since it was sent.
        latency: Duration,
        /// The client's status code.
        code: i32,
        /// The client's text.
        message: String,
        /// The resources that are not sent to this stream again before they change, sorted.
        parked: Vec<Arc<str>>,
        /// The resources of which at least one is to blame, sorted. They are sent again in parts to find out which.
        suspects: Vec<Arc<str>>,
    },
    /// A request named a response that is not the one it should name.
    StaleNonce {
        /// The type.
        type_url: TypeUrl,
    },
    /// The client asked for a type that is not served. It gets no answer.
    UnknownType {
        /// The type URL.
        type_url: String,
    },
    /// A route is withheld until a cluster that it newly names is warm at the client, a listener until a part of a route table is
    /// there.
    UpdateHeld {
        /// The type of the resource.
        type_url: TypeUrl,
        /// Its name.
        name: Arc<str>,
        /// What it waits for; there may be more.
        awaited: Arc<str>,
    },
    /// What was withheld is sent or no longer needed.
    UpdateReleased {
        /// The type of the resource.
        type_url: TypeUrl,
        /// Its name.
        name: Arc<str>,
        /// Why now.
        release: Release,
        /// How long it was withheld.
        waited: Duration,
    },
    /// A removal is withheld until nothing at the client refers to the resource.
    RemovalHeld {
        /// The type.
        type_url: TypeUrl,
        /// The resource.
        name: Arc<str>,
    },
    /// A withheld removal is sent or no longer needed.
    RemovalReleased {
        /// The type.
        type_url: TypeUrl,
        /// The resource.
        name: Arc<str>,
    },
    /// A client that was connected before said which versions it has.
    Reconnected {
        /// The type.
        type_url: TypeUrl,
        /// Resources that it has and that are not sent.
        matched: usize,
        /// Subscribed resources that it lacks or has in another version.
        resent: usize,
        /// Resources that it has and that do not exist any more.
        gone: usize,
    },
}

/// Why a withheld route is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// Its clusters are warm, or it names no new ones any more.
    Ready,
    /// It waited for [`Options::route_hold`].
    TimedOut,
    /// It is gone, or the client does not want it any more.
    Dropped,
}
