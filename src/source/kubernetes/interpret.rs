//! From what an API server sends to what is kept of it. Pure.
//!
//! Never keeps what no output reads: `managedFields`, the annotations of others (but for the version of Gateway API's
//! definitions), statuses (but for the addresses of Services).

use kube::api::DynamicObject;
use serde_json::{Map, Value};

use crate::{
    api::{self, Finding, Object, Observed, Parsed},
    model::{BUNDLE_VERSION_ANNOTATION, Kind, ObjectKey, ObjectName, Reason},
};

/// Annotations and labels with this in their domain are ours.
const OUR_DOMAIN: &str = "gateway.tailscale.com/";

/// What an object came to.
pub(super) struct Interpreted {
    pub(super) key: ObjectKey,
    /// The object; nothing when its kind's schema refuses it.
    pub(super) object: Option<Object>,
    /// Of kinds whose status is ours to write.
    pub(super) observed: Option<Observed>,
    /// Why the object is refused, and what of it is not known.
    pub(super) findings: Vec<Finding>,
}

impl Interpreted {
    /// Whether something in the object is not known to this program: it may be of a newer version.
    pub(super) fn ignored(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.reason == Reason::UnknownField)
    }
}

/// The key of an object of a kind.
pub(super) fn key_of(kind: Kind, namespace: Option<&str>, name: Option<&str>) -> ObjectKey {
    let namespace = if kind.namespaced() { namespace.unwrap_or_default() } else { "" };
    ObjectKey::new(kind, ObjectName::new(namespace, name.unwrap_or_default()))
}

/// Reads an object, and drops what is not kept.
pub(super) fn interpret(kind: Kind, object: DynamicObject) -> Interpreted {
    let DynamicObject { types: _, mut metadata, data } = object;
    let key = key_of(kind, metadata.namespace.as_deref(), metadata.name.as_deref());
    let mut fields = match data {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let status = if kind == Kind::Service { None } else { fields.remove("status") };
    let mut observed = kind.has_our_status().then(|| Observed {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        status: status.unwrap_or_default(),
        refused: Vec::new(),
    });
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.self_link = None;
    metadata.generate_name = None;
    metadata.finalizers = None;
    if let Some(annotations) = &mut metadata.annotations {
        let is_read = |key: &str| match kind {
            Kind::CustomResourceDefinition => key == BUNDLE_VERSION_ANNOTATION,
            _ => key.starts_with(OUR_DOMAIN),
        };
        annotations.retain(|key, _| is_read(key));
    }
    if metadata.annotations.as_ref().is_some_and(|annotations| annotations.is_empty()) {
        metadata.annotations = None;
    }
    fields.insert("metadata".to_owned(), serde_json::to_value(metadata).expect("metadata has string keys"));
    let Parsed { object, findings } = api::parse(kind, Value::Object(fields));
    if let (Some(observed), None) = (&mut observed, &object) {
        observed.refused.clone_from(&findings);
    }
    Interpreted { key, object, observed, findings }
}
