//! From JSON to an object, in the order in which an API server looks at a manifest: nulls dropped, schema, rules, defaults.
//!
//! Never refuses what an API server takes because of a field it does not know, and never panics, whatever the value.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    ByteString, ConfigMap, CustomResourceDefinition, EndpointSlice, Gateway, GatewayClass, GrpcRoute, HttpRoute,
    ListenerSet, Namespace, Object, PassingRoute, ReferenceGrant, Secret, Service, TailscaleEndpoints,
    TailscaleGateway, TailscaleGatewayParameters, TailscaleGatewayRevision, TailscaleProxyGroup, TailscaleRoutePolicy,
    TailscaleService, TailscaleServices, TailscaleTailnet, TcpRoute, TlsRoute, UdpRoute,
    explain::{explain, shown},
    gateway_api::{gateway_rules, grpc_route_rules, listeners_rules, passing_route_rules, route_rules},
    path::FieldPath,
    schema::schema,
    tailscale::PARAMETERS_RULES,
};
use crate::model::{Kind, Reason};

/// The longest name of an object (RFC 1123 §2.1), in characters.
const LONGEST_NAME: usize = 253;
/// The longest DNS label (RFC 1123 §2.1), in characters.
const LONGEST_LABEL: usize = 63;

/// What became of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The object, with defaults filled in; nothing when a finding is a violation of the schema.
    pub object: Option<Object>,
    /// What is wrong with it: first what the schema refuses, then what is ignored.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The path of the field, such as `spec.rules[0].matches[1].path.value`; empty for the whole object.
    pub field: String,
    /// `SchemaViolation`, and the object is refused, or `UnknownField`, and the field is ignored.
    pub reason: Reason,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Reads an object of a kind. `apiVersion` and `kind` are taken as read: every version of a kind has one shape, and the
/// object is one of the first version.
///
/// A namespaced object without a namespace is in `default`. A `status` that can not be read is dropped, as an API server
/// drops every status that a manifest brings.
pub fn parse(kind: Kind, value: Value) -> Parsed {
    let Value::Object(mut manifest) = value else {
        let mut found = Found::default();
        found.refuse("", format!("must be a mapping with metadata; got {}", shown(&value)));
        return Parsed { object: None, findings: found.refused };
    };
    drop_nulls(&mut manifest);
    manifest.insert("apiVersion".into(), json!(api_version(kind)));
    manifest.insert("kind".into(), json!(kind.as_str()));
    if kind == Kind::Secret {
        join_base64_lines(&mut manifest);
    }
    let mut found = Found::default();
    check_metadata(kind, &mut manifest, &mut found);
    let value = Value::Object(manifest);
    let schema = schema(kind);
    for error in schema.validator.iter_errors(&value) {
        let (field, message) = explain(&error, &value, kind == Kind::Secret);
        found.refuse(field, message);
    }
    walk(kind, &schema.structure, &value, &FieldPath::default(), &mut found);
    let object = if found.refused.is_empty() { build(kind, value, &mut found) } else { None };
    let object = object.filter(|_| found.refused.is_empty());
    Parsed { object, findings: found.refused.into_iter().chain(found.ignored).collect() }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    refused: Vec<Finding>,
    ignored: Vec<Finding>,
}

impl Found {
    /// Notes a violation. The first one of a field says enough: others follow from it.
    fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let field = field.into();
        if !self.refused.iter().any(|finding| finding.field == field) {
            self.refused.push(Finding { field, reason: Reason::SchemaViolation, message: message.into() });
        }
    }

    fn ignore(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.ignored.push(Finding { field: field.into(), reason: Reason::UnknownField, message: message.into() });
    }
}

fn api_version(kind: Kind) -> String {
    let version = kind.versions()[0];
    if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) }
}

/// A null in a field that is not nullable is as good as no field, and no field of ours is nullable (Kubernetes
/// documentation, "Defaulting and Nullable"). Nulls in lists stay, and the schema refuses them.
fn drop_nulls(members: &mut Map<String, Value>) {
    members.retain(|_, value| !value.is_null());
    members.values_mut().for_each(drop_inner_nulls);
}

fn drop_inner_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => drop_nulls(members),
        Value::Array(items) => items.iter_mut().for_each(drop_inner_nulls),
        _ => {}
    }
}

/// Base64 of several lines is common in YAML, and Go, hence the API server, reads over the line ends.
fn join_base64_lines(secret: &mut Map<String, Value>) {
    let Some(Value::Object(data)) = secret.get_mut("data") else { return };
    for value in data.values_mut() {
        if let Value::String(text) = value {
            text.retain(|c| c != '\n' && c != '\r');
        }
    }
}

/// Checks name and namespace, and puts a namespaced object that names no namespace into `default`.
fn check_metadata(kind: Kind, manifest: &mut Map<String, Value>, found: &mut Found) {
    let metadata = manifest.entry("metadata").or_insert_with(|| json!({}));
    // Anything but a mapping is the schema's to refuse, and so are names that are no texts.
    let Some(metadata) = metadata.as_object_mut() else { return };
    match metadata.get("name") {
        None if metadata.contains_key("generateName") => {
            found.refuse("metadata.name", "is required; generateName has no meaning without an API server");
        }
        None => found.refuse("metadata.name", "is required"),
        Some(Value::String(name)) if matches!(kind, Kind::Namespace | Kind::Service) => {
            if !is_label(name) {
                found.refuse("metadata.name", label_wanted(name));
            }
        }
        Some(Value::String(name)) => {
            if name.len() > LONGEST_NAME || !name.split('.').all(is_unbounded_label) {
                found.refuse(
                    "metadata.name",
                    format!(
                        "must be a DNS name of at most {LONGEST_NAME} lower-case letters, digits, inner dashes and dots; \
                         got {}",
                        shown(&json!(name))
                    ),
                );
            }
        }
        Some(_) => {}
    }
    if !kind.namespaced() {
        if metadata.remove("namespace").is_some() {
            found.ignore("metadata.namespace", format!("is ignored: a {kind} belongs to no namespace"));
        }
        return;
    }
    match metadata.get("namespace") {
        Some(Value::String(namespace)) if namespace.is_empty() => {
            metadata.insert("namespace".into(), json!("default"));
        }
        Some(Value::String(namespace)) => {
            if !is_label(namespace) {
                found.refuse("metadata.namespace", label_wanted(namespace));
            }
        }
        Some(_) => {}
        None => {
            metadata.insert("namespace".into(), json!("default"));
        }
    }
}

fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_unbounded_label(text)
}

/// Whether a text has the form of a DNS label, whatever its length.
fn is_unbounded_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(inner) && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn label_wanted(got: &str) -> String {
    format!(
        "must be a DNS label of at most {LONGEST_LABEL} lower-case letters, digits and inner dashes; got {}",
        shown(&json!(got))
    )
}

/// Finds fields that the schema does not have, and entries of a keyed list that share their key.
fn walk(kind: Kind, schema: &Value, value: &Value, path: &FieldPath, found: &mut Found) {
    match value {
        Value::Object(members) => {
            if schema["x-kubernetes-preserve-unknown-fields"] == json!(true) {
                return;
            }
            let properties = schema["properties"].as_object();
            let others = schema.get("additionalProperties").filter(|others| others.is_object());
            if properties.is_none() && others.is_none() {
                return;
            }
            for (name, member) in members {
                match properties.and_then(|properties| properties.get(name)).or(others) {
                    Some(schema) => walk(kind, schema, member, &path.member(name), found),
                    None => found.ignore(
                        path.member(name).into_string(),
                        format!("is not a field of {kind} and is ignored; check its spelling and its place"),
                    ),
                }
            }
        }
        Value::Array(items) => {
            if schema["x-kubernetes-list-type"] == json!("map") {
                distinct_keys(&schema["x-kubernetes-list-map-keys"], items, path, found);
            }
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    walk(kind, schema, item, &path.item(index), found);
                }
            }
        }
        _ => {}
    }
}

/// Refuses an entry that has the same key as an earlier one (Kubernetes: `x-kubernetes-list-map-keys`).
fn distinct_keys(keys: &Value, items: &[Value], path: &FieldPath, found: &mut Found) {
    let keys: Vec<&str> = keys.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut seen = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let key: Vec<String> = keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null).to_string()).collect();
        if let Some(first) = seen.insert(key, index) {
            found.refuse(
                path.item(index).into_string(),
                format!("must differ from entry {first} in {}", keys.join(" and ")),
            );
        }
    }
}

/// Makes the object of a manifest that its schema takes, and applies the rules that no schema can say.
fn build(kind: Kind, value: Value, found: &mut Found) -> Option<Object> {
    Some(match kind {
        Kind::GatewayClass => read::<GatewayClass>(value, found)?.into(),
        Kind::Gateway => {
            let gateway = read::<Gateway>(value, found)?;
            gateway_rules(&gateway.spec).into_iter().for_each(|(field, message)| found.refuse(field, message));
            gateway.into()
        }
        Kind::HttpRoute => {
            let route = read::<HttpRoute>(value, found)?;
            route_rules(&route.spec).into_iter().for_each(|(field, message)| found.refuse(field, message));
            route.into()
        }
        Kind::GrpcRoute => {
            let route = read::<GrpcRoute>(value, found)?;
            grpc_route_rules(&route.spec).into_iter().for_each(|(field, message)| found.refuse(field, message));
            route.into()
        }
        Kind::TlsRoute => passing(read::<TlsRoute>(value, found)?, |route| &route.spec.passing, found),
        Kind::TcpRoute => passing(read::<TcpRoute>(value, found)?, |route| &route.spec.passing, found),
        Kind::UdpRoute => passing(read::<UdpRoute>(value, found)?, |route| &route.spec.passing, found),
        Kind::ListenerSet => {
            let set = read::<ListenerSet>(value, found)?;
            listeners_rules(&set.spec.listeners).into_iter().for_each(|(field, message)| found.refuse(field, message));
            set.into()
        }
        Kind::ReferenceGrant => read::<ReferenceGrant>(value, found)?.into(),
        Kind::Namespace => name_label(read(value, found)?).into(),
        Kind::Service => read::<Service>(value, found)?.into(),
        Kind::EndpointSlice => read::<EndpointSlice>(value, found)?.into(),
        Kind::Secret => merge_string_data(read(value, found)?).into(),
        Kind::ConfigMap => read::<ConfigMap>(value, found)?.into(),
        Kind::CustomResourceDefinition => read::<CustomResourceDefinition>(value, found)?.into(),
        Kind::TailscaleTailnet => read::<TailscaleTailnet>(value, found)?.into(),
        Kind::TailscaleGateway => {
            let gateway = read::<TailscaleGateway>(value, found)?;
            if gateway.spec.tailnets.is_empty() && gateway.spec.tailnet_ref.is_none() {
                found.refuse("spec.tailnets", "has to name a tailnet");
            }
            gateway.into()
        }
        Kind::TailscaleGatewayParameters => {
            let parameters = read::<TailscaleGatewayParameters>(value, found)?;
            for rule in PARAMETERS_RULES.iter().filter(|rule| !(rule.holds)(&parameters.spec)) {
                let dot = if rule.field.is_empty() { "" } else { "." };
                found.refuse(format!("spec{dot}{}", rule.field), rule.message);
            }
            parameters.into()
        }
        Kind::TailscaleEndpoints => read::<TailscaleEndpoints>(value, found)?.into(),
        Kind::TailscaleRoutePolicy => read::<TailscaleRoutePolicy>(value, found)?.into(),
        Kind::TailscaleProxyGroup => read::<TailscaleProxyGroup>(value, found)?.into(),
        Kind::TailscaleService => read::<TailscaleService>(value, found)?.into(),
        Kind::TailscaleServices => read::<TailscaleServices>(value, found)?.into(),
        Kind::TailscaleGatewayRevision => read::<TailscaleGatewayRevision>(value, found)?.into(),
    })
}

/// Applies the rules of routes that hand on connections or datagrams.
fn passing<T: Into<Object>>(route: T, part: impl FnOnce(&T) -> &PassingRoute, found: &mut Found) -> Object {
    let broken = passing_route_rules(part(&route));
    broken.into_iter().for_each(|(field, message)| found.refuse(field, message));
    route.into()
}

/// Reads a typed object; without its `status` when that is what can not be read.
fn read<T: DeserializeOwned>(mut value: Value, found: &mut Found) -> Option<T> {
    if let Ok(object) = T::deserialize(&value) {
        return Some(object);
    }
    if let Some(manifest) = value.as_object_mut()
        && manifest.remove("status").is_some()
        && let Ok(object) = T::deserialize(&value)
    {
        return Some(object);
    }
    match serde_path_to_error::deserialize::<_, T>(&value) {
        Ok(object) => Some(object),
        Err(error) => {
            let path = error.path().to_string();
            // The decoder's own words could repeat what a Secret holds.
            let message = match value["kind"] == json!("Secret") {
                true if path.starts_with("data") => "must be base64; stringData takes plain text".to_owned(),
                true => "can not be read".to_owned(),
                false => format!("can not be read: {}", error.inner()),
            };
            found.refuse(if path == "." { String::new() } else { path }, message);
            None
        }
    }
}

/// Every Namespace has its name as a label (Kubernetes documentation, "Automatic labelling").
fn name_label(mut namespace: Namespace) -> Namespace {
    if let Some(name) = namespace.metadata.name.clone() {
        namespace.metadata.labels.get_or_insert_default().insert("kubernetes.io/metadata.name".into(), name);
    }
    namespace
}

/// `stringData` is there for writing only: it goes over `data` (Kubernetes API reference, Secret).
fn merge_string_data(mut secret: Secret) -> Secret {
    for (key, text) in secret.string_data.take().unwrap_or_default() {
        secret.data.get_or_insert_default().insert(key, ByteString(text.into_bytes()));
    }
    secret
}
