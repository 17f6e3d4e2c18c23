//! What all objects of a Gateway have in common: labels, annotations, and the Gateway as their owner.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::GatewayInfrastructure,
    model::{
        COMPONENT, COMPONENT_LABEL, GATEWAY_NAME_LABEL, Kind, MANAGED_BY, MANAGED_BY_LABEL, ObjectName, gateway_label,
    },
};

/// Whether a label is one by which objects are found, or known to be ours.
pub(super) fn is_reserved(label: &str) -> bool {
    [MANAGED_BY_LABEL, COMPONENT_LABEL, GATEWAY_NAME_LABEL].contains(&label)
}

/// What all objects of a Gateway have in common.
pub(super) struct Common {
    /// Those that the Gateway asks for, and ours, which win.
    pub(super) labels: BTreeMap<String, String>,
    /// Those that the Gateway asks for.
    pub(super) annotations: BTreeMap<String, String>,
    owner: Value,
    gateway_label: String,
}

impl Common {
    pub(super) fn new(gateway: &ObjectName, uid: &str, infrastructure: Option<&GatewayInfrastructure>) -> Self {
        let gateway_label = gateway_label(&gateway.name);
        let mut labels = infrastructure.map(|asked| asked.labels.clone()).unwrap_or_default();
        for (key, value) in
            [(MANAGED_BY_LABEL, MANAGED_BY), (COMPONENT_LABEL, COMPONENT), (GATEWAY_NAME_LABEL, gateway_label.as_str())]
        {
            labels.insert(key.to_owned(), value.to_owned());
        }
        Self {
            labels,
            annotations: infrastructure.map(|asked| asked.annotations.clone()).unwrap_or_default(),
            // Without blockOwnerDeletion, for which one may need a permission on the owner (Kubernetes, admission plugin
            // OwnerReferencesPermissionEnforcement).
            owner: json!({
                "apiVersion": format!("{}/{}", Kind::Gateway.group(), Kind::Gateway.versions()[0]),
                "kind": Kind::Gateway.as_str(),
                "name": &*gateway.name,
                "uid": uid,
                "controller": true,
            }),
            gateway_label,
        }
    }

    /// The `metadata` of an object, with more annotations of its own.
    pub(super) fn metadata(&self, name: &ObjectName, more: Option<&BTreeMap<String, String>>) -> Value {
        let mut annotations = self.annotations.clone();
        annotations.extend(more.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        json!({
            "namespace": &*name.namespace,
            "name": &*name.name,
            "labels": self.labels,
            "annotations": annotations,
            "ownerReferences": [self.owner],
        })
    }

    /// The labels by which the Gateway's pods are found. A Deployment's can not be changed: they depend on nothing but the
    /// Gateway's name.
    pub(super) fn selector(&self) -> Value {
        json!({ COMPONENT_LABEL: COMPONENT, GATEWAY_NAME_LABEL: self.gateway_label })
    }
}
