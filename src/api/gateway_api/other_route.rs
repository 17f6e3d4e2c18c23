//! GRPCRoute, TLSRoute, TCPRoute and UDPRoute: routes that Gateways of other controllers have. Never decides what one means.
//!
//! The limits are those of the oldest version that is read: `v1` allows a single rule in the last three.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::patterns, BackendObjectReference, DefaultScope, HttpBackendRef, HttpHeaderMatch, HttpRouteFilter, MatchType,
    ParentReference, SessionPersistence,
};

/// What a GRPCRoute asks for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GRPCRoute",
    root = "GrpcRoute",
    plural = "grpcroutes",
    namespaced,
    derive = "PartialEq",
    doc = "Hands gRPC requests of Gateways to backends."
)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// Gateways, or listeners of them, that the route wants to be attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// Experimental: whether default Gateways are parents too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<DefaultScope>,
    /// Hostnames that requests have to be for; `*` is allowed as the first label. Those of the listeners when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = patterns::HOSTNAME)))]
    pub hostnames: Vec<String>,
    /// What is done with which requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rules: Vec<GrpcRouteRule>,
}

/// What is done with the requests that any of its matches takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteRule {
    /// Name of the rule, unique in the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub name: Option<String>,
    /// Which requests; any of them is enough, and without any it is every request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub matches: Vec<GrpcRouteMatch>,
    /// What is done to the request and its response: those of an HTTPRoute that only change headers, mirror or refer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub filters: Vec<HttpRouteFilter>,
    /// Where requests go, in proportion to weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<HttpBackendRef>,
    /// Experimental: how requests of one session find the same backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

/// Which requests: those that have all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcRouteMatch {
    /// What is called; everything when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Headers; all have to match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map"), extend("x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HttpHeaderMatch>,
}

/// Which services and methods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcMethodMatch {
    /// How both are compared; `Exact` by default.
    #[serde(rename = "type", default)]
    pub type_: MatchType,
    /// Service with its package; every service when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub service: Option<String>,
    /// Method; every method when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub method: Option<String>,
}

/// What a TLSRoute asks for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "TLSRoute",
    root = "TlsRoute",
    plural = "tlsroutes",
    namespaced,
    derive = "PartialEq",
    doc = "Hands TLS connections of Gateways to backends."
)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// What routes of connections and datagrams have in common.
    #[serde(flatten)]
    pub passing: PassingRoute,
    /// Names that clients ask for by SNI; `*` is allowed as the first label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 253), regex(pattern = patterns::HOSTNAME)))]
    pub hostnames: Vec<String>,
}

/// What a TCPRoute asks for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "TCPRoute",
    root = "TcpRoute",
    plural = "tcproutes",
    namespaced,
    derive = "PartialEq",
    doc = "Hands connections of Gateways to backends."
)]
#[serde(rename_all = "camelCase")]
pub struct TcpRouteSpec {
    /// What routes of connections and datagrams have in common.
    #[serde(flatten)]
    pub passing: PassingRoute,
}

/// What a UDPRoute asks for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "UDPRoute",
    root = "UdpRoute",
    plural = "udproutes",
    namespaced,
    derive = "PartialEq",
    doc = "Hands datagrams of Gateways to backends."
)]
#[serde(rename_all = "camelCase")]
pub struct UdpRouteSpec {
    /// What routes of connections and datagrams have in common.
    #[serde(flatten)]
    pub passing: PassingRoute,
}

/// What routes of connections and datagrams have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassingRoute {
    /// Gateways, or listeners of them, that the route wants to be attached to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// Experimental: whether default Gateways are parents too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<DefaultScope>,
    /// Where connections or datagrams go.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<PassingRouteRule>,
}

/// Where connections or datagrams go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassingRouteRule {
    /// Name of the rule, unique in the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub name: Option<String>,
    /// The backends, in proportion to their weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<PassingBackendRef>,
}

/// Where a share of the connections or datagrams goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PassingBackendRef {
    /// The backend; its fields stand beside `weight` in a manifest.
    #[serde(flatten)]
    pub object: BackendObjectReference,
    /// Share, in proportion to the sum of all weights of the rule; 1 by default, 0 for none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
}

fn one() -> u32 {
    1
}
