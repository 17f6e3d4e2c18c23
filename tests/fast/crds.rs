//! The CRDs of our kinds: the files in `crds/` and what an API server asks of a structural schema.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use tailscale_gateway::api::{crd_files, crds, crds_yaml};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds")
}

/// `TSGW_GENERATE=1 cargo test crds` writes the files anew.
#[test]
fn the_crds_folder_holds_exactly_what_the_program_prints() {
    let wanted: BTreeMap<String, String> = crd_files().into_iter().collect();
    if std::env::var_os("TSGW_GENERATE").is_some() {
        let _ = fs::remove_dir_all(folder());
        fs::create_dir_all(folder()).unwrap();
        for (name, text) in &wanted {
            fs::write(folder().join(name), text).unwrap();
        }
    }
    let found: BTreeMap<String, String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, text) in &wanted {
        assert!(&found[name] == text, "crds/{name} is behind the types: TSGW_GENERATE=1 cargo test --test fast crds");
    }
}

#[test]
fn the_printed_text_holds_the_same_definitions_as_the_list() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&crds_yaml()).unwrap();
    let listed: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    let names = |all: &[Value]| all.iter().map(|one| one["metadata"]["name"].to_string()).collect::<Vec<_>>();
    assert_eq!(documents.len(), 9);
    assert_eq!(names(&documents), names(&listed));
    let listed: Value = listed.iter().map(whole_numbers).collect();
    let documents: Value = documents.iter().map(whole_numbers).collect();
    assert_eq!(documents, listed);
}

/// `1.0` and `1` are the same limit; the typed definitions know floating-point limits only.
fn whole_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => serde_json::json!(number.as_f64()),
        Value::Array(items) => items.iter().map(whole_numbers).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), whole_numbers(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn definitions_are_named_as_the_original_operator_named_them() {
    let names: Vec<String> = crds().into_iter().map(|crd| crd.metadata.name.unwrap()).collect();
    assert_eq!(
        names,
        [
            "tailscaletailnets.gateway.tailscale.com",
            "tailscalegateways.gateway.tailscale.com",
            "tailscalegatewayparameters.gateway.tailscale.com",
            "tailscaleendpoints.gateway.tailscale.com",
            "tailscaleroutepolicies.gateway.tailscale.com",
            "tailscaleproxygroups.gateway.tailscale.com",
            "tailscaleservice.gateway.tailscale.com",
            "tailscaleservices.gateway.tailscale.com",
            "tailscalegatewayrevisions.gateway.tailscale.com",
        ]
    );
    for crd in crds() {
        let scope = if crd.spec.names.kind == "TailscaleTailnet" { "Cluster" } else { "Namespaced" };
        assert_eq!(crd.spec.scope, scope, "{}", crd.spec.names.kind);
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["tailscale-gateway".to_owned()][..]));
        let version = &crd.spec.versions[0];
        assert_eq!((version.name.as_str(), version.served, version.storage), ("v1alpha1", true, true));
        assert!(version.subresources.as_ref().unwrap().status.is_some());
    }
}

/// Kubernetes documentation, "Specifying a structural schema", and the conventions of its own types.
#[test]
fn every_schema_is_structural_and_described() {
    for crd in crds() {
        let crd = serde_json::to_value(crd).unwrap();
        let name = crd["metadata"]["name"].as_str().unwrap();
        structural(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name, false);
    }
}

fn structural(schema: &Value, path: &str, foreign: bool) {
    for key in ["$ref", "oneOf", "anyOf", "allOf", "not", "nullable", "definitions", "uniqueItems"] {
        assert!(schema.get(key).is_none(), "{path} has {key}");
    }
    let type_ = schema["type"].as_str();
    assert!(type_.is_some() || schema["x-kubernetes-int-or-string"] == true, "{path} has no type");
    assert!(schema.get("default") != Some(&Value::Null), "{path} has a null default");
    assert!(!schema["enum"].as_array().is_some_and(|values| values.contains(&Value::Null)), "{path} allows null");
    assert!(!schema["format"].as_str().is_some_and(|format| format.starts_with("uint")), "{path} is unsigned");
    assert!(!(schema.get("properties").is_some() && schema.get("additionalProperties").is_some()), "{path} has both");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(
            foreign || property["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{path} is undescribed"
        );
        structural(property, &path, foreign);
    }
    if let Some(items) = schema.get("items") {
        structural(items, &format!("{path}[]"), foreign);
    }
    assert!(type_ != Some("array") || schema.get("items").is_some(), "{path} has no items");
    if let Some(values) = schema.get("additionalProperties") {
        structural(values, &format!("{path}{{}}"), foreign);
    }
}

/// An API server takes a printer column whose path leads nowhere, and shows nothing for ever.
#[test]
fn every_printer_column_shows_a_field_that_the_schema_has() {
    for crd in crds() {
        let crd = serde_json::to_value(crd).unwrap();
        let version = &crd["spec"]["versions"][0];
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            if path == ".metadata.creationTimestamp" {
                assert_eq!(column["type"], "date");
                continue;
            }
            let mut schema = &version["schema"]["openAPIV3Schema"];
            // A filter in brackets picks entries of a list; what follows it is a field of an entry.
            for part in path.replace(r#"[?(@.type=="#, "[").split('.').skip(1) {
                let (field, list) = part.split_once('[').map_or((part, false), |(field, _)| (field, true));
                schema = &schema["properties"][field];
                assert!(schema.is_object(), "{} {path}", crd["metadata"]["name"]);
                if list {
                    schema = &schema["items"];
                }
            }
            let wanted = match schema["format"].as_str() {
                Some("date-time") => "date",
                _ => schema["type"].as_str().unwrap(),
            };
            assert_eq!(column["type"], wanted, "{} {path}", crd["metadata"]["name"]);
        }
    }
}
