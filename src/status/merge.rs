//! From the status that an object has to the one that it should have: other controllers' entries stay, times change only with
//! what they are the time of, and what is equal is not written.
//!
//! Pure: the time is an argument.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    ObjectStatus, SUPPORTED_FEATURES,
    conditions::{conditions_json, parent_json},
};
use crate::model::Kind;

/// Types of condition that are ours on objects whose status others write too. One that is not made any more is taken away.
const OURS: [&str; 8] = [
    "Accepted",
    "Conflicted",
    "Effective",
    "PartiallyInvalid",
    "Programmed",
    "Ready",
    "ResolvedRefs",
    "SupportedVersion",
];

/// The status to write, or nothing when the object has it already.
///
/// `wanted` is nothing for an object that is none of our business any more: of a route our entries are taken away then (Gateway
/// API, `RouteStatus.parents`), of others nothing is touched.
pub fn merge(
    kind: Kind,
    current: &Value,
    wanted: Option<&ObjectStatus>,
    controller: &str,
    now: Timestamp,
) -> Option<Value> {
    let merged = match (kind, wanted) {
        (Kind::HttpRoute, wanted) => route(current, wanted, controller, now),
        (_, None) => return None,
        (Kind::GatewayClass, Some(wanted)) => {
            let mut status = shared(current, wanted, now);
            status["supportedFeatures"] = SUPPORTED_FEATURES.iter().map(|name| json!({"name": name})).collect();
            status
        }
        (Kind::Gateway, Some(wanted)) => shared(current, wanted, now),
        (Kind::TailscaleRoutePolicy, Some(wanted)) => policy(current, wanted, now),
        (_, Some(wanted)) => own(current, wanted, now),
    };
    (!is_same(&merged, current)).then_some(merged)
}

/// The status of a kind that nobody else writes: all of it is ours, fields that are not filled in included.
fn own(current: &Value, wanted: &ObjectStatus, now: Timestamp) -> Value {
    let mut status = wanted.to_json();
    status["conditions"] = timed(&current["conditions"], conditions_json(&wanted.conditions), now);
    status
}

/// The status of a kind that an Envoy Gateway takes for a policy. It replaces the whole by what it has to say itself, which
/// stays, and ours is put beside it again.
fn policy(current: &Value, wanted: &ObjectStatus, now: Timestamp) -> Value {
    let mut status = own(current, wanted, now);
    if let Some(ancestors) = current.get("ancestors") {
        status["ancestors"] = ancestors.clone();
    }
    status
}

/// The status of a kind on which others may have conditions of their own.
fn shared(current: &Value, wanted: &ObjectStatus, now: Timestamp) -> Value {
    let mut status = current.as_object().cloned().unwrap_or_default();
    let ours = wanted.to_json();
    for field in ["addresses", "listeners"] {
        match ours.get(field) {
            Some(value) => status.insert(field.to_owned(), value.clone()),
            None => status.remove(field),
        };
    }
    let mut conditions = timed(&current["conditions"], conditions_json(&wanted.conditions), now);
    let others = list(&current["conditions"]).iter().filter(|condition| !is_ours(condition));
    conditions.as_array_mut().expect("conditions are a list").extend(others.cloned());
    status.insert("conditions".to_owned(), conditions);
    let before = list(&current["listeners"]);
    for listener in status.get_mut("listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        let before = before.iter().find(|before| before["name"] == listener["name"]);
        let conditions = listener["conditions"].take();
        listener["conditions"] = timed(before.map_or(&Value::Null, |before| &before["conditions"]), conditions, now);
    }
    Value::Object(status)
}

/// Our entries of a route's parents, in the order of its references, and the others' before them as they are.
fn route(current: &Value, wanted: Option<&ObjectStatus>, controller: &str, now: Timestamp) -> Value {
    let mut status = current.as_object().cloned().unwrap_or_default();
    let is_ours = |parent: &&Value| parent["controllerName"] == controller;
    let before: Vec<&Value> = list(&current["parents"]).iter().filter(is_ours).collect();
    let mut parents: Vec<Value> = list(&current["parents"]).iter().filter(|parent| !is_ours(parent)).cloned().collect();
    for parent in wanted.into_iter().flat_map(|wanted| &wanted.parents).filter(|parent| parent.exists) {
        let reference = parent_json(&parent.parent);
        let before = before.iter().find(|before| is_same(&before["parentRef"], &reference));
        let conditions = conditions_json(&parent.conditions);
        let conditions = timed(before.map_or(&Value::Null, |before| &before["conditions"]), conditions, now);
        parents.push(json!({"parentRef": reference, "controllerName": controller, "conditions": conditions}));
    }
    // A route that nobody speaks for had no status to begin with; an empty list is what the field's schema asks for.
    if !parents.is_empty() || status.contains_key("parents") {
        status.insert("parents".to_owned(), Value::Array(parents));
    }
    Value::Object(status)
}

/// Conditions with `lastTransitionTime`: that of the same condition before, unless its status is another one now (Kubernetes
/// API conventions, "Typical status properties").
fn timed(before: &Value, mut conditions: Value, now: Timestamp) -> Value {
    for condition in conditions.as_array_mut().into_iter().flatten() {
        let same = list(before)
            .iter()
            .find(|before| before["type"] == condition["type"] && before["status"] == condition["status"]);
        let since = same.map(|same| &same["lastTransitionTime"]).filter(|since| since.is_string());
        condition["lastTransitionTime"] = since.cloned().unwrap_or_else(|| json!(seconds(now)));
    }
    conditions
}

/// Kubernetes' `metav1.Time` has whole seconds.
fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn is_ours(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|name| OURS.contains(&name))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether two values mean the same: a field that is null, or an empty text, list or mapping, is as good as none, since an API
/// server leaves those out; conditions have no order.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let covered = |one: &Map<String, Value>, other: &Map<String, Value>| {
                one.iter().all(|(key, value)| is_same(value, other.get(key).unwrap_or(&Value::Null)))
            };
            covered(left, right) && covered(right, left)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && if left.iter().all(|item| item["type"].is_string() && item["status"].is_string()) {
                    left.iter().all(|item| right.iter().any(|other| is_same(item, other)))
                } else {
                    left.iter().zip(right).all(|(left, right)| is_same(left, right))
                }
        }
        (left, right) => left == right || is_empty(left) && is_empty(right),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}
