//! From what should exist and what exists to what is done about it. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Plan, PlannedObject,
    covers::{Difference, differences},
};
use crate::{
    api::OwnedObject,
    model::{ObjectName, OwnedKey, OwnedKind},
};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The object is not there, as far as is known.
    Create(PlannedObject),
    /// The object is there and other than it should be.
    Change {
        /// What it should be.
        object: PlannedObject,
        /// It has a number of pods that is no longer ours to say and must not be lost: a Deployment of which an API server
        /// hears no number any more has one pod.
        keep_replicas: bool,
    },
    /// The object should not be there.
    Delete {
        /// Which one.
        key: OwnedKey,
        /// Which one of that name.
        uid: String,
    },
    /// Something else has the object's name, and it stays as it is.
    Taken(OwnedKey),
}

/// What stayed different after an object was applied: the API server writes values in its own way, and applying them again
/// would change nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    object: PlannedObject,
    differences: Vec<Difference>,
}

impl Settled {
    /// What an API server made of an object that was applied; nothing when it took every word of it.
    pub fn new(object: PlannedObject, applied: &OwnedObject) -> Option<Self> {
        let differences = differences(&object.manifest, &applied.manifest);
        (!differences.is_empty()).then_some(Self { object, differences })
    }
}

/// What is done for a Gateway. `observed` has what it owns and what has the names of what is planned; `sees` tells of which kinds it is known what exists; nothing is done about the others.
pub fn steps(
    gateway: &ObjectName,
    plan: Option<&Plan>,
    observed: &BTreeMap<OwnedKey, Arc<OwnedObject>>,
    settled: &HashMap<OwnedKey, Settled>,
    sees: impl Fn(OwnedKind) -> bool,
) -> Vec<Step> {
    let (certificate, objects): (_, &[PlannedObject]) = match plan {
        Some(Plan::Keep { .. }) => return Vec::new(),
        Some(Plan::Objects { certificate, objects }) => {
            (Some(OwnedKey::new(OwnedKind::Secret, certificate.secret.clone())), objects)
        }
        None => (None, &[]),
    };
    let made = objects.iter().filter(|object| sees(object.key.kind)).filter_map(|object| {
        step(gateway, object, observed.get(&object.key).map(|there| &**there), settled.get(&object.key))
    });
    let is_planned =
        |key: &OwnedKey| Some(key) == certificate.as_ref() || objects.iter().any(|object| object.key == *key);
    // Only what has both our labels and this Gateway as its owner; last what others refer to.
    let surplus = observed
        .iter()
        .rev()
        .filter(|(key, there)| {
            there.gateway.as_ref() == Some(gateway) && there.labelled && !there.deleting && !is_planned(key)
        })
        .filter(|(key, _)| sees(key.kind))
        .map(|(key, there)| Step::Delete { key: key.clone(), uid: there.uid.clone() });
    made.chain(surplus).collect()
}

fn step(
    gateway: &ObjectName,
    object: &PlannedObject,
    there: Option<&OwnedObject>,
    settled: Option<&Settled>,
) -> Option<Step> {
    let Some(there) = there else { return Some(Step::Create(object.clone())) };
    if !may_write(gateway, there) {
        return Some(Step::Taken(object.key.clone()));
    }
    // One that goes is made again when it is gone.
    if there.deleting {
        return None;
    }
    let found = differences(&object.manifest, &there.manifest);
    let is_settled = settled.is_some_and(|settled| settled.object == *object && settled.differences == found);
    if found.is_empty() || is_settled {
        return None;
    }
    let replicas = |manifest: &serde_json::Value| manifest["spec"]["replicas"].is_number();
    let keep_replicas =
        object.key.kind == OwnedKind::Deployment && !replicas(&object.manifest) && replicas(&there.manifest);
    Some(Step::Change { object: object.clone(), keep_replicas })
}

/// Whether an object is ours to write for a Gateway: it is the Gateway's, or nobody's and has our labels.
pub fn may_write(gateway: &ObjectName, there: &OwnedObject) -> bool {
    match &there.gateway {
        Some(owner) => owner == gateway,
        None => there.labelled,
    }
}
