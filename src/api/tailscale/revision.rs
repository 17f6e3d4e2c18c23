//! TailscaleGatewayRevision: tells an Envoy Gateway that what it is told by us about one of its Gateways is not what it was.
//!
//! Never keeps anything of ours in the status: an Envoy Gateway takes the whole of it (`envoy-gateway.md` §3).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::patterns;
use crate::model::{
    GATEWAY_NAME_LABEL, GatewayRevision, Kind, MANAGED_BY, MANAGED_BY_LABEL, ObjectName, gateway_label,
};

/// What an Envoy Gateway is told by us about one of its Gateways, as one word that changes with it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.tailscale.com",
    version = "v1alpha1",
    kind = "TailscaleGatewayRevision",
    plural = "tailscalegatewayrevisions",
    namespaced,
    category = "tailscale-gateway",
    status = "TailscaleGatewayRevisionStatus",
    derive = "PartialEq",
    doc = "What an Envoy Gateway is told by this program about one of its Gateways, as one word that changes with it. Written by this program; an Envoy Gateway that has the kind among its policyResources translates the Gateway again when it changes.",
    printcolumn(name = "Gateway", type_ = "string", json_path = ".spec.targetRefs[*].name"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".spec.revision"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TailscaleGatewayRevisionSpec {
    /// The Gateway, in the object's namespace. An Envoy Gateway that meets an object without any does not get beyond it.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<RevisionTarget>,
    /// Another one means that the Gateway has to be translated again.
    #[schemars(length(min = 1, max = 64), regex(pattern = patterns::HEX))]
    pub revision: String,
}

/// A Gateway in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionTarget {
    /// API group: `gateway.networking.k8s.io`.
    #[schemars(extend("enum" = ["gateway.networking.k8s.io"]))]
    pub group: String,
    /// Kind: `Gateway`.
    #[schemars(extend("enum" = ["Gateway"]))]
    pub kind: String,
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What an Envoy Gateway says about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TailscaleGatewayRevisionStatus {
    /// What each controller says about it for each Gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ancestors")]
    pub ancestors: Vec<Value>,
}

/// Whatever controllers write: one that finds less than it has written would write again and again.
pub(super) fn ancestors(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "What each controller says about it for each Gateway, as Gateway API has it (PolicyAncestorStatus).",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    })
}

impl TailscaleGatewayRevision {
    /// The object for a Gateway.
    pub fn of(gateway: &ObjectName, revision: &GatewayRevision) -> Self {
        let target = RevisionTarget {
            group: Kind::Gateway.group().to_owned(),
            kind: Kind::Gateway.as_str().to_owned(),
            name: gateway.name.to_string(),
        };
        let number = format!("{:032x}", revision.number);
        let spec = TailscaleGatewayRevisionSpec { target_refs: vec![target], revision: number };
        let mut object = Self::new(&gateway.name, spec);
        object.metadata.namespace = Some(gateway.namespace.to_string());
        object.metadata.labels = Some(
            [(MANAGED_BY_LABEL, MANAGED_BY.to_owned()), (GATEWAY_NAME_LABEL, gateway_label(&gateway.name))]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
        );
        object.metadata.owner_references = revision.owner.as_ref().map(|uid| vec![owner(gateway, uid)]);
        object
    }

    /// Whether this program has made it.
    pub fn is_ours(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(MANAGED_BY_LABEL)).is_some_and(|manager| manager == MANAGED_BY)
    }

    /// What it says; nothing when it is not as this program writes it.
    pub fn revision(&self) -> Option<GatewayRevision> {
        let gateway = ObjectName::new(self.metadata.namespace.as_deref()?, self.metadata.name.as_deref()?);
        let number = u128::from_str_radix(&self.spec.revision, 16).ok()?;
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.kind == Kind::Gateway.as_str());
        let revision = GatewayRevision { number, owner: owner.map(|owner| owner.uid.as_str().into()) };
        let whole = Self::of(&gateway, &revision);
        let labels = self.metadata.labels.clone().unwrap_or_default();
        let is_labelled = whole.metadata.labels.iter().flatten().all(|(label, value)| labels.get(label) == Some(value));
        let is_owned = whole.metadata.owner_references.iter().flatten().all(|owner| owners.contains(owner));
        (whole.spec == self.spec && is_labelled && is_owned).then_some(revision)
    }
}

/// Without `blockOwnerDeletion`, for which one may need a permission on the owner, and not as its controller: the Gateway is
/// another's.
fn owner(gateway: &ObjectName, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", Kind::Gateway.group(), Kind::Gateway.versions()[0]),
        kind: Kind::Gateway.as_str().to_owned(),
        name: gateway.name.to_string(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    }
}
