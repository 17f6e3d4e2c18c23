//! The messages of Envoy Gateway's extension protocol, `envoygateway.extension` (its `proto/extension/*.proto`, v1.9).
//!
//! Envoy's messages in them are byte strings here: on the wire both are the same, and nothing that another version of Envoy's
//! API has is lost.

use bytes::Bytes;
use prost::Message;

/// A request or response of a hook for one object: the request has a context in field 2, the response has not.
#[derive(Clone, PartialEq, Message)]
pub struct Single {
    /// The route, virtual host, listener, cluster or endpoints: an encoded message.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub object: Option<Bytes>,
    /// What the object has to do with the extension.
    #[prost(message, optional, tag = "2")]
    pub context: Option<Context>,
}

/// The context of a request. Virtual hosts and endpoints have an empty one.
#[derive(Clone, PartialEq, Message)]
pub struct Context {
    /// Resources of the extension: filters and backends of a route, backends of a cluster, policies of a listener or Gateway.
    #[prost(message, repeated, tag = "1")]
    pub extension_resources: Vec<ExtensionResource>,
    /// The hostnames of a route.
    #[prost(string, repeated, tag = "2")]
    pub hostnames: Vec<String>,
    /// Policies of the extension about a route.
    #[prost(message, repeated, tag = "3")]
    pub extension_policies: Vec<ExtensionResource>,
}

/// A Kubernetes object.
#[derive(Clone, PartialEq, Message)]
pub struct ExtensionResource {
    /// The object as JSON.
    #[prost(bytes = "bytes", tag = "1")]
    pub unstructured_bytes: Bytes,
}

/// `PostTranslateModifyRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct PostTranslateModifyRequest {
    /// Policies about the Gateway.
    #[prost(message, optional, tag = "1")]
    pub post_translate_context: Option<Context>,
    /// `envoy.config.cluster.v3.Cluster`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub clusters: Vec<Bytes>,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub secrets: Vec<Bytes>,
    /// `envoy.config.listener.v3.Listener`.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub listeners: Vec<Bytes>,
    /// `envoy.config.route.v3.RouteConfiguration`.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub routes: Vec<Bytes>,
}

/// `PostTranslateModifyResponse`: each list takes the place of the one in the request.
#[derive(Clone, PartialEq, Message)]
pub struct PostTranslateModifyResponse {
    /// `envoy.config.cluster.v3.Cluster`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub clusters: Vec<Bytes>,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub secrets: Vec<Bytes>,
    /// `envoy.config.listener.v3.Listener`.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub listeners: Vec<Bytes>,
    /// `envoy.config.route.v3.RouteConfiguration`.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub routes: Vec<Bytes>,
}
