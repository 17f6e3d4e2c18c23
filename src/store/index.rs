//! Joins that many outputs need, maintained when an object is written.

use std::sync::Arc;

use crate::{
    api::Object,
    model::{Kind, ObjectName},
};

/// A question with a set of objects as its answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexKey {
    /// All objects of a kind.
    All(Kind),
    /// All objects of a kind in a namespace.
    InNamespace(Kind, Arc<str>),
    /// The EndpointSlices of a Service.
    SlicesOf(ObjectName),
    /// The TailscaleGateways whose `gatewayRef` names a Gateway or a ListenerSet.
    TailscaleGatewaysOf(ObjectName),
    /// The ListenerSets whose `parentRef` names a Gateway.
    ListenerSetsOf(ObjectName),
    /// The TailscaleEndpoints whose `spec.tailnet` is this text.
    EndpointsOn(Arc<str>),
}

/// The questions that have this object in their answers.
pub(super) fn index_keys(object: &Object) -> Vec<IndexKey> {
    let key = object.key();
    let mut keys = vec![IndexKey::All(key.kind)];
    if key.kind == Kind::ReferenceGrant {
        keys.push(IndexKey::InNamespace(key.kind, Arc::clone(&key.name.namespace)));
    }
    match object {
        Object::EndpointSlice(slice) => {
            if let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL)) {
                keys.push(IndexKey::SlicesOf(ObjectName::new(key.name.namespace, service.as_str())));
            }
        }
        Object::TailscaleGateway(gateway) => {
            let reference = &gateway.spec.gateway_ref;
            let namespace = reference.namespace.as_deref().unwrap_or(&key.name.namespace);
            keys.push(IndexKey::TailscaleGatewaysOf(ObjectName::new(namespace, reference.name.as_str())));
        }
        Object::ListenerSet(set) => {
            keys.extend(set.gateway().map(IndexKey::ListenerSetsOf));
        }
        Object::TailscaleEndpoints(endpoints) => {
            keys.push(IndexKey::EndpointsOn(endpoints.spec.tailnet.as_str().into()))
        }
        _ => {}
    }
    keys
}

/// The label that ties an EndpointSlice to its Service (Kubernetes, "EndpointSlices: ownership").
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
