//! ListenerSet: listeners that somebody else than its author adds to a Gateway. Never decides whether the Gateway lets them.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::patterns, Listener, gateway_api_group, gateway_kind};
use crate::model::{Kind, ObjectName};

/// What a ListenerSet asks for.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "ListenerSet",
    plural = "listenersets",
    namespaced,
    derive = "PartialEq",
    doc = "Listeners that are added to a Gateway."
)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway, whose `allowedListeners` has to allow it.
    pub parent_ref: ListenerSetParent,
    /// The listeners. Names are unique in the set, and so is each combination of port, protocol and hostname.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map"), extend("x-kubernetes-list-map-keys" = ["name"]))]
    pub listeners: Vec<Listener>,
}

/// Refers to the Gateway of a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerSetParent {
    /// API group; `gateway.networking.k8s.io` by default.
    #[serde(default = "gateway_api_group")]
    #[schemars(length(max = 253), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// Kind; `Gateway` by default.
    #[serde(default = "gateway_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::KIND))]
    pub kind: String,
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Gateway; by default that of the ListenerSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::DNS_LABEL))]
    pub namespace: Option<String>,
}

impl ListenerSet {
    /// The Gateway that it names; nothing when it names something else.
    pub fn gateway(&self) -> Option<ObjectName> {
        let parent = &self.spec.parent_ref;
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let named = Kind::find(&parent.group, &parent.kind) == Some(Kind::Gateway);
        named.then(|| ObjectName::new(parent.namespace.as_deref().unwrap_or(own), parent.name.as_str()))
    }
}
