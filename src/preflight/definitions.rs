//! The CustomResourceDefinitions in a cluster beside those of this version.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Finding, answers::Answer};
use crate::{
    api,
    model::{BUNDLE_VERSION_ANNOTATION, Kind},
};

/// Gateway API's definitions without which this program or an Envoy Gateway does not work.
pub const GATEWAY_API_DEFINITIONS: [Kind; 4] =
    [Kind::GatewayClass, Kind::Gateway, Kind::HttpRoute, Kind::ReferenceGrant];

const APPLY: &str = "tailscale-gateway crds | kubectl apply --server-side --filename -";

/// The definitions that are looked at.
pub(super) fn names() -> Vec<String> {
    let ours = ours().into_iter().map(|definition| name(&definition).to_owned());
    ours.chain(GATEWAY_API_DEFINITIONS.iter().map(|kind| format!("{}.{}", kind.plural(), kind.group()))).collect()
}

fn ours() -> Vec<Value> {
    let json = |definition| serde_json::to_value(definition).expect("a definition has string keys");
    api::crds().iter().map(json).collect()
}

fn name(definition: &Value) -> &str {
    definition["metadata"]["name"].as_str().unwrap_or_default()
}

/// What is wrong with the definitions in a cluster.
pub(super) fn check(found: &BTreeMap<String, Answer<Option<Value>>>) -> Vec<Finding> {
    let (ours, mut findings) = (ours(), Vec::new());
    let (mut equal, mut bundles) = (0, BTreeSet::new());
    for (name, answer) in found {
        let place = format!("CustomResourceDefinition {name}");
        let wanted = ours.iter().find(|definition| self::name(definition) == name);
        let definition = match answer {
            Ok(Some(definition)) => definition,
            Ok(None) => {
                findings.push(match wanted {
                    Some(_) => Finding::error(place, "is missing")
                        .effect("an Envoy Gateway that is told of the kind does not get along without it, and this program ignores it")
                        .remedy(format!("apply it before Envoy Gateway is told: {APPLY}")),
                    None => Finding::error(place, "is missing")
                        .effect("neither Envoy Gateway nor this program has Gateways without it")
                        .remedy("install Gateway API's definitions, as Envoy Gateway's own installation does"),
                });
                continue;
            }
            Err(words) => {
                let finding = Finding::warning(place, format!("is not looked at: {words}"));
                findings.push(
                    finding
                        .remedy("allow to get customresourcedefinitions, or see yourself that it is of this version"),
                );
                continue;
            }
        };
        let before = findings.len();
        if !is_established(definition) {
            findings.push(
                Finding::error(&place, "is not established")
                    .effect("the API server does not have the kind yet")
                    .remedy("see its conditions, and wait or mend it before Envoy Gateway is told"),
            );
        }
        match wanted {
            Some(wanted) => findings.extend(compare(place, wanted, definition)),
            None => bundles.extend(definition["metadata"]["annotations"][BUNDLE_VERSION_ANNOTATION].as_str()),
        }
        equal += usize::from(wanted.is_some() && findings.len() == before);
    }
    if findings.is_empty() && !found.is_empty() {
        let bundles: Vec<&str> = bundles.into_iter().collect();
        let what = format!(
            "{equal} of gateway.tailscale.com are those of this version; Gateway API's are of {}",
            bundles.join(", ")
        );
        findings.push(Finding::ok("CustomResourceDefinitions", what));
    }
    findings
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

/// How a definition of ours differs from this version's.
fn compare(place: String, ours: &Value, theirs: &Value) -> Option<Finding> {
    let version = &ours["spec"]["versions"][0];
    let named = |other: &&Value| other["name"] == version["name"];
    let found = theirs["spec"]["versions"].as_array().into_iter().flatten().find(named);
    let name = version["name"].as_str().unwrap_or_default();
    let Some(found) = found.filter(|found| found["served"] == true) else {
        return Some(
            Finding::error(place, format!("has no version {name}"))
                .effect("neither Envoy Gateway nor this program has objects of the kind")
                .remedy(format!("apply this version's: {APPLY}")),
        );
    };
    let (ours, theirs) = (&version["schema"]["openAPIV3Schema"], &found["schema"]["openAPIV3Schema"]);
    let (our_fields, their_fields) = (fields(ours), fields(theirs));
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
        let mut some: Vec<String> = these.difference(those).take(4).cloned().collect();
        if some.len() == 4 {
            some[3] = "…".to_owned();
        }
        some.join(", ")
    };
    let (missing, unknown) = (only(&our_fields, &their_fields), only(&their_fields, &our_fields));
    let finding = match (missing.is_empty(), unknown.is_empty()) {
        (false, true) => Finding::error(place, format!("is older than this version: it lacks {missing}"))
            .effect("the API server drops these fields from what is applied and reported"),
        (true, false) => Finding::warning(place, format!("is newer than this version: it has {unknown}"))
            .effect("this program ignores these fields"),
        (false, false) => Finding::error(
            place,
            format!("is another than this version's: it lacks {missing}, and has {unknown}"),
        )
        .effect(
            "the API server drops the former from what is applied and reported, and this program ignores the latter",
        ),
        (true, true) => {
            let field = difference(ours, theirs, String::new())?;
            Finding::warning(place, format!("is another than this version's: {field} has other rules"))
                .effect("the API server takes what this version does not take, or refuses what it takes")
        }
    };
    let remedy = match (missing.is_empty(), unknown.is_empty()) {
        (true, false) => "upgrade this program, or run preflight of the version that runs".to_owned(),
        _ => format!("apply this version's: {APPLY}"),
    };
    Some(finding.remedy(remedy))
}

/// The paths of all fields that a schema has.
fn fields(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(inner, &path, found);
        found.insert(path);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            collect(&schema[key], &format!("{path}{mark}"), found);
        }
    }
}

/// The first field whose rules differ; what only people read is no rule, and what says nothing is as good as nothing.
fn difference(ours: &Value, theirs: &Value, path: String) -> Option<String> {
    let says = |value: &Value| !value.is_null() && *value != false;
    let empty = serde_json::Map::new();
    let (left, right) = (ours.as_object().unwrap_or(&empty), theirs.as_object().unwrap_or(&empty));
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for key in keys.into_iter().filter(|key| !["description", "title"].contains(&key.as_str())) {
        let (left, right) = (&ours[key], &theirs[key]);
        let differs = match key.as_str() {
            "properties" => {
                let all = left.as_object().into_iter().flatten();
                let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                all.into_iter().find_map(|(name, inner)| difference(inner, &right[name], join(name)))
            }
            "items" => difference(left, right, format!("{path}[]")),
            "additionalProperties" if left.is_object() => difference(left, right, format!("{path}.*")),
            // Their order means nothing.
            "required" => {
                let set = |value: &Value| {
                    value.as_array().cloned().unwrap_or_default().iter().map(Value::to_string).collect()
                };
                let (left, right): (BTreeSet<String>, BTreeSet<String>) = (set(left), set(right));
                (left != right).then(|| path.clone())
            }
            _ => (!is_same(left, right) && (says(left) || says(right))).then(|| path.clone()),
        };
        if let Some(place) = differs {
            return Some(if place.is_empty() { "the object".to_owned() } else { place });
        }
    }
    None
}

/// Whether two values are the same; a number is, however it is written.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| is_same(left, right)))
        }
        (left, right) => left == right,
    }
}
