//! What a Deployment says about its pods, as a kubelet reads it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::Value;

use super::{cluster::Cluster, wait::until};

/// The first pod of a Deployment, of whose containers the first one is meant.
#[derive(Debug)]
pub struct FirstPod {
    namespace: String,
    name: String,
    spec: Value,
}

/// A volume that is mounted.
#[derive(Debug)]
pub struct Mount {
    /// Its name.
    pub volume: String,
    /// Where the container finds it.
    pub place: String,
    /// What is in it.
    pub files: Files,
    /// The Secret that it is from.
    pub secret: Option<String>,
}

/// What is in a volume, by the files' names.
pub type Files = BTreeMap<String, Vec<u8>>;

impl FirstPod {
    /// That of a Deployment (`NAMESPACE/NAME`), once that is there.
    pub async fn of(cluster: &Cluster, deployment: &str) -> Self {
        let (namespace, name) = deployment.split_once('/').expect("NAMESPACE/NAME");
        let spec = object(cluster, "deployment", namespace, name).await["spec"]["template"]["spec"].take();
        Self { namespace: namespace.to_owned(), name: format!("{name}-0"), spec }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its container.
    pub fn container(&self) -> &Value {
        &self.spec["containers"][0]
    }

    /// What is mounted into its container, as soon as all of it is there. A volume that is neither a ConfigMap nor a Secret is
    /// empty.
    pub async fn mounts(&self, cluster: &Cluster) -> Vec<Mount> {
        let get = async |kind: &str, name: &str| object(cluster, kind, &self.namespace, name).await;
        let mut mounts = Vec::new();
        for mount in list(&self.container()["volumeMounts"]) {
            let (volume, place) = (text(&mount["name"]), text(&mount["mountPath"]));
            let source =
                list(&self.spec["volumes"]).find(|source| source["name"] == volume).expect("what is mounted is there");
            let (config_map, secret) = (&source["configMap"]["name"], &source["secret"]["secretName"]);
            let mut files = Files::new();
            if let Some(config_map) = config_map.as_str() {
                for (file, content) in map(&get("configmap", config_map).await["data"]) {
                    files.insert(file, text(&content).to_owned().into_bytes());
                }
            } else if let Some(secret) = secret.as_str() {
                for (file, content) in map(&get("secret", secret).await["data"]) {
                    let content: ByteString = serde_json::from_value(content).expect("base64");
                    files.insert(file, content.0);
                }
            }
            let secret = secret.as_str().map(str::to_owned);
            mounts.push(Mount { volume: volume.to_owned(), place: place.to_owned(), files, secret });
        }
        mounts
    }

    /// The variables of its container. Annotations, which one may be taken from, a pod has none.
    pub fn environment(&self) -> Vec<(String, String)> {
        let variables = list(&self.container()["env"]).map(|variable| {
            let value = match (variable["value"].as_str(), variable["valueFrom"]["fieldRef"]["fieldPath"].as_str()) {
                (Some(value), _) => value,
                (None, Some("metadata.name")) => &self.name,
                (None, Some("metadata.namespace")) => &self.namespace,
                _ => "",
            };
            (text(&variable["name"]).to_owned(), value.to_owned())
        });
        variables.collect()
    }

    /// The arguments of its container, with the values of variables that they name.
    pub fn arguments(&self) -> Vec<String> {
        let environment = self.environment();
        let expanded = |argument: &str| {
            let replace = |text: String, (name, value): &(String, String)| text.replace(&format!("$({name})"), value);
            environment.iter().fold(argument.to_owned(), replace)
        };
        list(&self.container()["args"]).map(|argument| expanded(text(argument))).collect()
    }
}

/// An object, once it is there.
pub async fn object(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> Value {
    until(&format!("{kind} {namespace}/{name}"), async || {
        let printed = cluster.kubectl(&["get", kind, name, "--namespace", namespace, "--output", "json"]).await;
        if !printed.success {
            return Err(printed.stderr);
        }
        serde_json::from_str(&printed.stdout).map_err(|error| error.to_string())
    })
    .await
}

/// The items of a list; none when it is none.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text.
pub fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn map(value: &Value) -> impl Iterator<Item = (String, Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()))
}
