//! The messages of the discovery service as they are on the wire, cut down to what is read and written here.
//!
//! Requests are decoded by these types and not by the generated ones so that what nobody reads is skipped and never held:
//! Envoy sends 50 KB of extension names with every node (`xds.md` P06). Never decodes a resource, and never copies one: a
//! response is the few fields that are a stream's own, and the shared body.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use super::{ErrorDetail, Nonce, Response, message};
use crate::snapshot::{TypeUrl, Version};

/// `envoy.service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct SotwRequest {
    /// The version that the client last accepted.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// The client.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// What it wants from now on.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// The resource type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The response that is accepted or refused.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Why it is refused.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct DeltaRequest {
    /// The client.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The resource type.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// What it wants in addition.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// What it wants no longer.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// What it has: a map on the wire, which is a list of entries.
    #[prost(message, repeated, tag = "5")]
    pub initial_resource_versions: Vec<Entry>,
    /// The response that is accepted or refused.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Why it is refused.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// An entry of a `map<string, string>`.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `google.rpc.Status` without its details.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// The gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The text.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `envoy.config.core.v3.Node`, the parts that are read.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// The instance.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The Gateway it serves, as `NAMESPACE/GATEWAY`.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Where it runs.
    #[prost(message, optional, tag = "4")]
    pub locality: Option<Locality>,
    /// The program.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Its version as a text (gRPC).
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
    /// Its version as numbers (Envoy).
    #[prost(message, optional, tag = "8")]
    pub user_agent_build_version: Option<BuildVersion>,
    /// What it can do.
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, PartialEq, Message)]
pub struct Locality {
    /// The region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// The zone.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// The part of the zone.
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.core.v3.BuildVersion` without its metadata.
#[derive(Clone, PartialEq, Message)]
pub struct BuildVersion {
    /// The version.
    #[prost(message, optional, tag = "1")]
    pub version: Option<SemanticVersion>,
}

/// `envoy.type.v3.SemanticVersion`.
#[derive(Clone, PartialEq, Message)]
pub struct SemanticVersion {
    /// The major number.
    #[prost(uint32, tag = "1")]
    pub major_number: u32,
    /// The minor number.
    #[prost(uint32, tag = "2")]
    pub minor_number: u32,
    /// The patch.
    #[prost(uint32, tag = "3")]
    pub patch: u32,
}

/// A protocol's request, which is a node and what the stream's machine reads.
pub trait Request: Message + Default {
    /// What the machine reads.
    type Content;

    /// Takes the message apart.
    fn split(self) -> (Option<Node>, Self::Content);
}

impl Request for SotwRequest {
    type Content = message::SotwRequest;

    fn split(self) -> (Option<Node>, Self::Content) {
        let content = message::SotwRequest {
            type_url: self.type_url,
            version_info: self.version_info,
            response_nonce: self.response_nonce,
            error: self.error_detail.map(ErrorDetail::from),
            names: self.resource_names,
        };
        (self.node, content)
    }
}

impl Request for DeltaRequest {
    type Content = message::DeltaRequest;

    fn split(self) -> (Option<Node>, Self::Content) {
        let content = message::DeltaRequest {
            type_url: self.type_url,
            response_nonce: self.response_nonce,
            error: self.error_detail.map(ErrorDetail::from),
            subscribe: self.resource_names_subscribe,
            unsubscribe: self.resource_names_unsubscribe,
            initial_versions: self
                .initial_resource_versions
                .into_iter()
                .map(|entry| (entry.key, entry.value))
                .collect(),
        };
        (self.node, content)
    }
}

impl From<Status> for ErrorDetail {
    fn from(status: Status) -> Self {
        Self { code: status.code, message: status.message }
    }
}

/// The protocol that a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// State of the world: `DiscoveryRequest` and `DiscoveryResponse`.
    Sotw,
    /// Incremental: `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`.
    Delta,
}

impl Protocol {
    /// `sotw` or `delta`, as metrics and the admin pages say.
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Sotw => "sotw",
            Protocol::Delta => "delta",
        }
    }
}

/// The `control_plane` field of every response of this process, encoded once per protocol (`xds.md` P07).
#[derive(Clone, Debug)]
pub struct ControlPlane {
    sotw: Bytes,
    delta: Bytes,
}

impl ControlPlane {
    /// The control plane with this `identifier`.
    pub fn new(identifier: &str) -> Self {
        let mut message = BytesMut::new();
        put_text(&mut message, 1, identifier);
        let field = |number| {
            let mut field = BytesMut::new();
            encode_key(number, WireType::LengthDelimited, &mut field);
            encode_varint(message.len() as u64, &mut field);
            field.put_slice(&message);
            field.freeze()
        };
        Self { sotw: field(6), delta: field(7) }
    }
}

/// The fields of a response that are a stream's own. With the body behind them they are the encoded
/// `DiscoveryResponse` or `DeltaDiscoveryResponse`: fields may stand in any order.
pub fn response_fields(protocol: Protocol, response: &Response, control_plane: &ControlPlane) -> Bytes {
    let control_plane = match protocol {
        Protocol::Sotw => &control_plane.sotw,
        Protocol::Delta => &control_plane.delta,
    };
    let Response { type_url, nonce, version, .. } = response;
    encode_fields(*type_url, *nonce, *version, control_plane)
}

/// `version_info` and `system_version_info` are both field 1, `type_url` is field 4 and `nonce` field 5 of both messages.
fn encode_fields(type_url: TypeUrl, nonce: Nonce, version: Version, control_plane: &[u8]) -> Bytes {
    let mut fields = BytesMut::with_capacity(128 + control_plane.len());
    encode_key(1, WireType::LengthDelimited, &mut fields);
    encode_varint(Version::TEXT_LEN as u64, &mut fields);
    fields.put_slice(&version.text());
    put_text(&mut fields, 4, type_url.as_str());
    put_text(&mut fields, 5, &nonce.to_string());
    fields.put_slice(control_plane);
    fields.freeze()
}

fn put_text(buffer: &mut BytesMut, number: u32, text: &str) {
    encode_key(number, WireType::LengthDelimited, buffer);
    encode_varint(text.len() as u64, buffer);
    buffer.put_slice(text.as_bytes());
}
