//! An object of a kind that is created for Gateways, as an API server has it. Never decides whether that is right.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::{COMPONENT, COMPONENT_LABEL, Kind, MANAGED_BY, MANAGED_BY_LABEL, ObjectName, OwnedKey, OwnedKind};

/// What an API server has of an object that was created for a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedObject {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The Gateway that owns it, by its `metadata.ownerReferences`.
    pub gateway: Option<ObjectName>,
    /// It has the labels by which our objects are found.
    pub labelled: bool,
    /// It is being deleted, and waits for something.
    pub deleting: bool,
    /// All of it but `status` and what nobody desires: `metadata` with labels, annotations and owners alone.
    pub manifest: Value,
}

/// What is seen of the objects that were created for Gateways.
#[derive(Clone, Debug)]
pub enum OwnedNews {
    /// All objects of a kind, in place of those that were known.
    Listed(OwnedKind, Vec<(OwnedKey, Arc<OwnedObject>)>),
    /// An object that is new or other.
    Changed(OwnedKey, Arc<OwnedObject>),
    /// An object that is there no more.
    Gone(OwnedKey),
    /// Objects of a kind are not seen, for this reason; what was known may be out of date.
    Failing(OwnedKind, String),
}

impl OwnedObject {
    /// Reads an object of a kind; nothing of what has no name.
    pub fn read(kind: OwnedKind, mut object: Value) -> Option<(OwnedKey, Self)> {
        let mut metadata = object["metadata"].take();
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        if name.is_empty() {
            return None;
        }
        let label = |key: &str, value: &str| metadata["labels"][key] == value;
        let owned = Self {
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            gateway: owner(&metadata, &namespace),
            labelled: label(MANAGED_BY_LABEL, MANAGED_BY) && label(COMPONENT_LABEL, COMPONENT),
            deleting: metadata["deletionTimestamp"].is_string(),
            manifest: Value::Null,
        };
        if let Some(members) = metadata.as_object_mut() {
            members.retain(|field, _| {
                matches!(field.as_str(), "namespace" | "name" | "labels" | "annotations" | "ownerReferences")
            });
        }
        if let Some(members) = object.as_object_mut() {
            members.remove("status");
        }
        object["metadata"] = metadata;
        // The items of a list need not say what they are.
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.as_str());
        let key = OwnedKey::new(kind, ObjectName::new(namespace, name));
        Some((key, Self { manifest: object, ..owned }))
    }
}

/// The Gateway among an object's owners.
fn owner(metadata: &Value, namespace: &str) -> Option<ObjectName> {
    let owners = metadata["ownerReferences"].as_array()?;
    let is_gateway = |owner: &&Value| {
        let group = owner["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
        owner["kind"] == Kind::Gateway.as_str() && group == Some(Kind::Gateway.group())
    };
    let owner = owners.iter().find(is_gateway)?;
    Some(ObjectName::new(namespace, owner["name"].as_str()?))
}
