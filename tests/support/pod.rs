//! A pod of a Gateway's Envoys, run as a kubelet would run it: with the command line, the ConfigMap and the Secret that the
//! Deployment names, in a network namespace where it has the ports that it thinks it has.
//!
//! Only folders are others: what is mounted is in a temporary one. The image's Envoy is ours, and the helper that drains it is
//! not there.

use std::{fs, net::SocketAddr};

use k8s_openapi::ByteString;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    client,
    cluster::Cluster,
    envoy::{Envoy, Version, admin_address},
    namespace::Namespace,
    wait::until,
};

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    /// Its container.
    pub envoy: Envoy,
    /// What its readiness probe asks, as seen from outside of the namespace, and the path.
    readiness: (SocketAddr, String),
}

impl Pod {
    /// Starts the first pod of a Deployment (`NAMESPACE/NAME`) as soon as all that it needs is there.
    ///
    /// # Panics
    /// When the Deployment is not one of ours, or Envoy does not start.
    pub async fn start(cluster: &Cluster, network: &Namespace, deployment: &str) -> Self {
        let (namespace, name) = deployment.split_once('/').expect("NAMESPACE/NAME");
        let get = async |kind: &str, name: &str| object(cluster, kind, namespace, name).await;
        let deployment = get("deployment", name).await;
        let pod = &deployment["spec"]["template"]["spec"];
        let container = &pod["containers"][0];

        let folder = TempDir::with_prefix("pod-").expect("a temporary folder can be made");
        let mut files = Vec::new();
        let mut places = Vec::new();
        for mount in list(&container["volumeMounts"]) {
            let (volume, place) = (text(&mount["name"]), text(&mount["mountPath"]));
            let here = folder.path().join(volume);
            fs::create_dir(&here).expect("a folder in it");
            let source =
                list(&pod["volumes"]).find(|source| source["name"] == volume).expect("what is mounted is there");
            let (config_map, secret) = (&source["configMap"]["name"], &source["secret"]["secretName"]);
            if let Some(config_map) = config_map.as_str() {
                for (file, content) in map(&get("configmap", config_map).await["data"]) {
                    files.push((here.join(file), text(&content).to_owned().into_bytes()));
                }
            } else if let Some(secret) = secret.as_str() {
                for (file, content) in map(&get("secret", secret).await["data"]) {
                    let content: ByteString = serde_json::from_value(content).expect("base64");
                    files.push((here.join(file), content.0));
                }
            }
            places.push((place.to_owned(), here.display().to_string()));
        }
        let placed = |text: &str| places.iter().fold(text.to_owned(), |text, (place, here)| text.replace(place, here));
        for (file, content) in &mut files {
            if let Ok(text) = std::str::from_utf8(content) {
                *content = placed(text).into_bytes();
            }
            fs::write(file, content).expect("the folder can be written");
        }

        let arguments: Vec<String> = list(&container["args"])
            .map(|argument| placed(text(argument)).replace("$(POD_NAME)", &format!("{name}-0")))
            .collect();
        let bootstrap = arguments.iter().find(|argument| argument.ends_with(".yaml")).expect("it is given a bootstrap");
        let admin = admin_address(&fs::read_to_string(bootstrap).expect("it is mounted"));
        let probe = &container["readinessProbe"]["httpGet"];
        let port =
            list(&container["ports"]).find(|port| port["name"] == probe["port"]).expect("a probe's port is there");
        let port = u16::try_from(port["containerPort"].as_u64().expect("a number")).expect("a port");
        let readiness = network.lead_in(([127, 0, 0, 1], port).into()).await;
        let envoy = Envoy::start_in(network, Version::Latest, &arguments, folder, admin).await;
        Self { envoy, readiness: (readiness, text(&probe["path"]).to_owned()) }
    }

    /// Waits until its readiness probe succeeds.
    pub async fn ready(&self) {
        until("the pod to be ready", async || {
            let (address, path) = &self.readiness;
            match client::get(*address, path).try_send().await? {
                ready if ready.status == 200 => Ok(()),
                other => Err(format!("{} {}", other.status, other.text())),
            }
        })
        .await;
    }
}

/// The port of a Service's pods that connections to this port of the Service lead to, once there is such a Service
/// (`NAMESPACE/NAME`): what kube-proxy looks up.
///
/// # Panics
/// When the Service has no such port, or its pods' port is a name.
pub async fn target_port(cluster: &Cluster, service: &str, port: u16) -> u16 {
    let (namespace, name) = service.split_once('/').expect("NAMESPACE/NAME");
    let service = object(cluster, "service", namespace, name).await;
    let found = list(&service["spec"]["ports"]).find(|one| one["port"] == port);
    let target = found.unwrap_or_else(|| panic!("no port {port}: {service}"))["targetPort"].as_u64();
    u16::try_from(target.expect("a number")).expect("a port")
}

/// An object, once it is there.
async fn object(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> Value {
    until(&format!("{kind} {namespace}/{name}"), async || {
        let printed = cluster.kubectl(&["get", kind, name, "--namespace", namespace, "--output", "json"]).await;
        if !printed.success {
            return Err(printed.stderr);
        }
        serde_json::from_str(&printed.stdout).map_err(|error| error.to_string())
    })
    .await
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn map(value: &Value) -> impl Iterator<Item = (String, Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
