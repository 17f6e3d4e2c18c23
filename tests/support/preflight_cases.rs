//! The cases in `tests/golden/preflight/configurations.yaml`: the configuration that is shipped with something else in it, and
//! what is found in it.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::tools::repository;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about.
    pub title: String,
    /// The lines of the file that say it, what is found left out.
    pub input: String,
    /// The version of the Envoy Gateway.
    pub version: Option<String>,
    /// The configuration.
    pub configuration: Value,
    /// What the file says is found.
    pub found: Vec<String>,
}

/// The file.
pub fn path() -> PathBuf {
    repository().join("tests/golden/preflight/configurations.yaml")
}

/// The configuration that is shipped.
pub fn shipped() -> Value {
    let path = repository().join("manifests/envoy-gateway/envoy-gateway.yaml");
    serde_saphyr::from_str(&fs::read_to_string(path).expect("it is shipped")).expect("it is YAML")
}

/// What stands before the first case, and all cases.
pub fn cases() -> (String, Vec<Case>) {
    let text = fs::read_to_string(path()).expect("the file is there");
    let mut parts = text.split("- title: ");
    let head = parts.next().unwrap_or_default().to_owned();
    let read = |part: &str| {
        let text = format!("title: {}", part.replace("\n  ", "\n"));
        let case: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut configuration = shipped();
        for (path, value) in case["set"].as_object().expect("a mapping of paths") {
            set(&mut configuration, path, value);
        }
        let lines = case["found"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Case {
            title: case["title"].as_str().expect("each case has a title").to_owned(),
            input: format!("- title: {}", part.split("  found:\n").next().unwrap_or_default()),
            version: case["version"].as_str().map(str::to_owned),
            configuration,
            found: lines.map(str::to_owned).collect(),
        }
    };
    (head, parts.map(read).collect())
}

/// Puts a value at a path of fields, or takes away what is there.
fn set(root: &mut Value, path: &str, value: &Value) {
    let (parents, field) = path.rsplit_once('.').map_or(("", path), |(parents, field)| (parents, field));
    let mut place = root;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        place = place.as_object_mut().expect("a field of a mapping").entry(parent).or_insert_with(|| json!({}));
    }
    let fields = place.as_object_mut().expect("a field of a mapping");
    if value.is_null() {
        fields.remove(field);
    } else {
        fields.insert(field.to_owned(), value.clone());
    }
}

impl Case {
    /// The case as the file has it, with what is found.
    pub fn text(&self, found: &[String]) -> String {
        let lines = found.iter().map(|line| format!("  - {}\n", json!(line)));
        format!("{}  found:\n{}", self.input, lines.collect::<String>())
    }
}
