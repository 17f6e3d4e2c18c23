//! The kinds of Gateway API v1.6 that this program reads, as data, with the limits of the standard channel.
//!
//! Fields of the experimental channel that stand on those kinds (`retry`, `sessionPersistence`, `externalAuth`,
//! `useDefaultGateways`, `defaultScope`) are read too, so that an object using them is not refused. Never decides what a
//! field means for Envoy. Limits and defaults are those of the CRDs in `config/crd` of the Gateway API release.

mod class;
mod filter;
mod gateway;
mod grant;
mod listener_set;
mod other_route;
mod route;
mod rules;

pub use class::*;
pub use filter::*;
pub use gateway::*;
pub use grant::*;
pub use listener_set::*;
pub use other_route::*;
pub use route::*;
pub(super) use rules::{gateway_rules, grpc_route_rules, listeners_rules, passing_route_rules, route_rules};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;

/// The API group of Gateway API.
pub const GATEWAY_API_GROUP: &str = "gateway.networking.k8s.io";

pub(super) fn gateway_api_group() -> String {
    GATEWAY_API_GROUP.into()
}

pub(super) fn gateway_kind() -> String {
    "Gateway".into()
}

pub(super) fn service_kind() -> String {
    "Service".into()
}

pub(super) fn secret_kind() -> String {
    "Secret".into()
}

/// Refers to a Secret or to something that stands for one, in any namespace that allows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SecretObjectReference {
    /// API group of the object; empty, the default, for Kubernetes' core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind of the object; `Secret` by default.
    #[serde(default = "secret_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object; by default the namespace of the object that refers to it. Another namespace has to
    /// permit the reference with a ReferenceGrant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
}

/// Refers to an object of any kind, with every part but the namespace written out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ObjectReference {
    /// API group of the object; empty for Kubernetes' core group.
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object; by default the namespace of the object that refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
}

/// Refers to an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct LocalObjectReference {
    /// API group of the object; empty for Kubernetes' core group.
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Refers to what a request can be sent to: a Service, or one of our own kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct BackendObjectReference {
    /// API group of the backend; empty, the default, for Kubernetes' core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind of the backend; `Service` by default.
    #[serde(default = "service_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the backend.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the backend; by default the namespace of the route. Another namespace has to permit the reference
    /// with a ReferenceGrant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
    /// Port of the backend. A Service needs one: the number in its `spec.ports`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

/// Refers to what a route wants to be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group of the parent; Gateway API's by default.
    #[serde(default = "gateway_api_group")]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind of the parent; `Gateway` by default.
    #[serde(default = "gateway_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Namespace of the parent; by default the namespace of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
    /// Name of the parent.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the one listener to attach to; all of the parent's listeners when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub section_name: Option<String>,
    /// Port of the listeners to attach to; listeners of every port when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}
