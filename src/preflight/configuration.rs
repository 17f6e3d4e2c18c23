//! The configuration of an Envoy Gateway: where it stands in what was read, and the rules about the whole of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Finding, REFUSED, Version, fields, kinds,
    manager::{self, is_ours},
    service, version,
};
use crate::{extension::Hook, model::Kind};

/// The key of a ConfigMap in which the configuration stands.
pub(super) const CONFIG_KEY: &str = "envoy-gateway.yaml";
const API_VERSION: &str = "gateway.envoyproxy.io/v1alpha1";
const KIND: &str = "EnvoyGateway";
/// The controller of our own GatewayClass.
const OUR_CONTROLLER: &str = "gateway.tailscale.com/gateway-controller";

/// The configuration of an Envoy Gateway.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where it comes from, as findings have it.
    origin: String,
    root: Value,
}

/// One extension server in it.
#[derive(Clone, Debug)]
pub(super) struct Manager<'a> {
    /// Its place: `extensionManager`, or `extensionManagers[1]`.
    at: String,
    value: &'a Value,
    /// Whether it is this program.
    pub(super) ours: bool,
}

impl Configuration {
    /// Finds the configuration in a text: the YAML itself; a ConfigMap that holds it; or values of Envoy Gateway's chart with
    /// `config.envoyGateway`.
    ///
    /// # Errors
    ///
    /// When it is in none of these forms.
    pub fn read(origin: &str, text: &str) -> Result<Self, Finding> {
        let wrong = |what: String| Finding::error(origin, what).effect(REFUSED);
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| wrong(format!("is no YAML: {error}")))?;
        let mut documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
        if let Some(at) = documents.iter().position(|document| document["kind"] == KIND) {
            return Ok(Self { origin: origin.to_owned(), root: documents.swap_remove(at) });
        }
        let inner = |document: &Value| Some(document["data"][CONFIG_KEY].as_str()?.to_owned());
        if let Some(text) = documents.iter().filter(|document| document["kind"] == "ConfigMap").find_map(inner) {
            return Self::read(&format!("{origin}: data[{CONFIG_KEY}]"), &text);
        }
        // The chart writes these two itself.
        let values = |document: &Value| document["config"]["envoyGateway"].as_object().cloned();
        if let Some(mut root) = documents.iter().find_map(values) {
            root.insert("apiVersion".to_owned(), json!(API_VERSION));
            root.insert("kind".to_owned(), json!(KIND));
            return Ok(Self { origin: format!("{origin}: config.envoyGateway"), root: Value::Object(root) });
        }
        Err(wrong(format!(
            "there is neither an object of kind {KIND} in it, nor a ConfigMap with {CONFIG_KEY}, nor config.envoyGateway as in values of Envoy Gateway's chart"
        ))
        .remedy(format!("begin the configuration with apiVersion: {API_VERSION} and kind: {KIND}")))
    }

    /// Where it comes from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the Envoy Gateway reads its objects from files and no cluster.
    pub fn is_standalone(&self) -> bool {
        let provider = &self.root["provider"];
        provider["type"] == "Custom" && provider["custom"]["resource"]["type"] == "File"
    }

    /// The only namespaces whose objects it reads; nothing when it reads all.
    pub(super) fn namespaces(&self) -> Option<Vec<&str>> {
        let watch = &self.root["provider"]["kubernetes"]["watch"];
        let namespaces = watch["namespaces"].as_array().filter(|_| watch["type"] == "Namespaces")?;
        Some(namespaces.iter().filter_map(Value::as_str).collect())
    }

    /// All extension servers, in the order in which they are asked.
    pub(super) fn managers(&self) -> Vec<Manager<'_>> {
        let several = self.root["extensionManagers"].as_array().filter(|several| !several.is_empty());
        let listed = several.into_iter().flatten().enumerate();
        let mut managers: Vec<Manager<'_>> = listed
            .map(|(at, value)| Manager { at: format!("extensionManagers[{at}]"), value, ours: is_ours(value) })
            .collect();
        let single = &self.root["extensionManager"];
        if !single.is_null() {
            managers.push(Manager { at: "extensionManager".to_owned(), value: single, ours: is_ours(single) });
        }
        if let [only] = &mut *managers {
            only.ours = true;
        }
        managers
    }

    /// What is wrong with it.
    pub(super) fn check(&self, installed: Option<Version>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.root["apiVersion"] != API_VERSION {
            let what = format!("is {}, and not {API_VERSION}", self.root["apiVersion"]);
            findings.push(
                Finding::error("apiVersion", what).effect(REFUSED).remedy(format!("write apiVersion: {API_VERSION}")),
            );
        }
        findings.extend(fields::check(&self.root));
        if self.root["gateway"]["controllerName"] == OUR_CONTROLLER {
            findings.push(
                Finding::error("gateway.controllerName", "is the controller of this program's own GatewayClass")
                    .effect("Envoy Gateway takes the Gateways of that class for its own, and two programs serve them")
                    .remedy("write gateway.envoyproxy.io/gatewayclass-controller, or leave it out"),
            );
        }
        findings.extend(self.one_form());
        let managers = self.managers();
        let several = !self.root["extensionManagers"].is_null();
        if managers.is_empty() {
            findings.push(
                Finding::error("extensionManager", "there is none")
                    .effect("Envoy Gateway asks nobody, and knows nothing of tailnets")
                    .remedy("take it from manifests/envoy-gateway/envoy-gateway.yaml"),
            );
        } else if managers.iter().all(|manager| !manager.ours) {
            findings.push(
                Finding::error(
                    "extensionManagers",
                    "none of them is this program: none declares a kind of gateway.tailscale.com",
                )
                .effect("Envoy Gateway asks the others only")
                .remedy("add the one in manifests/envoy-gateway/envoy-gateway.yaml, with a name"),
            );
        }
        findings.extend(asked_twice(&managers));
        for manager in &managers {
            findings.extend(service::check(manager, self.is_standalone()));
            findings.extend(manager::check_any(manager));
            if manager.ours {
                findings.extend(installed.into_iter().flat_map(|version| version::unknown(version, manager, several)));
                findings.extend(manager::check_ours(manager));
                findings.extend(kinds::check(manager));
            }
        }
        if self.is_standalone() && several {
            findings.push(
                Finding::error(
                    "extensionManagers",
                    "is not read by an Envoy Gateway that reads its objects from files",
                )
                .effect("it asks the extension servers, and ignores all objects of their kinds")
                .remedy("write extensionManager"),
            );
        }
        findings
    }

    /// The rules about the two ways to write extension servers.
    fn one_form(&self) -> Vec<Finding> {
        let (single, list) = (&self.root["extensionManager"], &self.root["extensionManagers"]);
        let mut findings = Vec::new();
        let Some(several) = list.as_array() else { return findings };
        let list = "extensionManagers";
        if several.is_empty() {
            findings.push(Finding::error(list, "is an empty list").effect(REFUSED).remedy("leave it out"));
        } else if !single.is_null() {
            findings.push(
                Finding::error(list, "stands beside extensionManager")
                    .effect(REFUSED)
                    .remedy("write all in one list, each with a name of its own"),
            );
        }
        let mut names = BTreeSet::new();
        for (at, manager) in several.iter().enumerate() {
            let place = format!("{list}[{at}].name");
            match manager["name"].as_str().filter(|name| !name.is_empty()) {
                None => findings.push(Finding::error(place, "is missing").effect(REFUSED).remedy("give it a name")),
                Some(name) if !names.insert(name) => findings.push(
                    Finding::error(place, format!("{name} is the name of another one, too"))
                        .effect(REFUSED)
                        .remedy("give each a name of its own"),
                ),
                Some(_) => {}
            }
        }
        findings
    }
}

/// Extension servers that are all this program: each call of the second one would be about what the first one has made.
fn asked_twice(managers: &[Manager<'_>]) -> impl Iterator<Item = Finding> {
    let mut ours = managers.iter().filter(|manager| manager.ours);
    let first = ours.next().map(|manager| manager.at.clone()).unwrap_or_default();
    ours.map(move |manager| {
        Finding::error(manager.place(""), format!("is this program, as {first} is"))
            .effect("Envoy Gateway asks it twice for each translation and waits for both answers, of which the second adds nothing")
            .remedy("remove one, and declare all kinds of gateway.tailscale.com in the other")
    })
}

impl<'a> Manager<'a> {
    /// The place of a field of it.
    pub(super) fn place(&self, field: &str) -> String {
        if field.is_empty() { self.at.clone() } else { format!("{}.{field}", self.at) }
    }

    /// What stands at a path of fields.
    pub(super) fn get(&self, path: &str) -> &'a Value {
        path.split('.').fold(self.value, |value, field| &value[field])
    }

    /// The texts in the list at a path of fields.
    pub(super) fn texts(&self, path: &str) -> impl Iterator<Item = &'a str> {
        self.get(path).as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether a hook of it is called.
    pub(super) fn has_hook(&self, hook: Hook) -> bool {
        self.texts("hooks.xdsTranslator.post").any(|name| name == hook.label())
    }

    /// The kinds in one of its lists.
    pub(super) fn kinds(&self, list: &'static str) -> Vec<Declared> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = self.get(list).as_array().into_iter().flatten().enumerate();
        items
            .map(|(at, item)| Declared {
                place: self.place(&format!("{list}[{at}]")),
                list,
                group: text(&item["group"]),
                version: text(&item["version"]),
                kind: text(&item["kind"]),
            })
            .collect()
    }

    /// All kinds that it declares.
    pub(super) fn all_kinds(&self) -> Vec<Declared> {
        [FILTERS, POLICIES, BACKENDS].into_iter().flat_map(|list| self.kinds(list)).collect()
    }
}

/// The lists of kinds.
pub(super) const FILTERS: &str = "resources";
pub(super) const POLICIES: &str = "policyResources";
pub(super) const BACKENDS: &str = "backendResources";

/// A kind in one of the lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// Where it stands.
    pub(super) place: String,
    /// In which list.
    pub(super) list: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

impl Declared {
    /// The group and the version, as `apiVersion` has them.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind of ours that it is.
    pub(super) fn ours(&self) -> Option<Kind> {
        Kind::find(&self.group, &self.kind).filter(|kind| kind.group() == Kind::TailscaleGateway.group())
    }
}
