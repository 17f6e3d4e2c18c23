//! The CustomResourceDefinitions of our kinds, as an API server takes them. Never installs them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use super::{
    TailscaleEndpoints, TailscaleGateway, TailscaleGatewayParameters, TailscaleGatewayRevision, TailscaleProxyGroup,
    TailscaleRoutePolicy, TailscaleService, TailscaleServices, TailscaleTailnet, tailscale::PARAMETERS_RULES,
};

/// The definitions of our kinds, always in the same order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    documents()
        .into_iter()
        .map(|document| serde_json::from_value(document).expect("only keys that a definition has were touched"))
        .collect()
}

/// The definitions of our kinds as one YAML text of several documents.
pub fn crds_yaml() -> String {
    crd_files().into_iter().map(|(_, text)| format!("---\n{text}")).collect()
}

/// The definitions of our kinds as files: name and YAML text of each.
pub fn crd_files() -> Vec<(String, String)> {
    documents()
        .into_iter()
        .map(|document| {
            let name = document["metadata"]["name"].as_str().expect("every definition is named").to_owned();
            let text = serde_saphyr::to_string(&document).expect("a JSON value has a YAML form");
            (format!("{name}.yaml"), text)
        })
        .collect()
}

fn documents() -> Vec<Value> {
    let mut gateway = tidy(&TailscaleGateway::crd());
    // Costs nothing that depends on the object, so the API server's limits for such rules are far.
    gateway["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{ "rule": "has(self.tailnets) || has(self.tailnetRef)", "message": "tailnets has to name a tailnet" }]);
    let mut parameters = tidy(&TailscaleGatewayParameters::crd());
    let spec = &mut parameters["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for rule in PARAMETERS_RULES {
        let place = if rule.field.is_empty() { &mut *spec } else { &mut spec["properties"][rule.field] };
        let rules = place.as_object_mut().expect("the fields that rules name exist").entry("x-kubernetes-validations");
        let rules = rules.or_insert_with(|| json!([])).as_array_mut().expect("made as a list, here and nowhere else");
        rules.push(json!({ "rule": rule.cel, "message": rule.message }));
    }
    vec![
        tidy(&TailscaleTailnet::crd()),
        gateway,
        parameters,
        tidy(&TailscaleEndpoints::crd()),
        tidy(&TailscaleRoutePolicy::crd()),
        tidy(&TailscaleProxyGroup::crd()),
        tidy(&TailscaleService::crd()),
        tidy(&TailscaleServices::crd()),
        tidy(&TailscaleGatewayRevision::crd()),
    ]
}

/// A definition as JSON, its schemas in the form that `tidy_schema` gives them.
fn tidy(definition: &CustomResourceDefinition) -> Value {
    let mut document = serde_json::to_value(definition).expect("a definition has string keys");
    for version in document["spec"]["versions"].as_array_mut().into_iter().flatten() {
        tidy_schema(&mut version["schema"]["openAPIV3Schema"]);
    }
    document
}

/// The schema of the only version of a definition, in the form that `tidy_schema` gives it.
pub(super) fn schema_of(definition: &CustomResourceDefinition) -> Value {
    tidy(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

/// Takes out of a generated schema what an API server does not need or does not know.
///
/// Nothing stays nullable: an API server drops nulls from fields that are not, before it validates and fills in defaults
/// (Kubernetes documentation, "Defaulting and Nullable"), so that `field: null` means the same as no field.
pub(super) fn tidy_schema(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("nullable");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = unwrapped(text);
    }
    signed_formats(schema);
    for key in ["minimum", "maximum"] {
        if let Some(limit) = schema.get_mut(key)
            && let Some(whole) = limit.as_f64().filter(|limit| limit.fract() == 0.0 && limit.abs() < 9.0e15)
        {
            *limit = json!(whole as i64);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            tidy_schema(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(tidy_schema);
    }
}

/// A description without the line breaks that only the source needed: paragraphs and lists keep theirs.
fn unwrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines().map(str::trim) {
        let own_line = line.is_empty() || out.ends_with('\n') || line.starts_with(['-', '*']) || out.is_empty();
        if own_line && !out.is_empty() {
            out.push('\n');
        } else if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(line);
    }
    out
}

/// OpenAPI knows signed integers only. The bounds stand beside the format already.
fn signed_formats(schema: &mut Map<String, Value>) {
    let format = match schema.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "uint32") => "int32",
        Some("uint64") => "int64",
        _ => return,
    };
    schema.insert("format".into(), json!(format));
}
