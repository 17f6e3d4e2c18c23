//! How our kinds refer to other objects. Group and kind may be left out wherever one kind is meant; never resolves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        gateway_api::{gateway_api_group, gateway_kind},
        patterns,
    },
    TAILSCALE_GROUP,
};

fn tailscale_group() -> String {
    TAILSCALE_GROUP.into()
}

fn tailnet_kind() -> String {
    "TailscaleTailnet".into()
}

/// Refers to a Gateway, or to the listeners that a ListenerSet adds to one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReference {
    /// API group; `gateway.networking.k8s.io` by default. A kind of Gateway API is meant whatever stands here.
    #[serde(default = "gateway_api_group")]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind: `Gateway`, the default, for the listeners of its own; or `ListenerSet`, of a Gateway of an Envoy Gateway.
    #[serde(default = "gateway_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the Gateway or ListenerSet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Gateway or ListenerSet; by default the namespace of the object that refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
    /// Name of one listener of it; all listeners when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub section_name: Option<String>,
    /// Port of the listeners; listeners of every port when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

/// Refers to a TailscaleTailnet, which belongs to no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailnetReference {
    /// API group; `gateway.tailscale.com` by default.
    #[serde(default = "tailscale_group")]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind; `TailscaleTailnet` by default.
    #[serde(default = "tailnet_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the TailscaleTailnet.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Has no effect, because a TailscaleTailnet belongs to no namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
    /// Has no effect, because a TailscaleTailnet has no sections.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub section_name: Option<String>,
}

/// Refers to an object that a policy is about, or that a status speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetReference {
    /// API group; by default the one that `kind` belongs to: `gateway.tailscale.com` for kinds whose name begins with
    /// Tailscale, else `gateway.networking.k8s.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: Option<String>,
    /// Kind; `Gateway` by default.
    #[serde(default = "gateway_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the object; by default the namespace of the object that refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
    /// Name of one section of the object: a listener of a Gateway, a rule of an HTTPRoute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DNS_NAME))]
    pub section_name: Option<String>,
}
