//! Whether an object at the API server has all that is desired of it. Pure.
//!
//! What is observed and not desired is others' to say: defaults, fields of other managers, entries of keyed lists.

use serde_json::{Map, Value};

/// A field that is not as desired.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where, such as `spec.ports[80,TCP].targetPort`.
    pub path: String,
    /// What is there; null for nothing.
    pub observed: Value,
}

/// Lists whose entries are told apart by some of their fields, as Kubernetes' own types declare it (`x-kubernetes-list-map-keys`,
/// `patchMergeKey`). Entries of others stand beside ours. Any other list is one value.
const KEYED_LISTS: [(&str, &[&str]); 11] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ownerReferences", &["uid"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("resourceClaims", &["name"]),
    // Of a container, and of a Service.
    ("ports", &["containerPort", "protocol"]),
    ("ports", &["port", "protocol"]),
];

/// Whether nothing of what is desired is missing or other.
pub fn covers(desired: &Value, observed: &Value) -> bool {
    differences(desired, observed).is_empty()
}

/// What of the desired is missing or other, in order.
///
/// An API server leaves out what is empty, and writes some values in another way (`1024Mi` as `1Gi`): that shows as a difference
/// that applying again does not remove.
pub fn differences(desired: &Value, observed: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(desired, observed, &mut String::new(), "", &mut found);
    found
}

fn compare(desired: &Value, observed: &Value, path: &mut String, field: &str, found: &mut Vec<Difference>) {
    match (desired, observed) {
        (Value::Object(members), Value::Object(there)) => each_member(members, there, path, found),
        (Value::Array(items), Value::Array(there)) => match keys_of(field, items) {
            Some(keys) => each_entry(keys, items, there, path, found),
            None if items.len() == there.len() => {
                for (index, (item, there)) in items.iter().zip(there).enumerate() {
                    within(path, &format!("[{index}]"), |path| compare(item, there, path, "", found));
                }
            }
            None => differ(path, observed, found),
        },
        _ if is_same(desired, observed) => {}
        _ => differ(path, observed, found),
    }
}

fn each_member(
    members: &Map<String, Value>,
    there: &Map<String, Value>,
    path: &mut String,
    found: &mut Vec<Difference>,
) {
    for (name, value) in members {
        let dot = if path.is_empty() { "" } else { "." };
        let observed = there.get(name).unwrap_or(&Value::Null);
        within(path, &format!("{dot}{name}"), |path| compare(value, observed, path, name, found));
    }
}

fn each_entry(keys: &[&str], items: &[Value], there: &[Value], path: &mut String, found: &mut Vec<Difference>) {
    let key = |item: &Value| keys.iter().map(|key| item[*key].to_string()).collect::<Vec<_>>().join(",");
    for item in items {
        let own = key(item);
        let observed = there.iter().find(|one| key(one) == own).unwrap_or(&Value::Null);
        within(path, &format!("[{}]", own.replace('"', "")), |path| compare(item, observed, path, "", found));
    }
}

/// The fields that tell the entries of a list apart, if it is a keyed one and each entry has them.
fn keys_of(field: &str, items: &[Value]) -> Option<&'static [&'static str]> {
    let has_all = |keys: &[&str]| items.iter().all(|item| keys.iter().all(|key| item.get(key).is_some()));
    KEYED_LISTS.iter().find(|(list, keys)| *list == field && has_all(keys)).map(|(_, keys)| *keys)
}

fn within(path: &mut String, part: &str, then: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(part);
    then(path);
    path.truncate(length);
}

fn differ(path: &str, observed: &Value, found: &mut Vec<Difference>) {
    found.push(Difference { path: path.to_owned(), observed: observed.clone() });
}

fn is_same(desired: &Value, observed: &Value) -> bool {
    match (desired, observed) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (left, Value::Null) => is_empty(left),
        (left, right) => left == right,
    }
}

/// What an API server leaves out, or may.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
